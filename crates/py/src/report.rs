//! The report as Python sees it.

use std::collections::BTreeMap;

use propagation_core::diagnosis::{Cause as CauseData, FixKind};
use propagation_core::report as core;
use propagation_core::{Error, ErrorKind};
use propagation_report::text::{Colour, Detail, Style, render};
use propagation_report::{Decision, html, junit, markdown};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDateTime, PyTuple, PyType, PyTzInfo};

use crate::error::{OrRaise, invalid, to_plain};
use crate::observation::Observation;

/// One expectation, and what was found.
#[pyclass(frozen, get_all, eq, module = "propagation")]
#[derive(PartialEq)]
pub(crate) struct Check {
    /// Its stable name within its phase.
    id: String,
    /// `passed`, `failed`, `skipped` or `errored`.
    status: &'static str,
    /// What was expected, in words.
    expected: String,
    /// What was observed, in words.
    observed: String,
    /// What shows it: lines of mountinfo, errnos, log lines, latencies.
    evidence: Vec<String>,
}

impl From<&core::Check> for Check {
    fn from(check: &core::Check) -> Self {
        Self {
            id: check.id.to_string(),
            status: check.status.as_str(),
            expected: check.expected.clone(),
            observed: check.observed.clone(),
            evidence: check.evidence.clone(),
        }
    }
}

#[pymethods]
impl Check {
    fn __repr__(&self) -> String {
        format!("<Check {} {}: {}>", self.id, self.status, self.observed)
    }
}

/// One phase of a run.
#[pyclass(frozen, get_all, module = "propagation")]
pub(crate) struct PhaseReport {
    /// Its id: `host_setup`, `producer`, `consumer`, `stale_mount`, `recovery`, or that of a custom phase.
    id: String,
    /// `passed`, `failed`, `skipped` or `errored`.
    status: &'static str,
    /// When it began, in milliseconds since the start of the run.
    started_ms: f64,
    /// How long it took, in milliseconds.
    duration_ms: f64,
    /// The reason why it was skipped or errored.
    reason: Option<String>,
    /// Its checks, in order.
    checks: Py<PyTuple>,
}

impl PhaseReport {
    pub(crate) fn new(py: Python<'_>, phase: &core::PhaseReport) -> PyResult<Self> {
        let checks = phase.checks.iter().map(|check| Py::new(py, Check::from(check)));
        let checks = PyTuple::new(py, checks.collect::<PyResult<Vec<_>>>()?)?;
        Ok(Self {
            id: phase.id.clone(),
            status: phase.status.as_str(),
            started_ms: phase.started_ms,
            duration_ms: phase.duration_ms,
            reason: phase.reason.clone(),
            checks: checks.unbind(),
        })
    }
}

#[pymethods]
impl PhaseReport {
    /// The check with the id `id`; raises `KeyError` when it is unknown.
    fn check<'py>(&self, py: Python<'py>, id: &str) -> PyResult<Bound<'py, PyAny>> {
        for check in self.checks.bind(py) {
            if check.cast::<Check>()?.get().id == id {
                return Ok(check);
            }
        }
        Err(pyo3::exceptions::PyKeyError::new_err(id.to_owned()))
    }

    fn __repr__(&self) -> String {
        format!("<PhaseReport {} {} in {:.1} ms>", self.id, self.status, self.duration_ms)
    }
}

/// The fix of a cause.
#[pyclass(frozen, get_all, eq, module = "propagation")]
#[derive(Clone, PartialEq)]
pub(crate) struct Fix {
    /// What to do, and where.
    words: String,
    /// What `text` is: `command`, `yaml` or `none`.
    kind: &'static str,
    /// The command or the fragment of a manifest, ready to be copied; empty for `none`.
    text: String,
    /// The workload with the container to run the command in; None for the node.
    inside: Option<String>,
}

#[pymethods]
impl Fix {
    /// The command that does it; None if it is not a single command.
    #[getter]
    fn command(&self) -> Option<&str> {
        (self.kind == "command").then_some(self.text.as_str())
    }

    fn __repr__(&self) -> String {
        format!("<Fix {}>", self.words)
    }
}

