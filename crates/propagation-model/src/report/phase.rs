//! How a phase came out, and its checks.

use serde::{Deserialize, Serialize};

use super::check::{Check, CheckId};

/// How a check or a phase came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As expected.
    Passed,
    /// Not as expected.
    Failed,
    /// Not done, with a reason.
    Skipped,
    /// The tool failed, so nothing can be said.
    Errored,
}

impl Status {
    /// Outcome of a phase with these checks: skipped when nothing was checked.
    pub fn of(checks: &[Check]) -> Self {
        if checks.iter().any(|check| check.status == Self::Failed) {
            Self::Failed
        } else if checks.iter().all(|check| check.status == Self::Skipped) {
            Self::Skipped
        } else {
            Self::Passed
        }
    }

    /// The word used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Errored => "errored",
        }
    }
}

/// One phase of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct PhaseReport {
    /// `host_setup`, `producer`, `consumer`, `stale_mount`, `recovery`, or the id of a custom phase.
    pub id: String,
    /// How it came out: failed when a check failed.
    pub status: Status,
    /// When it began, in milliseconds since the start of the run.
    pub started_ms: f64,
    /// How long it took.
    pub duration_ms: f64,
    /// Why it was skipped or errored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its checks, in order.
    pub checks: Vec<Check>,
}

impl PhaseReport {
    /// A phase without checks yet, which took no time.
    pub fn new(id: impl Into<String>, status: Status) -> Self {
        let (started_ms, duration_ms) = (0.0, 0.0);
        Self { id: id.into(), status, started_ms, duration_ms, reason: None, checks: Vec::new() }
    }

    /// The check with this id.
    pub fn check(&self, id: &CheckId) -> Option<&Check> {
        self.checks.iter().find(|check| check.id == *id)
    }
}
