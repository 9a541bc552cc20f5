//! Counts operations and their times.

use std::io;

use hdrhistogram::Histogram;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};
use propagation_protocol::measure::{Latencies, Measured};

use crate::failure::errno_name;
use crate::mounts::errno_of;
use crate::sys::now_ns;

/// The longest latency that is told apart from longer ones: ten minutes.
const LONGEST_NS: u64 = 600_000_000_000;

/// An account of one piece of work.
#[derive(Debug)]
pub(super) struct Meter {
    began_ns: u64,
    /// None where no memory can be had for it.
    latencies: Option<Histogram<u64>>,
    pub(super) measured: Measured,
}

impl Meter {
    pub(super) fn begin() -> Self {
        let latencies = Histogram::new_with_bounds(1, LONGEST_NS, 2).ok();
        Self { began_ns: now_ns(), latencies, measured: Measured::default() }
    }

    /// How long the work has been going on.
    pub(super) fn elapsed_ns(&self) -> u64 {
        now_ns().saturating_sub(self.began_ns)
    }

    /// Does an operation that moves as many bytes as it returns; `None` when it failed.
    pub(super) fn operation(&mut self, operation: impl FnOnce() -> io::Result<u64>) -> Option<u64> {
        let before = now_ns();
        let result = operation();
        let took_ns = now_ns().saturating_sub(before);
        match result {
            Ok(bytes) => {
                self.measured.operations += 1;
                self.measured.bytes += bytes;
                if let Some(latencies) = &mut self.latencies {
                    latencies.saturating_record(took_ns.max(1));
                }
                Some(bytes)
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    /// Counts a failure, also one outside an operation.
    pub(super) fn failed(&mut self, error: &io::Error) {
        *self.measured.failed.entry(errno_name(errno_of(error))).or_default() += 1;
    }

    /// The first byte is here.
    pub(super) fn first_byte(&mut self) {
        if self.measured.first_byte_ns == 0 {
            self.measured.first_byte_ns = self.elapsed_ns();
        }
    }

    pub(super) fn finish(mut self) -> Measured {
        self.measured.elapsed_ns = self.elapsed_ns();
        self.measured.latencies = self.latencies.as_ref().map(pairs).unwrap_or_default();
        self.measured
    }
}

fn pairs(histogram: &Histogram<u64>) -> Latencies {
    let recorded = histogram.iter_recorded();
    recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
}

/// Lets time pass until a moment of the monotonic clock.
pub(super) fn pause_until(at_ns: u64) {
    let part = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let at =
        nix::sys::time::TimeSpec::new(part(at_ns / 1_000_000_000), part(at_ns % 1_000_000_000));
    // Woken early by a signal, whoever keeps a pace is early once.
    let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &at);
}
