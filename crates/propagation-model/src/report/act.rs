//! Acts: what was done in a run, and when; recorded as it happens.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plan::{Fault, Repair};
use crate::program::Refusal;

/// The kind of an act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Deed {
    /// Workloads were started.
    Start,
    /// Workloads were ended.
    Stop,
    /// Containers were restarted in place, or pods made again.
    Restart {
        /// Whether the pods were deleted and recreated.
        recreate: bool,
    },
    /// The mount was bound on the volume paths of workloads.
    Publish,
    /// The volume paths were unmounted and removed.
    Unpublish,
    /// A fault was injected.
    Fault {
        /// The fault.
        fault: Fault,
    },
    /// A repair was carried out.
    Repair {
        /// The repair.
        repair: Repair,
    },
    /// A program was run.
    Run {
        /// The program and its arguments.
        command: Vec<String>,
    },
}

/// An act: when it began and ended, and the workloads that it concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct Act {
    /// The phase or step in which it was done.
    pub step: String,
    /// When it began, in microseconds since the start of the run.
    pub from_us: u64,
    /// When it was over, in microseconds since the start of the run.
    pub until_us: u64,
    /// Its kind.
    pub deed: Deed,
    /// The workloads that it concerned; empty for the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// Evidence: process ids, signals, the mount that was taken off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proof: Vec<String>,
    /// Why it could not be done, where the kernel or the runtime refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Type of the kernel's refusal, where it is known; of several the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

impl Act {
    /// An act that begins at a time in microseconds since the start of the run; it ends at once.
    pub fn new(
        step: impl Into<String>,
        from_us: u64,
        deed: Deed,
        on: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            step: step.into(),
            from_us,
            until_us: from_us,
            deed,
            on: on.into_iter().collect(),
            proof: Vec::new(),
            refused: None,
            refusal: None,
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => formatter.write_str("start"),
            Self::Stop => formatter.write_str("stop"),
            Self::Restart { recreate: false } => formatter.write_str("restart"),
            Self::Restart { recreate: true } => formatter.write_str("recreate"),
            Self::Publish => formatter.write_str("publish"),
            Self::Unpublish => formatter.write_str("unpublish"),
            Self::Fault { fault } => write!(formatter, "fault: {fault}"),
            Self::Repair { repair } => write!(formatter, "repair: {repair}"),
            Self::Run { command } => write!(formatter, "run: {}", command.join(" ")),
        }
    }
}