/// One cause of what a run showed.
#[pyclass(frozen, get_all, eq, module = "propagation")]
#[derive(PartialEq)]
pub(crate) struct Cause {
    /// Its stable name, such as `volume-is-mountpoint`.
    id: String,
    /// What is wrong, in one line.
    title: String,
    /// Its certainty: `proven`, `likely` or `possible`.
    confidence: &'static str,
    /// The first phase or step after which an actor was wrong because of it.
    from_step: Option<String>,
    /// The phase or step after which every actor was right again; None when it lasts.
    until_step: Option<String>,
    /// The actors that it concerns.
    actors: Vec<String>,
    /// What shows it: lines of mountinfo, errnos, device numbers.
    evidence: Vec<String>,
    /// The smallest change that removes it.
    fix: Fix,
    /// A command that shows whether the fix has worked.
    verify: String,
    /// The documentation of the fact behind it.
    source: String,
}

impl From<&CauseData> for Cause {
    fn from(cause: &CauseData) -> Self {
        let kind = match cause.fix.kind {
            FixKind::Command => "command",
            FixKind::Yaml => "yaml",
            FixKind::None => "none",
        };
        let (words, text) = (cause.fix.words.clone(), cause.fix.text.clone());
        Self {
            id: cause.id.to_string(),
            title: cause.title.clone(),
            confidence: cause.confidence.as_str(),
            from_step: cause.from_step.clone(),
            until_step: cause.until_step.clone(),
            actors: cause.actors.iter().map(ToString::to_string).collect(),
            evidence: cause.evidence.clone(),
            fix: Fix { words, kind, text, inside: cause.fix.inside.clone() },
            verify: cause.verify.clone(),
            source: cause.source.clone(),
        }
    }
}

#[pymethods]
impl Cause {
    /// Whether every actor was right again at the end.
    #[getter]
    fn is_over(&self) -> bool {
        self.until_step.is_some()
    }

    fn __repr__(&self) -> String {
        format!("<Cause {} ({}): {}>", self.id, self.confidence, self.title)
    }
}

/// A single change, and its result.
#[pyclass(frozen, get_all, eq, module = "propagation")]
#[derive(Clone, PartialEq)]
pub(crate) struct Experiment {
    /// The change, as one word.
    what: String,
    /// The workloads that it touches; empty for the node.
    on: Vec<String>,
    /// The change as an order.
    words: String,
    /// A command, or a fragment of a manifest; empty if the words say everything.
    text: String,
    /// What it costs.
    cost: &'static str,
    /// Whether it is a change of the set-up, which stays; otherwise it is done once.
    for_good: bool,
    /// Whether it heals every actor; None when it was not tried.
    heals: Option<bool>,
    /// Actors that were wrong without it and are right with it.
    healed: Vec<String>,
    /// After how many milliseconds the last of them read again.
    after_ms: Option<f64>,
    /// Actors that were right without it and are wrong with it.
    worse: Vec<String>,
    /// What else is different.
    side_effects: Vec<String>,
    /// Whether adding what it removes to a set-up that works breaks that in the same way; None when that was not tried.
    breaks_again: Option<bool>,
    /// Its result, in words.
    outcome: String,
}

