//! Who operates a run, as it stands in the run's record: the machine and the process.

use propagation_core::client::operator::{runs_still as process_runs, this_process};

/// This program.
pub(crate) fn this_program() -> String {
    format!("{}/{}", host_name(), this_process())
}

/// Whether the program of a record still runs, as far as can be told from here.
pub(crate) fn runs_still(operator: &str) -> bool {
    // Of another machine it cannot be told.
    operator
        .rsplit_once('/')
        .is_some_and(|(host, process)| host != host_name() || process_runs(process))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    name.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{runs_still, this_program};

    #[test]
    fn this_program_runs_and_what_is_no_record_does_not() {
        assert!(runs_still(&this_program()));
        assert!(runs_still("another-host/1:1"), "it cannot be told from here");
        assert!(!runs_still("nonsense"));
    }
}
