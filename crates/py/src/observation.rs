//! Observations as Python sees them.

use propagation_core::observation::{Actor, Observation as Seen, Outcome, Via};
use propagation_core::{Error, RunContext};
use pyo3::prelude::*;

use crate::error::{OrRaise, from_plain, invalid, to_plain};

/// One look of one actor, and what it saw.
#[pyclass(frozen, eq, module = "propagation")]
#[derive(PartialEq)]
pub(crate) struct Observation(Seen);

impl From<Seen> for Observation {
    fn from(seen: Seen) -> Self {
        Self(seen)
    }
}

#[pymethods]
impl Observation {
    /// The actor that looked: `node`, `runtime`, the name of a workload, or `NAME#N` for a replica.
    #[getter]
    fn actor(&self) -> String {
        self.0.actor.to_string()
    }

    /// The workload that looked, by its name in the plan; none for the node.
    #[getter]
    fn workload(&self) -> Option<&str> {
        match &self.0.actor {
            Actor::Workload { name, .. } | Actor::HeldDescriptor { name } => Some(name),
            Actor::Node | Actor::Runtime => None,
        }
    }

    /// Which replica of the workload looked, counted from 0.
    #[getter]
    fn replica(&self) -> u32 {
        match &self.0.actor {
            Actor::Workload { replica, .. } => *replica,
            _ => 0,
        }
    }

    /// Whether it looked through a descriptor that it had opened before.
    #[getter]
    fn held_descriptor(&self) -> bool {
        matches!(self.0.actor, Actor::HeldDescriptor { .. })
    }

    /// The phase in which it was made.
    #[getter]
    fn step(&self) -> &str {
        &self.0.step
    }

    /// When the access ended, in microseconds since the start of the run.
    #[getter]
    fn at_us(&self) -> u64 {
        self.0.at_us
    }

    /// How long the access took, in microseconds.
    #[getter]
    fn took_us(&self) -> u64 {
        self.0.took_us
    }

    /// The UID with which it looked.
    #[getter]
    fn uid(&self) -> u32 {
        self.0.uid
    }

    /// `probe` when the run asked, `watch` when the workload noticed by itself.
    #[getter]
    fn via(&self) -> &'static str {
        match self.0.via {
            Via::Probe => "probe",
            Via::Watch => "watch",
        }
    }

    /// What it did: `read`, `list`, `stat`, `statfs`, `write` or `held`.
    #[getter]
    fn access(&self) -> &'static str {
        self.0.access.as_str()
    }

    /// What it saw: `ok`, `absent`, `empty`, `wrong_content`, `hang`, `skipped`, or the name of an errno.
    #[getter]
    fn outcome(&self) -> String {
        self.0.outcome.class().to_string()
    }

    /// Whether the marker of the expected generation was read.
    #[getter]
    fn ok(&self) -> bool {
        self.0.outcome.is_ok()
    }

    /// The errno's name, such as `ENOTCONN`, when a system call failed.
    #[getter]
    fn errno(&self) -> Option<String> {
        match &self.0.outcome {
            Outcome::Errno { errno, .. } => Some(errno.to_string()),
            _ => None,
        }
    }

    /// What it saw, in words.
    #[getter]
    fn detail(&self) -> String {
        self.0.outcome.to_string()
    }

    /// The generation of the producer in the marker, if it read one.
    #[getter]
    fn generation(&self) -> Option<u64> {
        self.0.generation
    }

    /// The mount under the path, as in mountinfo; None if nothing is mounted.
    #[getter]
    fn mount<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.mount.as_ref().map(|mount| to_plain(py, mount)).transpose()
    }

    /// All of it, as dicts, lists, strings and numbers.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_plain(py, &self.0)
    }

    /// Reads an observation from what `to_dict` gives.
    #[staticmethod]
    fn from_dict(py: Python<'_>, mapping: &Bound<'_, PyAny>) -> PyResult<Self> {
        let seen = serde_json::from_value(from_plain(mapping)?).map_err(|error| {
            invalid("read an observation", error.to_string(), "use what `to_dict` gave")
        });
        seen.map(Self).or_raise(py)
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyAny>,))> {
        let py = slf.py();
        let plain = slf.get().to_dict(py)?;
        Ok((py.get_type::<Self>().getattr("from_dict")?, (plain,)))
    }

    fn __repr__(&self) -> String {
        let at_ms = f64::from(u32::try_from(self.0.at_us).unwrap_or(u32::MAX)) / 1e3;
        format!(
            "<Observation {} as uid {}: {} at {at_ms:.1} ms>",
            self.0.actor, self.0.uid, self.0.outcome
        )
    }
}

/// The actor that `name` means: `node`, a workload, or `NAME#N` for a replica of it.
pub(crate) fn actor(name: &str, context: &RunContext<'_>) -> Result<Actor, Error> {
    let (base, replica) = match name.split_once('#') {
        Some((base, replica)) => (base, replica.parse().ok()),
        None => (name, Some(0)),
    };
    match (name, context.workload(base), replica) {
        ("node", ..) => Ok(Actor::Node),
        ("runtime", ..) => Ok(Actor::Runtime),
        (_, Some(workload), Some(replica)) if replica < workload.spec().replicas => {
            Ok(Actor::Workload { name: base.into(), replica })
        }
        _ => {
            let mut known: Vec<&str> = vec!["node"];
            known.extend(context.workloads().iter().map(|w| w.spec().name.as_str()));
            Err(invalid(
                format!("look from {name:?}"),
                "unknown actor",
                format!("use one of {}", known.join(", ")),
            ))
        }
    }
}
