//! The command line: options, many runs, one line of JSON.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the result and the usage")]

use std::process::ExitCode;

use crate::phases::{self, LATENCIES, PHASES, VALUES};
use crate::sys::{fail, pipe, read, reap};

pub(crate) fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!(
            "usage: floor [--runs N] [--consumers N] [--pidns] [--rootless]\n       \
             floor [--runs N] [--consumers N] --processes"
        );
        return ExitCode::from(2);
    };
    let [results, sink] = pipe();
    let mut samples = vec![Vec::new(); VALUES + 1];
    for _ in 0..options.runs {
        let child = sys!(fork());
        if child == 0 {
            phases::run(&options, sink);
        }
        match reap(child) {
            0 => {}
            1 => return ExitCode::FAILURE, // the run has named the step
            status => fail("a run", format_args!("ended with status {status}")),
        }
        let mut nanos = [0u64; VALUES + 1];
        read(results, &mut nanos);
        // The end of a node's process 1, and of all that it contains, belongs to the teardown.
        let laps = &nanos[..PHASES.len()];
        nanos[PHASES.len() - 1] += nanos[VALUES] - laps.iter().sum::<u64>();
        std::iter::zip(&mut samples, nanos).for_each(|(samples, nanos)| samples.push(nanos));
    }
    samples.iter_mut().for_each(|samples| samples.sort_unstable());
    print(&options, &samples);
    ExitCode::SUCCESS
}

/// Prints the result as one line of JSON; the samples are sorted, the totals last.
fn print(options: &Options, samples: &[Vec<u64>]) {
    let micros = |samples: &[u64], percent: usize| {
        samples[(samples.len() * percent).div_ceil(100).max(1) - 1] as f64 / 1000.0
    };
    let medians = |names: &[&str], samples: &[Vec<u64>]| {
        let each = std::iter::zip(names, samples)
            .map(|(name, samples)| format!("\"{name}\":{:.1}", micros(samples, 50)));
        each.collect::<Vec<_>>().join(",")
    };
    let runs = options.runs;
    let [median, p99, min] = [50, 99, 0].map(|percent| micros(&samples[VALUES], percent));
    let (laps, latencies) = samples.split_at(PHASES.len());
    let phases = medians(&PHASES, laps);
    let latencies = match options.processes {
        true => format!(",\"latency_median_us\":{{{}}}", medians(&LATENCIES, latencies)),
        false => String::new(),
    };
    println!(
        "{{\"runs\":{runs},\"median_us\":{median:.1},\"p99_us\":{p99:.1},\"min_us\":{min:.1},\
         \"per_phase_median_us\":{{{phases}}}{latencies}}}"
    );
}

/// What is to be run.
pub(crate) struct Options {
    /// How often.
    pub(crate) runs: usize,
    /// How many late consumers.
    pub(crate) consumers: usize,
    /// Whether the node has a pid namespace.
    pub(crate) pidns: bool,
    /// Whether an ordinary user runs it, in a user namespace.
    pub(crate) rootless: bool,
    /// Whether it makes the tool's namespaces and processes.
    pub(crate) processes: bool,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut options =
            Self { runs: 1, consumers: 1, pidns: false, rootless: false, processes: false };
        while let Some(argument) = arguments.next() {
            let mut count = || arguments.next()?.parse().ok().filter(|&count| count > 0);
            match argument.as_str() {
                "--runs" => options.runs = count()?,
                "--consumers" => options.consumers = count()?,
                "--pidns" => options.pidns = true,
                "--rootless" => options.rootless = true,
                "--processes" => options.processes = true,
                _ => return None,
            }
        }
        // Without root there is no user 1000 in the node.
        (!(options.processes && options.rootless)).then_some(options)
    }
}
