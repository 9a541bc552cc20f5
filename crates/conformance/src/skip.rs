//! Skips: typed, with a reason.

use std::fmt;

use crate::need::Need;

/// Why a case was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Skip {
    /// The backend cannot open a node on this machine.
    Absent {
        /// What is absent.
        reason: String,
    },
    /// What the case needs is not there.
    Lacks(Need),
    /// There is nothing to be tested on this node; acceptable everywhere.
    NotApplicable {
        /// Why not.
        reason: String,
    },
}

impl fmt::Display for Skip {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { reason } => write!(formatter, "environment absent: {reason}"),
            Self::Lacks(need) => write!(formatter, "requires {need}"),
            Self::NotApplicable { reason } => write!(formatter, "not applicable: {reason}"),
        }
    }
}
