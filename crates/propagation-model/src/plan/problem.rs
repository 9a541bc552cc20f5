//! What is wrong with a plan.

use crate::error::{Error, ErrorKind};

/// A problem that keeps a plan from being run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the problem, as in `workloads[1].propagation`.
    pub at: String,
    /// The problem.
    pub reason: String,
    /// The fix.
    pub fix: String,
}

impl Problem {
    pub(super) fn new(
        at: impl Into<String>,
        reason: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { at: at.into(), reason: reason.into(), fix: fix.into() }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::new(ErrorKind::InvalidInput, problem.at, problem.reason).with_fix(problem.fix)
    }
}
