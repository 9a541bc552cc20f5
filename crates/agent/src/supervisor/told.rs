//! The orders of a supervisor.

use crate::producer::Producer;

/// What a supervised producer is told.
#[derive(Debug, Clone)]
pub(crate) struct Supervisor {
    pub(crate) name: String,
    pub(crate) producer: Producer,
    /// Whether it outlives the daemon.
    pub(crate) outlives: bool,
    /// How long the daemon's mount may take to appear, in milliseconds.
    pub(crate) mount_ms: u64,
    /// How long one access may take, in milliseconds.
    pub(crate) probe_ms: u64,
}