impl From<&core::Experiment> for Experiment {
    fn from(experiment: &core::Experiment) -> Self {
        let tried = experiment.tried();
        let names = |list: Option<&Vec<_>>| -> Vec<String> {
            list.into_iter()
                .flatten()
                .map(propagation_core::observation::Actor::to_string)
                .collect()
        };
        let what = serde_json::to_value(experiment.change.what).unwrap_or_default();
        let what = match &what {
            serde_json::Value::String(word) => word.clone(),
            other => other["repair"].as_str().unwrap_or_default().to_owned(),
        };
        Self {
            what,
            on: experiment.change.on.clone(),
            words: experiment.words.clone(),
            text: experiment.text.clone(),
            cost: experiment.cost.as_str(),
            for_good: experiment.for_good,
            heals: tried.map(|tried| tried.heals),
            healed: names(tried.map(|tried| &tried.healed)),
            after_ms: tried.and_then(|tried| tried.after).map(|after| after.ms),
            worse: names(tried.map(|tried| &tried.worse)),
            side_effects: tried
                .map(|tried| tried.side_effects.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            breaks_again: tried.and_then(|tried| tried.added).map(|added| added.breaks),
            outcome: experiment.outcome(),
        }
    }
}

#[pymethods]
impl Experiment {
    fn __repr__(&self) -> String {
        format!("<Experiment {}: {}>", self.words, self.outcome)
    }
}

/// The advice that follows from the experiments.
#[pyclass(frozen, get_all, eq, module = "propagation")]
#[derive(PartialEq)]
pub(crate) struct Advice {
    /// One change and what it does, in a sentence.
    head: String,
    /// Repairs that bring the mount back now, the cheapest first.
    now: Vec<Experiment>,
    /// Changes of the set-up with which it does not happen, the cheapest first.
    for_good: Vec<Experiment>,
    /// How many changes were tried.
    tried: u64,
    /// How many could not be tried.
    not_tried: u64,
    /// How long all experiments took, in milliseconds.
    took_ms: f64,
}

#[pymethods]
impl Advice {
    fn __repr__(&self) -> String {
        format!("<Advice {}>", self.head)
    }
}

/// One thing that was done in a run.
#[pyclass(frozen, get_all, eq, module = "propagation")]
#[derive(PartialEq)]
pub(crate) struct Act {
    /// What: `start`, `stop`, `restart`, `recreate`, or `fault: …`, `repair: …`, `run: …`.
    what: String,
    /// The phase or step in which it was done.
    step: String,
    /// When it began, in microseconds since the start of the run.
    from_us: u64,
    /// When it was over, in microseconds since the start of the run.
    until_us: u64,
    /// The workloads to which it was done; empty for the node.
    on: Vec<String>,
    /// What shows that it was done.
    proof: Vec<String>,
    /// The refusal of the kernel or the runtime, if it could not be done.
    refused: Option<String>,
}

impl From<&core::Act> for Act {
    fn from(act: &core::Act) -> Self {
        Self {
            what: act.deed.to_string(),
            step: act.step.clone(),
            from_us: act.from_us,
            until_us: act.until_us,
            on: act.on.clone(),
            proof: act.proof.clone(),
            refused: act.refused.clone(),
        }
    }
}

#[pymethods]
impl Act {
    fn __repr__(&self) -> String {
        format!("<Act {} at {:.1} ms>", self.what, self.from_us as f64 / 1e3)
    }
}

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
    decision: &'static str,
    /// `A`, `B` or `C`, as the test plan names the answers; none when inconclusive.
    scenario_letter: Option<char>,
    /// Duration of the migration, according to the test plan.
    migration_timeline: &'static str,
    /// The liveness probe to add to consumers, as YAML, if one helps.
    liveness_probe: Option<String>,
}

