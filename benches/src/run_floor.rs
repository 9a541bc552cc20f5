//! Running the floor.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

/// One run of the floor, in milliseconds.
#[derive(Debug, Clone)]
pub struct FloorRun {
    /// The whole process, from just before it was started until it had ended, without the teardown: the
    /// counterpart of what is measured of the tool.
    pub process_ms: f64,
    /// The five phases on its own clock, without the teardown.
    pub phases_ms: f64,
    /// All of it.
    pub whole_ms: f64,
    /// Medians of `--processes`: a consumer's own read after the mount, the kill, the new mount.
    pub latencies_ms: Option<[f64; 3]>,
}

/// Runs the program `floor` with arguments.
///
/// # Errors
/// When it cannot be run, or fails: it has named the step on standard error.
pub fn run(floor: &Path, arguments: &[&str]) -> io::Result<FloorRun> {
    let started = Instant::now();
    let output = Command::new(floor)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("the floor ended with {}", output.status)));
    }
    let process_ms = started.elapsed().as_secs_f64() * 1e3;
    parse(&output.stdout, process_ms)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the floor printed no result"))
}

fn parse(output: &[u8], process_ms: f64) -> Option<FloorRun> {
    let result: Value = serde_json::from_slice(output).ok()?;
    let milliseconds = |value: &Value| Some(value.as_f64()? / 1000.0);
    let whole_ms = milliseconds(&result["median_us"])?;
    let teardown_ms = milliseconds(&result["per_phase_median_us"]["teardown"])?;
    let latency = |name: &str| milliseconds(&result["latency_median_us"][name]);
    let latencies_ms = latency("mount_to_read")
        .zip(latency("kill_to_enotconn"))
        .zip(latency("remount_to_read"))
        .map(|((mount, kill), remount)| [mount, kill, remount]);
    let process_ms = process_ms - teardown_ms;
    Some(FloorRun { process_ms, phases_ms: whole_ms - teardown_ms, whole_ms, latencies_ms })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_teardown_is_told_apart() {
        let text = br#"{"runs":1,"median_us":750.0,"per_phase_median_us":{"teardown":250.0}}"#;
        let run = parse(text, 2.0).expect("a result");
        assert_eq!((run.process_ms, run.phases_ms, run.whole_ms), (1.75, 0.5, 0.75));
        assert!(run.latencies_ms.is_none());
        assert!(parse(b"{}", 2.0).is_none());
    }
}
