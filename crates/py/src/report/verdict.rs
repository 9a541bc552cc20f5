//! The verdict of a run, and the numbers behind it.

use propagation_core::report as core;
use propagation_report::Decision;
use pyo3::prelude::*;

/// The outcome of a run.
#[pyclass(frozen, get_all, eq, module = "propagation")]
#[derive(PartialEq)]
pub(crate) struct Verdict {
    /// Of the five phases `full_success`, `partial_success`, `fundamental_failure` or `inconclusive`; of
    /// other steps `as_expected`, `otherwise`, `skipped` or `inconclusive`.
    outcome: &'static str,
    /// One sentence.
    summary: String,
}

impl From<&core::Report> for Verdict {
    fn from(report: &core::Report) -> Self {
        let verdict = &report.verdict;
        Self { outcome: verdict.outcome().as_str(), summary: verdict.summary().to_owned() }
    }
}

#[pymethods]
impl Verdict {
    fn __repr__(&self) -> String {
        format!("<Verdict {}: {}>", self.outcome, self.summary)
    }
}

/// The answer of the five phases, with the next steps.
#[pyclass(frozen, get_all, eq, module = "propagation")]
#[derive(PartialEq)]
pub(crate) struct Answer {
    /// `full_success`, `partial_success`, `fundamental_failure` or `inconclusive`.
    outcome: &'static str,
    /// One sentence, which quotes the first cause.
    summary: String,
    /// What to do next, in order.
    next_steps: Vec<String>,
    /// The decision that follows from it.
    decision: String,
    /// `A`, `B` or `C`, as the test plan names the answers; none when inconclusive.
    scenario_letter: Option<char>,
    /// Duration of the migration, according to the test plan.
    migration_timeline: &'static str,
    /// The liveness probe to add to consumers, as YAML, if one helps.
    liveness_probe: Option<String>,
}

impl Answer {
    /// The answer of a report; none for a scenario.
    pub(super) fn of(report: &core::Report) -> Option<Self> {
        let answer = report.verdict.answer()?;
        let decision = Decision::of(report)?;
        Some(Self {
            outcome: answer.outcome.as_str(),
            summary: answer.summary.clone(),
            next_steps: decision.next_steps,
            decision: decision.decision,
            scenario_letter: decision.letter,
            migration_timeline: decision.migration_timeline,
            liveness_probe: decision.liveness_probe,
        })
    }
}

#[pymethods]
impl Answer {
    fn __repr__(&self) -> String {
        format!("<Answer {}: {}>", self.outcome, self.summary)
    }
}

/// Recovery without any intervention: milliseconds, or `never`.
#[derive(Clone, Copy, PartialEq, IntoPyObject, IntoPyObjectRef)]
enum ByItself {
    After(f64),
    Never(&'static str),
}

impl From<core::ByItself> for ByItself {
    fn from(by_itself: core::ByItself) -> Self {
        match by_itself {
            core::ByItself::After { ms } => Self::After(ms),
            core::ByItself::Never { .. } => Self::Never("never"),
        }
    }
}

/// The measurements, in milliseconds; None if not measured.
#[pyclass(frozen, get_all, eq, module = "propagation")]
#[derive(PartialEq)]
pub(crate) struct Measurements {
    /// From the producer's mount to each early consumer's own first read of the marker.
    mount_to_visible_ms: Vec<f64>,
    /// From the fault to the last consumer's notice of it.
    fault_to_breakage_ms: Option<f64>,
    /// From the new mount until every consumer read the new generation without any intervention, or `never`; None where
    /// the run did not come to that.
    by_itself: Option<ByItself>,
    /// From the fault until the run restarted the producer: it looked and waited in that time.
    fault_to_restart_ms: Option<f64>,
    /// From the producer's restart until every consumer read the new generation by itself.
    restart_to_recovery_ms: Option<f64>,
    /// From the new mount until every consumer read the new generation by itself.
    remount_to_fresh_read_ms: Option<f64>,
    /// The smallest intervention that brought every consumer back; `wait` when they came back by
    /// themselves.
    smallest_intervention: Option<&'static str>,
    /// From the beginning of that intervention until every consumer read the new generation.
    intervention_to_fresh_read_ms: Option<f64>,
    /// Time that the run waited for accesses that hang and for repairs that did not help.
    waited_in_vain_ms: f64,
    /// Time that the run waited for the kubelet until the verdict; None on a backend without a kubelet.
    waited_for_kubelet_ms: Option<f64>,
    /// Milliseconds that it waited for the container runtime only.
    waited_for_runtime_ms: Option<f64>,
}

impl Measurements {
    /// The measurements of a report.
    pub(super) fn of(report: &core::Report) -> Self {
        let measured = &report.measurements;
        let split = propagation_report::time::TimeSplit::of(report);
        Self {
            mount_to_visible_ms: measured.mount_to_visible_ms.clone(),
            fault_to_breakage_ms: measured.fault_to_breakage_ms,
            by_itself: measured.by_itself.map(ByItself::from),
            fault_to_restart_ms: measured.fault_to_restart_ms,
            restart_to_recovery_ms: measured.restart_to_recovery_ms,
            remount_to_fresh_read_ms: measured.remount_to_fresh_read_ms,
            smallest_intervention: measured.smallest_intervention.map(|repair| repair.name()),
            intervention_to_fresh_read_ms: measured.intervention_to_fresh_read_ms,
            waited_in_vain_ms: measured.waited_in_vain_ms,
            waited_for_kubelet_ms: split.map(|split| split.kubelet_ms),
            waited_for_runtime_ms: split.map(|split| split.runtime_ms),
        }
    }
}

#[pymethods]
impl Measurements {
    fn __repr__(&self) -> String {
        let mut words = vec![format!("{} mounts seen", self.mount_to_visible_ms.len())];
        let times = [
            ("fault to breakage", self.fault_to_breakage_ms),
            ("restart to recovery", self.restart_to_recovery_ms),
            ("intervention to fresh read", self.intervention_to_fresh_read_ms),
        ];
        let known = times.into_iter().filter_map(|(name, time)| Some((name, time?)));
        words.extend(known.map(|(name, ms)| format!("{name} {ms:.1} ms")));
        if let Some(ByItself::Never(never)) = self.by_itself {
            words.push(format!("by itself {never}"));
        }
        words
            .extend(self.smallest_intervention.map(|word| format!("smallest intervention {word}")));
        format!("<Measurements {}>", words.join(", "))
    }
}

/// The numbers of met and unmet expectations of a scenario.
#[pyclass(frozen, get_all, eq, module = "propagation")]
#[derive(PartialEq)]
pub(crate) struct Expectations {
    /// As expected.
    met: u64,
    /// Expectations that were not met, and steps that failed unexpectedly.
    unmet: u64,
    /// Not looked at, with a reason in the report.
    skipped: u64,
}

impl Expectations {
    /// The numbers of a report.
    pub(super) fn of(report: &core::Report) -> Self {
        let propagation_core::Expectations { met, unmet, skipped, .. } = report.expectations();
        Self { met, unmet, skipped }
    }
}

#[pymethods]
impl Expectations {
    fn __repr__(&self) -> String {
        format!("<Expectations {} met, {} unmet, {} skipped>", self.met, self.unmet, self.skipped)
    }
}
