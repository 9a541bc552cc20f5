//! What becomes of a container: refused by the runtime, or its program runs and ends.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where programs are looked for on a node: the variable `PATH` of those that a scenario runs.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The runtime's refusal to create or start a container: a result of the experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct StartRefused {
    /// The runtime's own words, such as `path "/x" is mounted on "/" but it is not a shared mount`.
    pub text: String,
    /// The errno under it, where there is one.
    pub errno: Option<String>,
}

impl StartRefused {
    /// Whether the machine ran out of something, which says nothing about the experiment.
    pub fn is_for_lack_of_resources(&self) -> bool {
        const LACKS: [&str; 6] = ["ENOSPC", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "ETOOMANYREFS"];
        self.errno.as_deref().is_some_and(|errno| LACKS.contains(&errno))
    }
}

/// How a program ended that was run in an actor's mount namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// How it ended; `None` when its time passed and it was killed.
    pub state: Option<ProgramState>,
    /// What it printed, standard output and standard error together.
    pub output: String,
}

impl Executed {
    /// Its exit code, if it ended by itself.
    pub fn exit_code(&self) -> Option<i32> {
        match self.state {
            Some(ProgramState::Exited { code }) => Some(code),
            _ => None,
        }
    }
}

/// What the readers and writers of a workload have met since they were asked last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LoadReport {
    /// How many operations have ended.
    pub operations: u64,
    /// How many of them failed.
    pub failed: u64,
    /// The errno of the last one that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_errno: Option<String>,
    /// The longest that one operation took, those that go on counted, in microseconds.
    pub longest_us: u64,
}

/// Whether the program of a workload runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ProgramState {
    /// It runs.
    Running,
    /// It ended by itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// A signal ended it.
    Signaled {
        /// The signal's name, such as `SIGKILL`.
        signal: String,
    },
    /// The workload has no program, only a mount view.
    None,
}

impl fmt::Display for ProgramState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => formatter.write_str("running"),
            Self::Exited { code } => write!(formatter, "exited with {code}"),
            Self::Signaled { signal } => write!(formatter, "killed by {signal}"),
            Self::None => formatter.write_str("no program"),
        }
    }
}
