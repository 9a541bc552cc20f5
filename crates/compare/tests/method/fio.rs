//! The same reads of the same file by this project's measuring and by fio, in turn.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use propagation_core::protocol::measure::{MEDIA_FILE, Measured, Task, Work};

pub(crate) type Failed = Box<dyn Error + Send + Sync>;

/// Size of the file.
const BYTES: u64 = 256 << 20;

/// Reads to compare.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reads {
    Sequential,
    Random,
}

impl Reads {
    pub(crate) const ALL: [Self; 2] = [Self::Sequential, Self::Random];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential, 128 KiB",
            Self::Random => "random, 64 KiB",
        }
    }

    fn work(self) -> Work {
        match self {
            Self::Sequential => Work::Sequential { bytes: BYTES },
            Self::Random => Work::Seek { operations: BYTES / 65_536, seed: 7 },
        }
    }

    fn of_fio(self) -> &'static [&'static str] {
        match self {
            Self::Sequential => &["--rw=read", "--bs=128k"],
            Self::Random => &["--rw=randread", "--bs=64k", "--norandommap"],
        }
    }
}

/// What one program measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Bytes for each nanosecond.
    pub(crate) rate: f64,
    /// The median of single reads.
    median_ns: f64,
    /// Processor time for each byte, in nanoseconds.
    cost: f64,
}

impl Turn {
    /// Processor time as a share of one core.
    pub(crate) fn core(&self) -> f64 {
        self.cost * self.rate
    }
}

/// This project's figures beside fio's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Agreement {
    /// How many times as long the median read took.
    pub(crate) read: f64,
    /// How many times as many bytes were read for each second.
    pub(crate) rate: f64,
    /// How many times as much processor time each byte took.
    pub(crate) cost: f64,
}

/// The medians over turns of what both programs measured one after the other: what disturbs the machine for
/// longer than a turn disturbs both.
pub(crate) fn agreement(reads: Reads, turns: usize) -> Result<Agreement, Failed> {
    // In memory, so that no disk decides.
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let bytes = BYTES.to_string();
    let place = directory.path().display().to_string();
    agent(&["dataset", &place, "--entries", "1", "--bytes", &bytes])?;
    let mut pairs = Vec::new();
    for turn in 0..turns {
        pairs.push(if turn % 2 == 0 {
            let own = measured(&place, reads)?;
            (own, fio(directory.path(), reads)?)
        } else {
            let fio = fio(directory.path(), reads)?;
            (measured(&place, reads)?, fio)
        });
    }
    let middle = |of: fn(&(Turn, Turn)) -> f64| {
        let mut values: Vec<f64> = pairs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Ok(Agreement {
        read: middle(|(own, fio)| own.median_ns / fio.median_ns),
        rate: middle(|(own, fio)| own.rate / fio.rate),
        cost: middle(|(own, fio)| own.cost / fio.cost),
    })
}

fn agent(arguments: &[&str]) -> Result<Vec<u8>, Failed> {
    let output = propagation_agent_embed::command()?.args(arguments).output()?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}

fn measured(directory: &str, reads: Reads) -> Result<Turn, Failed> {
    let work = reads.work();
    let task = Task { directory: directory.into(), entries: 1, deadline_ms: 60_000, work };
    of_measuring(&agent(&["measure", &serde_json::to_string(&task)?])?)
}

/// What the measuring process printed.
pub(crate) fn of_measuring(printed: &[u8]) -> Result<Turn, Failed> {
    let measured: Measured = serde_json::from_slice(printed)?;
    let half = measured.operations.div_ceil(2);
    let mut seen = 0;
    let median = measured.latencies.iter().find(|(_, count)| {
        seen += count;
        seen >= half
    });
    let bytes = measured.bytes as f64;
    Ok(Turn {
        rate: bytes / measured.elapsed_ns as f64,
        median_ns: median.ok_or("nothing was read")?.0 as f64,
        cost: measured.used.cpu_ns as f64 / bytes,
    })
}

fn fio(directory: &Path, reads: Reads) -> Result<Turn, Failed> {
    let output = Command::new("fio")
        .args(["--name=reads", "--ioengine=psync", "--invalidate=0", "--readonly"])
        .args(["--output-format=json", "--thread"])
        .arg(format!("--filename={}", directory.join(MEDIA_FILE).display()))
        .arg(format!("--size={BYTES}"))
        .args(reads.of_fio())
        .output()?;
    of_fio(&output.stdout)
}

/// What fio printed.
pub(crate) fn of_fio(printed: &[u8]) -> Result<Turn, Failed> {
    let json: serde_json::Value = serde_json::from_slice(printed)?;
    let job = &json["jobs"][0];
    let number = |pointer: &str| {
        let found = job.pointer(pointer).and_then(serde_json::Value::as_f64);
        found.ok_or_else(|| Failed::from(format!("fio says no {pointer}: {job}")))
    };
    let elapsed_ns = number("/read/runtime")? * 1e6;
    let share = (number("/usr_cpu")? + number("/sys_cpu")?) / 100.0;
    let bytes = number("/read/io_bytes")?;
    Ok(Turn {
        rate: bytes / elapsed_ns,
        median_ns: number("/read/clat_ns/percentile/50.000000")?,
        cost: elapsed_ns * share / bytes,
    })
}
