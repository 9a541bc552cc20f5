//! The parts of a run's time.

use propagation_model::report::time::WaitedOn;
use propagation_model::report::{ByItself, CheckId, Report, Status};

use crate::words::duration;

/// The time from the start of a run to its verdict, split by what it was spent on, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeSplit {
    /// Waited for the kubelet.
    pub kubelet_ms: f64,
    /// Waiting for the container runtime only.
    pub runtime_ms: f64,
    /// The rest: this program, what it asks and what it looks at.
    pub own_ms: f64,
}

impl TimeSplit {
    /// The split of a report; none when nobody else was waited for. A moment counts once, however
    /// many workloads are waited for in it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), propagation_core::Error> {
    /// use propagation_core::{fake::FakeBackend, Plan, Runner};
    /// use propagation_report::time::TimeSplit;
    ///
    /// let report = Runner::new(Plan::default())?.run(&FakeBackend::default()).await?;
    /// assert_eq!(TimeSplit::of(&report), None, "nothing but this program was at work");
    /// # Ok(()) }
    /// ```
    pub fn of(report: &Report) -> Option<Self> {
        let waits = &report.measurements.waits;
        if waits.is_empty() {
            return None;
        }
        let end = report.duration_ms * 1e3;
        let mut moments: Vec<u64> =
            waits.iter().flat_map(|wait| [wait.started_us, wait.ended_us]).collect();
        moments.sort_unstable();
        moments.dedup();
        let (mut kubelet, mut runtime) = (0.0, 0.0);
        for pair in moments.windows(2) {
            let (from, until) = (pair[0], pair[1]);
            let under_way =
                || waits.iter().filter(|wait| wait.started_us <= from && wait.ended_us >= until);
            let length = (until as f64).min(end) - (from as f64).min(end);
            if under_way().any(|wait| wait.on == WaitedOn::Kubelet) {
                kubelet += length;
            } else if under_way().next().is_some() {
                runtime += length;
            }
        }
        let (kubelet_ms, runtime_ms) = (kubelet / 1e3, runtime / 1e3);
        Some(Self { kubelet_ms, runtime_ms, own_ms: report.duration_ms - kubelet_ms - runtime_ms })
    }
}

/// What was measured of a report but for the first sight of the mount, each in words and in
/// milliseconds.
pub(crate) fn measured(report: &Report) -> Vec<(&'static str, f64)> {
    let measured = &report.measurements;
    let split = TimeSplit::of(report);
    // The mount of a client outlives its server.
    let fresh = match report.plan.served_by() {
        Some(_) => "ready again to the last consumer's fresh read",
        None => "new mount to the last consumer's fresh read",
    };
    let times = [
        (notice(report), measured.fault_to_breakage_ms),
        (fresh, measured.remount_to_fresh_read_ms),
        ("restart to the last consumer's fresh read", measured.restart_to_recovery_ms),
        ("intervention to the last consumer's fresh read", measured.intervention_to_fresh_read_ms),
        ("fault to the restart, in which this program looked", measured.fault_to_restart_ms),
        (
            "waited in vain by this program, in all",
            Some(measured.waited_in_vain_ms).filter(|ms| *ms > 0.0),
        ),
        ("waited for the kubelet until the verdict", split.map(|split| split.kubelet_ms)),
        ("waited for the container runtime", split.map(|split| split.runtime_ms)),
        ("everything else until the verdict", split.map(|split| split.own_ms)),
    ];
    times.into_iter().filter_map(|(what, time)| Some((what, time?))).collect()
}

/// What the time to the last consumer's notice is called: where accesses hang, it is how long their programs wait.
fn notice(report: &Report) -> &'static str {
    let mut checks = report.phases.iter().flat_map(|phase| &phase.checks);
    match checks.any(|check| check.id == CheckId::NoHang && check.status == Status::Failed) {
        true => "fault until the last consumer gave up an access",
        false => "fault to the last consumer's notice",
    }
}

/// What the consumers did without any intervention, when they did not come back.
pub(crate) fn never(report: &Report) -> Option<String> {
    match report.measurements.by_itself? {
        ByItself::Never { waited_ms } => {
            Some(format!("never; waited in vain: {}", duration(waited_ms)))
        }
        ByItself::After { .. } => None,
    }
}

/// The label of [`never`].
pub(crate) const BY_THEMSELVES: &str = "consumers read again by themselves";

#[cfg(test)]
mod tests {
    use propagation_model::report::time::Wait;

    use super::*;

    fn wait(on: WaitedOn, started_us: u64, ended_us: u64) -> Wait {
        Wait { on, subject: "early".into(), started_us, ended_us }
    }

    #[test]
    fn a_moment_counts_once_and_the_kubelet_before_the_runtime() {
        let json = include_bytes!("fixtures/full_success.json");
        let mut report = Report::from_json(json).expect("a report of this schema");
        report.duration_ms = 10.0;
        assert_eq!(TimeSplit::of(&report), None);
        report.measurements.waits = vec![
            wait(WaitedOn::Kubelet, 1_000, 4_000),
            wait(WaitedOn::Runtime, 4_000, 5_000),
            wait(WaitedOn::Kubelet, 2_000, 4_500),
            // It goes on after the verdict.
            wait(WaitedOn::Runtime, 9_000, 20_000),
        ];
        let split = TimeSplit { kubelet_ms: 3.5, runtime_ms: 1.5, own_ms: 5.0 };
        assert_eq!(TimeSplit::of(&report), Some(split));
        let words: Vec<_> = measured(&report).into_iter().map(|(_, ms)| ms).collect();
        assert!(words.ends_with(&[3.5, 1.5, 5.0]), "{words:?}");
    }

    #[test]
    fn what_this_program_waited_is_no_time_of_a_recovery() {
        let report = crate::tests::report("stopped_daemon");
        let times = measured(&report);
        let of = |words: &str| times.iter().find(|(what, _)| what.contains(words)).map(|one| one.1);
        let recovery = of("restart to the last consumer's fresh read").expect("a recovery");
        let waited = of("fault to the restart").expect("the time before it");
        assert!(recovery < 100.0 && waited > 9_000.0, "{times:?}");
        assert!(of("gave up an access").is_some() && of("notice").is_none(), "{times:?}");
    }
}