impl Answer {
    /// The answer of a report; none for a scenario.
    fn of(report: &core::Report) -> Option<Self> {
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
    /// From the fault until every consumer read the new generation without any intervention, or `never`; None where
    /// the run did not come to that.
    by_itself: Option<ByItself>,
    /// From the fault until every consumer read the new generation by itself.
    fault_to_recovery_ms: Option<f64>,
    /// From the new mount until every consumer read the new generation by itself.
    remount_to_fresh_read_ms: Option<f64>,
    /// The smallest intervention that brought every consumer back; `wait` when they came back by
    /// themselves.
    smallest_intervention: Option<&'static str>,
    /// From the beginning of that intervention until every consumer read the new generation.
    intervention_to_fresh_read_ms: Option<f64>,
    /// Time that the run waited for repairs that did not help.
    waited_in_vain_ms: f64,
    /// Time that the run waited for the kubelet until the verdict; None on a backend without a kubelet.
    waited_for_kubelet_ms: Option<f64>,
    /// Milliseconds that it waited for the container runtime only.
    waited_for_runtime_ms: Option<f64>,
}

#[pymethods]
impl Measurements {
    fn __repr__(&self) -> String {
        let mut words = vec![format!("{} mounts seen", self.mount_to_visible_ms.len())];
        let times = [
            ("fault to breakage", self.fault_to_breakage_ms),
            ("fault to recovery", self.fault_to_recovery_ms),
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

/// What the end of a run removed.
#[pyclass(frozen, get_all, eq, module = "propagation")]
#[derive(PartialEq)]
pub(crate) struct Cleanup {
    /// What was undone, in order.
    undone: Vec<String>,
    /// What could not be undone, each with how to do it by hand.
    could_not: Vec<String>,
    /// What was kept on request, with how to remove it.
    kept: Vec<String>,
    /// How long it took, in milliseconds.
    duration_ms: f64,
    /// The part of it spent waiting for the kubelet to end the pods; none where there is no kubelet.
    kubelet_ms: Option<f64>,
    /// The part of it spent waiting for the API server to remove the namespace.
    namespace_ms: Option<f64>,
}

impl From<&core::Cleanup> for Cleanup {
    fn from(cleanup: &core::Cleanup) -> Self {
        Self {
            undone: cleanup.undone.clone(),
            could_not: cleanup.could_not.clone(),
            kept: cleanup.kept.clone(),
            duration_ms: cleanup.duration_ms,
            kubelet_ms: cleanup.kubelet_ms,
            namespace_ms: cleanup.namespace_ms,
        }
    }
}

#[pymethods]
impl Cleanup {
    fn __repr__(&self) -> String {
        format!(
            "<Cleanup {} undone, {} could not be undone, {} kept>",
            self.undone.len(),
            self.could_not.len(),
            self.kept.len()
        )
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

#[pymethods]
impl Expectations {
    fn __repr__(&self) -> String {
        format!("<Expectations {} met, {} unmet, {} skipped>", self.met, self.unmet, self.skipped)
    }
}

/// The result of one run.
#[pyclass(frozen, module = "propagation")]
pub(crate) struct Report {
    report: core::Report,
    phases: PyOnceLock<Py<PyTuple>>,
    timeline: PyOnceLock<Py<PyTuple>>,
}

impl From<core::Report> for Report {
    fn from(report: core::Report) -> Self {
        Self { report, phases: PyOnceLock::new(), timeline: PyOnceLock::new() }
    }
}

#[pymethods]
impl Report {
    /// Reads a saved report, as text or bytes.
    ///
    /// Raises `InvalidInputError` when it is not a report, or has another schema version.
    #[staticmethod]
    fn from_json(py: Python<'_>, json: Text) -> PyResult<Self> {
        Ok(core::Report::from_json(json.bytes()).or_raise(py)?.into())
    }

    /// The JSON Schema of reports.
    #[staticmethod]
    fn json_schema(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        to_plain(py, &core::Report::json_schema())
    }

    /// Version of the report's shape.
    #[getter]
    fn schema_version(&self) -> u32 {
        self.report.schema_version
    }

    /// Version of the tool that wrote it.
    #[getter]
    fn tool_version(&self) -> &str {
        &self.report.tool_version
    }

    /// The run's name.
    #[getter]
    fn run_id(&self) -> &str {
        &self.report.run_id
    }

    /// `local`, `k8s`.
    #[getter]
    fn backend(&self) -> &str {
        &self.report.backend
    }

    /// The node.
    #[getter]
    fn node(&self) -> &str {
        &self.report.node
    }

    /// When it started (UTC).
    #[getter]
    fn started_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDateTime>> {
        let parsed: Result<jiff::Timestamp, _> = self.report.started_at.parse();
        let failed = |error: jiff::Error| {
            invalid("read the time of the report", error.to_string(), "write it again")
        };
        let since_epoch = parsed.map_err(failed).or_raise(py)?.as_duration().as_secs_f64();
        PyDateTime::from_timestamp(py, since_epoch, Some(&*PyTzInfo::utc(py)?))
    }

    /// From the start to the verdict, in milliseconds.
    #[getter]
    fn duration_ms(&self) -> f64 {
        self.report.duration_ms
    }

    /// How it came out.
    #[getter]
    fn verdict(&self) -> Verdict {
        (&self.report).into()
    }

    /// The answer of the five phases; none for other steps.
    #[getter]
    fn answer(&self) -> Option<Answer> {
        Answer::of(&self.report)
    }

    /// Whether it is a full success, or everything came out as expected.
    #[getter]
    fn ok(&self) -> bool {
        self.report.verdict.outcome().status() == core::Status::Passed
    }

    /// Raises `OutcomeError` unless it is `ok`, or unless its outcome is one of `accepted`; returns the
    /// report itself.
    #[pyo3(signature = (*accepted))]
    fn raise_for_outcome<'py>(
        slf: &Bound<'py, Self>,
        accepted: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, Self>> {
        let module = slf.py().import("propagation._errors")?;
        module.call_method1("_raise_for_outcome", (slf, accepted))?;
        Ok(slf.clone())
    }

    /// The verdict's outcome, in a word.
    #[getter]
    fn outcome(&self) -> &'static str {
        self.report.verdict.outcome().as_str()
    }

    /// The phases, in order.
    #[getter]
    fn phases<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyTuple>> {
        let make = || {
            let phases = self.report.phases.iter();
            let phases = phases.map(|phase| PhaseReport::new(py, phase));
            PyResult::Ok(PyTuple::new(py, phases.collect::<PyResult<Vec<_>>>()?)?.unbind())
        };
        Ok(self.phases.get_or_try_init(py, make)?.bind(py))
    }

    /// The phase with the id `id`; raises `KeyError` when it is unknown.
    fn phase<'py>(&self, py: Python<'py>, id: &str) -> PyResult<Bound<'py, PyAny>> {
        for phase in self.phases(py)? {
            if phase.cast::<PhaseReport>()?.get().id == id {
                return Ok(phase);
            }
        }
        Err(pyo3::exceptions::PyKeyError::new_err(id.to_owned()))
    }

    /// What was measured.
    #[getter]
    fn measurements(&self) -> Measurements {
        let measured = &self.report.measurements;
        let split = propagation_report::time::TimeSplit::of(&self.report);
        Measurements {
            mount_to_visible_ms: measured.mount_to_visible_ms.clone(),
            fault_to_breakage_ms: measured.fault_to_breakage_ms,
            by_itself: measured.by_itself.map(ByItself::from),
            fault_to_recovery_ms: measured.fault_to_recovery_ms,
            remount_to_fresh_read_ms: measured.remount_to_fresh_read_ms,
            smallest_intervention: measured.smallest_intervention.map(|repair| repair.name()),
            intervention_to_fresh_read_ms: measured.intervention_to_fresh_read_ms,
            waited_in_vain_ms: measured.waited_in_vain_ms,
            waited_for_kubelet_ms: split.map(|split| split.kubelet_ms),
            waited_for_runtime_ms: split.map(|split| split.runtime_ms),
        }
    }

    /// The numbers of met and unmet expectations.
    #[getter]
    fn expectations(&self) -> Expectations {
        let propagation_core::Expectations { met, unmet, skipped, .. } = self.report.expectations();
        Expectations { met, unmet, skipped }
    }

    /// All observations, in order of time.
    #[getter]
    fn timeline<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyTuple>> {
        let make = || {
            let timeline = self.report.timeline.iter().cloned().map(Observation::from);
            let timeline = timeline.map(|seen| Py::new(py, seen));
            PyResult::Ok(PyTuple::new(py, timeline.collect::<PyResult<Vec<_>>>()?)?.unbind())
        };
        Ok(self.timeline.get_or_try_init(py, make)?.bind(py))
    }

    /// The causes, the most likely and most severe one first.
    #[getter]
    fn causes(&self) -> Vec<Cause> {
        self.report.diagnosis.iter().map(Cause::from).collect()
    }

    /// Single changes of the scenario, each tried on a simulated node of its own.
    #[getter]
    fn experiments(&self) -> Vec<Experiment> {
        self.report.experiments.iter().map(Experiment::from).collect()
    }

    /// What to do, by the experiments; none where there were none.
    #[getter]
    fn advice(&self) -> Option<Advice> {
        let advice = self.report.advice.as_ref()?;
        let all = |changes: &[core::Change]| {
            let found = changes.iter().filter_map(|change| self.report.experiment(change));
            found.map(Experiment::from).collect()
        };
        Some(Advice {
            head: advice.head.clone(),
            now: all(&advice.now),
            for_good: all(&advice.for_good),
            tried: advice.tried,
            not_tried: advice.not_tried,
            took_ms: advice.took_ms,
        })
    }

    /// What was done, in order of time.
    #[getter]
    fn acts(&self) -> Vec<Act> {
        self.report.acts.iter().map(Act::from).collect()
    }

    /// The mount tables of all actors at the end of every phase.
    #[getter]
    fn captures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_plain(py, &self.report.captures)
    }

    /// Facts of the node.
    #[getter]
    fn environment<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.report.environment.as_ref().map(|facts| to_plain(py, facts)).transpose()
    }

