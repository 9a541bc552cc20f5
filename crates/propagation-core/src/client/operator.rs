//! Who operates a run: the process that has started it, known by its id and its start, because an id
//! alone may be another's later. Read from proc(5); where there is none it cannot be told.

use std::fs;

/// This process, as what it starts can be told of it.
pub fn this_process() -> String {
    let pid = std::process::id();
    format!("{pid}:{}", start_time(pid).map(|ticks| ticks.to_string()).unwrap_or_default())
}

/// Whether the process that was told of as [`this_process`] runs, here or in a pid namespace below,
/// where it has another id and the same start. One of which the start is not known is taken to run.
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

/// Whether a process has this id in the pid namespace that it is in (proc(5), NSpid of status), and
/// started then.
fn is_called_below(pid: u32, below: u32, started: u64) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let last = ids.split_whitespace().skip(1).last().and_then(|id| id.parse().ok());
    last == Some(below) && start_time(pid) == Some(started)
}

/// The processes that can be seen.
fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
}

/// When a process started, in clock ticks since boot: field 22 of proc(5)'s stat. None for one that
/// has ended, reaped or not.
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
