//! The operator of a run: the process that started it, identified by its PID and its start time, because PIDs are
//! reused. Read from proc(5); without procfs the start time is unknown.

use std::fs;

/// Identifies this process for the processes that it starts, as `PID:START`.
pub fn this_process() -> String {
    let pid = std::process::id();
    format!("{pid}:{}", start_time(pid).map(|ticks| ticks.to_string()).unwrap_or_default())
}

/// Whether the process that [`this_process`] identified still runs, in this PID namespace or in one
/// below, where it has another PID and the same start time. A process whose start time is unknown
/// counts as running.
///
/// ```
/// use propagation_core::client::operator::{runs_still, this_process};
///
/// assert!(runs_still(&this_process()));
/// assert!(!runs_still("nonsense"));
/// ```
pub fn runs_still(process: &str) -> bool {
    let Some((pid, started)) = process.split_once(':') else { return false };
    let Ok(pid) = pid.parse() else { return false };
    if started.is_empty() {
        return true;
    }
    let Ok(started) = started.parse() else { return false };
    start_time(pid) == Some(started) || processes().any(|id| is_called_below(id, pid, started))
}

/// Whether a process has this PID in its own PID namespace (proc(5), NSpid of status) and this start
/// time.
fn is_called_below(pid: u32, below: u32, started: u64) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let last = ids.split_whitespace().skip(1).last().and_then(|id| id.parse().ok());
    last == Some(below) && start_time(pid) == Some(started)
}

/// PIDs of the visible processes.
fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
}

/// Start time of a process in clock ticks since boot: field 22 of proc(5)'s stat. None for one that has
/// ended, reaped or not.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::{runs_still, this_process};

    #[test]
    fn this_process_runs_and_another_start_of_its_id_does_not() {
        assert!(runs_still(&this_process()));
        let pid = std::process::id();
        assert!(runs_still(&format!("{pid}:")), "it cannot be told");
        #[cfg(target_os = "linux")]
        assert!(!runs_still(&format!("{pid}:1")));
        assert!(!runs_still("nonsense"));
    }
}
