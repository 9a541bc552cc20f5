//! The events of a run while it goes on.

use propagation_core::Event;
use propagation_core::observation::Observation as Seen;
use propagation_core::report as core;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyClass, PyClassInitializer};

use crate::calls::Calls;
use crate::job::Given;
use crate::observation::Observation;
use crate::report::{Check, Cleanup, PhaseReport, Verdict};

/// Something that a job gives before its result, kept until Python takes it.
#[expect(clippy::large_enum_variant, reason = "most are observations: a box for each costs more")]
pub(crate) enum Item {
    NodeReady { backend: String, node: String },
    PhaseStarted { phase: String },
    Checked { phase: String, check: core::Check },
    Observed(Seen),
    PhaseEnded(core::PhaseReport),
    Decided(Verdict),
    Cleaned(core::Cleanup),
    Log(LogRecord),
    Phase { number: usize, calls: Calls },
}

impl Item {
    /// An owned copy of an event; none for a kind that this version does not know.
    pub(crate) fn of(event: &Event<'_>) -> Option<Self> {
        Some(match event {
            Event::NodeReady { backend, node } => {
                Self::NodeReady { backend: (*backend).into(), node: (*node).into() }
            }
            Event::PhaseStarted { phase } => Self::PhaseStarted { phase: (*phase).into() },
            Event::Checked { phase, check } => {
                Self::Checked { phase: (*phase).into(), check: (*check).clone() }
            }
            Event::Observed(observation) => Self::Observed((*observation).clone()),
            Event::PhaseEnded(phase) => Self::PhaseEnded((*phase).clone()),
            Event::Decided(report) => Self::Decided(Verdict::from(*report)),
            Event::Cleaned(cleanup) => Self::Cleaned((*cleanup).clone()),
            _ => return None,
        })
    }
}

impl Given for Item {
    fn into_object(self: Box<Self>, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        fn object<T: PyClass + Into<PyClassInitializer<T>>>(
            py: Python<'_>,
            value: T,
        ) -> PyResult<Bound<'_, PyAny>> {
            Ok(Bound::new(py, value)?.into_any())
        }
        match *self {
            Self::NodeReady { backend, node } => object(py, NodeReady { backend, node }),
            Self::PhaseStarted { phase } => object(py, PhaseStarted { phase }),
            Self::Checked { phase, check } => {
                object(py, Checked { phase, check: Py::new(py, Check::from(&check))? })
            }
            Self::Observed(seen) => {
                object(py, Observed { observation: Py::new(py, Observation::from(seen))? })
            }
            Self::PhaseEnded(phase) => {
                object(py, PhaseEnded { phase: Py::new(py, PhaseReport::new(py, &phase)?)? })
            }
            Self::Decided(verdict) => object(py, Decided { verdict: Py::new(py, verdict)? }),
            Self::Cleaned(cleanup) => {
                object(py, Cleaned { cleanup: Py::new(py, Cleanup::from(&cleanup))? })
            }
            Self::Log(record) => object(py, record),
            Self::Phase { number, calls } => {
                object(py, PhaseCall { number, calls: Py::new(py, calls)? })
            }
        }
    }
}

/// The node stands.
#[pyclass(frozen, get_all, module = "propagation")]
pub(crate) struct NodeReady {
    /// The backend's name: `local`, `k8s`.
    backend: String,
    /// The node's name, as its backend knows it.
    node: String,
}

/// A phase begins.
#[pyclass(frozen, get_all, module = "propagation")]
pub(crate) struct PhaseStarted {
    /// Its id.
    phase: String,
}

/// A check was decided.
#[pyclass(frozen, get_all, module = "propagation")]
pub(crate) struct Checked {
    /// The id of its phase.
    phase: String,
    /// The check.
    check: Py<Check>,
}

/// An observation was made.
#[pyclass(frozen, get_all, module = "propagation")]
pub(crate) struct Observed {
    /// What was seen.
    observation: Py<Observation>,
}

/// A phase ended.
#[pyclass(frozen, get_all, module = "propagation")]
pub(crate) struct PhaseEnded {
    /// How it came out.
    phase: Py<PhaseReport>,
}

/// The verdict, before cleaning up.
#[pyclass(frozen, get_all, module = "propagation")]
pub(crate) struct Decided {
    /// The verdict.
    verdict: Py<Verdict>,
}

/// Cleaning up ended.
#[pyclass(frozen, get_all, module = "propagation")]
pub(crate) struct Cleaned {
    /// What was removed, and what could not be.
    cleanup: Py<Cleanup>,
}

/// A line for `logging`.
#[pyclass(frozen, get_all, module = "propagation._native")]
pub(crate) struct LogRecord {
    /// A level of `logging`.
    pub(crate) level: u8,
    /// The part of the program that says it.
    pub(crate) target: String,
    /// The line.
    pub(crate) message: String,
}

/// A phase that is written in Python is to be run now.
#[pyclass(frozen, get_all, module = "propagation._native")]
pub(crate) struct PhaseCall {
    /// Its place in the list of phases.
    number: usize,
    /// What it can do.
    calls: Py<Calls>,
}

/// `__match_args__` and a `__repr__` that names the fields, for the events that Python sees.
macro_rules! event {
    ($($name:ident ( $($field:literal),+ );)+) => {
        $(#[pymethods]
        impl $name {
            #[classattr]
            fn __match_args__(py: Python<'_>) -> PyResult<Py<PyTuple>> {
                Ok(PyTuple::new(py, [$($field),+])?.unbind())
            }

            fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
                let fields = [$($field),+].map(|name| {
                    Ok(format!("{name}={}", slf.getattr(name)?.repr()?))
                });
                let fields = fields.into_iter().collect::<PyResult<Vec<String>>>()?;
                Ok(format!(concat!(stringify!($name), "({})"), fields.join(", ")))
            }
        })+
    };
}

event! {
    NodeReady("backend", "node");
    PhaseStarted("phase");
    Checked("phase", "check");
    Observed("observation");
    PhaseEnded("phase");
    Decided("verdict");
    Cleaned("cleanup");
    LogRecord("level", "target", "message");
}
