//! The Python module `propagation._native`: the core and the backends, for the package
//! `propagation` around it.
//!
//! Reading order: `run` starts a run on its own thread, on a `backend`, and gives a `job::Job`, on which Python
//! waits; `event` has its events; `phase` hands a phase over to Python and serves its `calls`; `report` and
//! `observation` are the results as Python sees them.
//!
//! The threads of this module never take the interpreter's lock, so a run and Python cannot
//! block each other, and a process may end at any time. The objects hold all state.

mod backend;
mod calls;
mod comparison;
mod error;
mod event;
mod job;
mod log;
mod observation;
mod phase;
mod report;
mod run;
mod scenario;
mod word;
mod workload;

use pyo3::prelude::*;

/// Runs the command line with these arguments, the program's name first, and returns its exit
/// status.
#[pyfunction]
fn run_cli(py: Python<'_>, arguments: Vec<String>) -> u8 {
    py.detach(|| propagation_cli::main(arguments))
}

/// The native part of the package `propagation`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::{
        backend::K8sBackend,
        calls::Calls,
        comparison::{Comparison, compare_transports, comparison_names},
        error::error_kinds,
        event::{
            Checked, Cleaned, Decided, LogRecord, NodeReady, Observed, PhaseCall, PhaseEnded,
            PhaseStarted,
        },
        job::Job,
        observation::Observation,
        report::{
            Act, Advice, Answer, Cause, Check, Cleanup, Expectations, Experiment, Fix,
            Measurements, PhaseReport, Report, Verdict,
        },
        run::run,
        run_cli,
        scenario::Scenario,
        workload::WorkloadStatus,
    };

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
