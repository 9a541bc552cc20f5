//! Events of a run.

use std::sync::Arc;

use crate::observation::Observation;
use crate::report::{Check, Cleanup, PhaseReport, Report};

/// An event of a run, reported while it goes on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The node is ready.
    NodeReady {
        /// The backend's name.
        backend: &'a str,
        /// The node's name.
        node: &'a str,
    },
    /// A phase begins.
    PhaseStarted {
        /// Its id.
        phase: &'a str,
    },
    /// A check was decided.
    Checked {
        /// Its phase.
        phase: &'a str,
        /// The check.
        check: &'a Check,
    },
    /// An observation was made.
    Observed(&'a Observation),
    /// A phase ended.
    PhaseEnded(&'a PhaseReport),
    /// The report is complete, with its verdict, except for the clean-up, which follows.
    Decided(&'a Report),
    /// Cleaning up ended.
    Cleaned(&'a Cleanup),
}

/// Receives the events of a run, in the task that runs it: must not block.
pub type EventSink = Arc<dyn Fn(&Event<'_>) + Send + Sync>;
