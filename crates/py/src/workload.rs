//! The state of a workload, and the actions on it.

use std::time::Duration;

use propagation_core::marker::Marker;
use propagation_core::observation::Observation as Seen;
use propagation_core::plan::Fault;
use propagation_core::program::{Attach, Attached, StartRefused};
use propagation_core::workload::{Restart, Until, WorkloadStatus as Status};
use propagation_core::{Error, ErrorKind, Workload};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use crate::observation::Observation;

/// The state of a workload, from its own reports.
#[pyclass(frozen, get_all, module = "propagation")]
pub(crate) struct WorkloadStatus {
    /// Its program: `running`, `exited with N`, `killed by SIGNAL` or `no program`.
    program: String,
    /// Whether its program runs.
    running: bool,
    /// When a producer mounted and served its generation, in microseconds of the run.
    mounted_at_us: Option<u64>,
    /// The reason why a producer could not mount, in its own words.
    failure: Option<String>,
    /// The last thing that a consumer's program saw by itself.
    seen: Option<Py<Observation>>,
    /// The last outcome of its held descriptor: `ok`, or the name of an errno.
    held: Option<String>,
}

#[pymethods]
impl WorkloadStatus {
    fn __repr__(&self) -> String {
        format!("<WorkloadStatus {}>", self.program)
    }
}

/// The Python object of a status.
pub(crate) fn status_object(py: Python<'_>, status: Status) -> PyResult<Bound<'_, PyAny>> {
    let seen = |seen: Seen| Py::new(py, Observation::from(seen));
    let object = WorkloadStatus {
        running: status.program == propagation_core::program::ProgramState::Running,
        program: status.program.to_string(),
        mounted_at_us: status.mounted_at_us,
        failure: status.failure,
        seen: status.seen.map(seen).transpose()?,
        held: status.held.map(|held| held.class().to_string()),
    };
    Ok(Bound::new(py, object)?.into_any())
}

/// An action on a workload.
pub(crate) enum Action {
    Status,
    Wait {
        until: Until,
        deadline: Duration,
    },
    Inject(Fault),
    /// With the marker that a producer is to serve.
    Restart {
        marker: Marker,
        restart: Restart,
    },
    /// With the marker that the successor is to serve.
    HandOver(Marker),
    Attach(Attach),
    Log,
    Stop,
}

/// What came of it.
pub(crate) enum Done {
    Nothing,
    Status(Box<Status>),
    Evidence(String),
    Attached(Attached),
    Refused(StartRefused),
    Lines(Vec<String>),
}

impl Action {
    /// Does it.
    pub(crate) async fn carry_out(self, workload: &dyn Workload) -> Result<Done, Error> {
        Ok(match self {
            Self::Status => Done::Status(Box::new(workload.status().await?)),
            Self::Wait { until, deadline } => {
                let status = workload.wait(until.clone(), deadline).await?;
                if !until.is_met_by(&status) {
                    let words = status.failure.unwrap_or_else(|| format!("it {}", status.program));
                    let operation = format!("wait for {}", workload.spec().name);
                    return Err(Error::new(ErrorKind::Environment, operation, words)
                        .with_fix("look at its log, and at what it was started with"));
                }
                Done::Status(Box::new(status))
            }
            Self::Inject(fault) => Done::Evidence(workload.inject(&fault).await??),
            Self::Restart { marker, restart } => match workload.restart(&marker, restart).await? {
                Ok(()) => Done::Nothing,
                Err(refusal) => Done::Refused(refusal),
            },
            Self::HandOver(marker) => {
                workload.hand_over(&marker).await??;
                Done::Nothing
            }
            Self::Attach(how) => Done::Attached(workload.attach(how).await??),
            Self::Log => Done::Lines(workload.log().await?),
            Self::Stop => {
                workload.stop().await?;
                Done::Nothing
            }
        })
    }
}

impl Done {
    /// The Python object for it; a refusal is an exception.
    pub(crate) fn into_object(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        match self {
            Self::Nothing | Self::Attached(_) => Ok(py.None().into_bound(py)),
            Self::Status(status) => status_object(py, *status),
            Self::Evidence(text) => text.into_bound_py_any(py),
            Self::Lines(lines) => lines.into_bound_py_any(py),
            Self::Refused(refusal) => Err(refused(py, &refusal)),
        }
    }
}

/// The exception for a refusal of the runtime.
pub(crate) fn refused(py: Python<'_>, refusal: &StartRefused) -> PyErr {
    let parts = (refusal.text.as_str(), refusal.errno.map(|errno| errno.to_string()));
    let class = py.import("propagation._errors").and_then(|m| m.getattr("StartRefusedError"));
    match class.and_then(|class| class.call1(parts)) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