    /// The plan of the run.
    #[getter]
    fn plan<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_plain(py, &self.report.plan)
    }

    /// What the workloads logged: lines by the workload's name.
    #[getter]
    fn logs(&self) -> BTreeMap<&str, &[String]> {
        let logs = self.report.logs.iter();
        logs.map(|log| (log.workload.as_str(), log.lines.as_slice())).collect()
    }

    /// What was removed at the end.
    #[getter]
    fn cleanup(&self) -> Cleanup {
        (&self.report.cleanup).into()
    }

    /// The report as JSON, indented; `from_json` reads it back.
    fn to_json(&self, py: Python<'_>) -> PyResult<String> {
        let failed =
            |e: serde_json::Error| Error::from_source(ErrorKind::Internal, "write the report", e);
        py.detach(|| self.report.to_json().map_err(failed)).or_raise(py)
    }

    /// The report as dicts, lists, strings and numbers.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_plain(py, &self.report)
    }

    /// The report as a terminal shows it; with `evidence` every check with its evidence, not only those
    /// that did not pass. Lines are wrapped at `width` columns where it is given.
    #[pyo3(signature = (*, evidence = false, colour = false, width = None))]
    fn to_text(&self, evidence: bool, colour: bool, width: Option<usize>) -> String {
        let colour = if colour { Colour::Ansi } else { Colour::Plain };
        let detail = if evidence { Detail::Full } else { Detail::Normal };
        render(&self.report, Style { colour, detail, width })
    }

    /// The report as Markdown, to keep beside the decision that follows from it.
    fn to_markdown(&self) -> String {
        markdown::render(&self.report)
    }

    /// The report as one HTML page that needs nothing else, with its timeline and mount graph.
    fn to_html(&self) -> String {
        html::render(&self.report)
    }

    /// The report as JUnit XML, for CI.
    fn to_junit(&self) -> String {
        junit::render(&self.report)
    }

    /// What a notebook shows: the HTML page in its own frame, so that the styles of page and notebook do not
    /// affect each other.
    fn _repr_html_(&self) -> String {
        let page = self.to_html().replace('&', "&amp;").replace('"', "&quot;");
        format!(
            "<iframe sandbox=\"allow-same-origin\" title=\"report of run {}\" srcdoc=\"{page}\" \
             style=\"width: 100%; height: 40em; border: 0\"></iframe>",
            self.report.run_id
        )
    }

    /// The timeline as a data frame of pandas, or of polars if pandas is not installed.
    ///
    /// Raises `ImportError` when neither is installed.
    #[pyo3(signature = (library = None))]
    fn to_dataframe<'py>(
        slf: &Bound<'py, Self>,
        library: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("propagation._dataframe")?.call_method1("timeline", (slf, library))
    }

    fn __str__(&self) -> String {
        self.to_text(false, false, None)
    }

    fn __repr__(&self) -> String {
        let report = &self.report;
        format!(
            "<Report {} of run {} on {} node {} in {:.1} ms>",
            report.verdict.outcome().as_str(),
            report.run_id,
            report.backend,
            report.node,
            report.duration_ms
        )
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.report == other.report
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(&self.report.run_id, &mut hasher);
        std::hash::Hasher::finish(&hasher)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        let py = slf.py();
        let class: Bound<'py, PyType> = py.get_type::<Self>();
        Ok((class.getattr("from_json")?, (slf.get().to_json(py)?,)))
    }
}

/// `str` or `bytes`.
#[derive(FromPyObject)]
pub(crate) enum Text {
    #[pyo3(transparent, annotation = "str")]
    Text(PyBackedStr),
    #[pyo3(transparent, annotation = "bytes")]
    Bytes(PyBackedBytes),
}

impl Text {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}
