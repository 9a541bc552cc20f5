//! The operator of a run in its record: the machine and the process.

use std::time::Duration;

use propagation_core::client::operator::{runs_still as process_runs, this_process};

use crate::sign::LEASE;

/// This program.
pub(crate) fn this_program() -> String {
    format!("{}/{}", host_name(), this_process())
}

/// Whether the program of a record still runs: as the processes of this machine show, and on another by the
/// sign of life that it has given.
pub(crate) fn runs_still(operator: &str, silent: Option<Duration>) -> bool {
    operator.rsplit_once('/').is_some_and(|(host, process)| match host == host_name() {
        true => process_runs(process),
        false => silent.is_none_or(|silent| silent < LEASE),
    })
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    name.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{LEASE, runs_still, this_program};

    #[test]
    fn this_program_runs_and_what_is_no_record_does_not() {
        assert!(runs_still(&this_program(), None));
        assert!(runs_still("another-host/1:1", None), "it cannot be told from here");
        assert!(runs_still("another-host/1:1", Some(LEASE / 2)));
        assert!(!runs_still("another-host/1:1", Some(LEASE * 2)));
        assert!(!runs_still("nonsense", None));
    }
}
