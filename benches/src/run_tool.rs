//! Running `propagation run` as a user does, and reading from its log when what happened.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime};

use jiff::Timestamp;

/// One run of the tool, in milliseconds from just before its process was started.
#[derive(Debug, Clone)]
pub struct ToolRun {
    /// The verdict was decided, by the time stamp of its line in the log.
    pub decided_ms: f64,
    /// The first byte of the result arrived from its standard output.
    pub printed_ms: f64,
    /// The process had ended.
    pub ended_ms: f64,
    /// What it did one after the other and how long each took, by the time stamps of the log.
    pub stages: Vec<(String, f64)>,
    /// The result as it was printed.
    pub printed: String,
}

impl ToolRun {
    /// What the result says was measured under this name.
    pub fn measured(&self, name: &str) -> Option<f64> {
        let rest = self.printed.lines().find_map(|line| line.trim().strip_prefix(name))?;
        rest.strip_prefix(": ")?.strip_suffix(" ms")?.parse().ok()
    }
}

/// The program `propagation` beside another program of the same build, or the one that the
/// variable `PROPAGATION_BINARY` names.
///
/// # Errors
/// When it has not been built.
pub fn find(neighbour: &Path) -> io::Result<PathBuf> {
    let named = std::env::var_os("PROPAGATION_BINARY").map(PathBuf::from);
    let path = named.unwrap_or_else(|| neighbour.with_file_name("propagation"));
    if path.is_file() {
        return Ok(path);
    }
    let words = "not built: cargo build --release --package propagation-cli";
    Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is {words}", path.display())))
}

/// Runs the tool with further arguments; its log goes into `scratch`, an empty directory.
///
/// # Errors
/// When it cannot be run, does not end with `full_success`, or wrote no log.
pub fn run<S: AsRef<OsStr>>(tool: &Path, scratch: &Path, arguments: &[S]) -> io::Result<ToolRun> {
    let mut command = Command::new(tool);
    command.args(["run", "--format", "text", "--log-dir"]).arg(scratch).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let (started, wall) = (Instant::now(), SystemTime::now());
    let mut child = command.spawn()?;
    let mut output = vec![0];
    let mut stdout = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
    stdout.read_exact(&mut output)?;
    let printed = started.elapsed();
    stdout.read_to_end(&mut output)?;
    let status = child.wait()?;
    let ended = started.elapsed();
    if !status.success() {
        let text = String::from_utf8_lossy(&output);
        return Err(io::Error::other(format!("the tool ended with {status}:\n{text}")));
    }
    let log = take_log(scratch)?;
    let started = Timestamp::try_from(wall).map_err(io::Error::other)?;
    let moments = moments(&log, started);
    let decided = moments.iter().find(|(name, _)| name == "verdict").map(|(_, at_ms)| *at_ms);
    let decided_ms = decided.ok_or_else(|| io::Error::other("no verdict in the log"))?;
    let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let (printed_ms, ended_ms) = (milliseconds(printed), milliseconds(ended));
    let printed = String::from_utf8_lossy(&output).into_owned();
    Ok(ToolRun { decided_ms, printed_ms, ended_ms, stages: stages(moments, ended_ms), printed })
}

/// Reads the one log in the directory, and removes it.
fn take_log(scratch: &Path) -> io::Result<String> {
    let entry = fs::read_dir(scratch)?.next();
    let path = entry.ok_or_else(|| io::Error::other("the tool wrote no log"))??.path();
    let log = fs::read_to_string(&path)?;
    fs::remove_file(path)?;
    Ok(log)
}

/// What ended when: the name of each stage and when it was over.
fn moments(log: &str, started: Timestamp) -> Vec<(String, f64)> {
    let mut moments: Vec<(String, f64)> = Vec::new();
    for line in log.lines() {
        let Some((stamp, text)) = line.split_once(' ') else { continue };
        let Ok(stamp) = stamp.parse::<Timestamp>() else { continue };
        let at_ms = stamp.duration_since(started).as_secs_f64() * 1e3;
        let name = if text.starts_with("propagation ") {
            "program starts"
        } else if text.ends_with(" is ready") {
            "node is made"
        } else if let Some((phase, "passed")) =
            text.strip_prefix("phase ").and_then(|rest| rest.split_once(' '))
        {
            phase
        } else if text.starts_with("verdict ") {
            "verdict"
        } else if text.starts_with("cleanup: ") {
            "clean-up"
        } else {
            continue;
        };
        // Of several lines of one stage the last one counts.
        match moments.last_mut() {
            Some(last) if last.0 == name => last.1 = at_ms,
            _ => moments.push((name.to_owned(), at_ms)),
        }
    }
    moments
}

fn stages(moments: Vec<(String, f64)>, ended_ms: f64) -> Vec<(String, f64)> {
    let ends = moments.into_iter().chain([("result, exit".to_owned(), ended_ms)]);
    let mut before = 0.0;
    ends.map(|(name, at_ms)| (name, at_ms - std::mem::replace(&mut before, at_ms))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_what_took_how_long() {
        let log = "2026-11-23T05:30:12.002000Z propagation 0.1.0 run x\n\
                   2026-11-23T05:30:12.005000Z local node local is ready\n\
                   2026-11-23T05:30:12.005100Z phase consumer started\n\
                   2026-11-23T05:30:12.005200Z saw phase x passed\n\
                   2026-11-23T05:30:12.009000Z phase consumer passed\n\
                   2026-11-23T05:30:12.009500Z verdict full_success: it works\n\
                   2026-11-23T05:30:12.010000Z cleanup: undid one\n\
                   2026-11-23T05:30:12.011500Z cleanup: undid the other\n";
        let started = "2026-11-23T05:30:12Z".parse().expect("a time");
        let stages = stages(moments(log, started), 12.0);
        let rounded: Vec<(&str, i64)> =
            stages.iter().map(|(name, ms)| (name.as_str(), (ms * 10.0).round() as i64)).collect();
        let expected = [
            ("program starts", 20),
            ("node is made", 30),
            ("consumer", 40),
            ("verdict", 5),
            ("clean-up", 20),
            ("result, exit", 5),
        ];
        assert_eq!(rounded, expected);
    }
}
