//! Who operates a run: the program that has started it, as it stands in the run's record.

/// This program, as it stands in the records of its runs: host name, process id and when it started.
pub(crate) fn this_program() -> String {
    let pid = std::process::id().to_string();
    format!("{}/{pid}/{}", host_name(), started(&pid).unwrap_or_default())
}

/// Whether the program of a record still runs, as far as can be told from here.
pub(crate) fn runs_still(operator: &str) -> bool {
    let mut parts = operator.rsplitn(3, '/');
    let (Some(start), Some(pid), Some(host)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    // Of another machine, or where there is no /proc, it cannot be told.
    host != host_name() || start.is_empty() || started(pid).as_deref() == Some(start)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    name.trim().to_owned()
}

/// When a process started, in clock ticks since boot (proc(5), field 22 of stat): its id alone may be
/// another's by now.
fn started(pid: &str) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_the_name) = stat.rsplit_once(") ")?;
    after_the_name.split(' ').nth(19).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{runs_still, this_program};

    #[test]
    fn this_program_runs_and_another_start_of_its_id_does_not() {
        let this = this_program();
        assert!(runs_still(&this));
        let (before, start) = this.rsplit_once('/').expect("a start time");
        assert!(start.is_empty() || !runs_still(&format!("{before}/1")));
        assert!(runs_still("another-host/1/1"), "it cannot be told from here");
        assert!(!runs_still("nonsense"));
    }
}
