//! What was done in a run: its phases with their checks, its acts, its clean-up.

use propagation_core::report as core;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

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
    pub(super) id: String,
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
    /// The part of it spent waiting for the kubelet to end the pods. Simulated nodes have no kubelet, and this is none.
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
