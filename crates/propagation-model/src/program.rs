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

/// Why a runtime refuses to create or start a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RefusalKind {
    /// The mount that covers the volume does not propagate as the volume's mode needs.
    NotShared,
    /// The volume's source lies on a FUSE mount whose connection has ended (ENOTCONN).
    DeadSource,
    /// The runtime may not look at the source, or mount it (EACCES).
    Denied,
    /// The runtime lacks a right (EPERM).
    NotPermitted,
    /// A look at the source does not return.
    Hangs,
    /// The source does not exist and cannot be made (EROFS).
    ReadOnly,
    /// The machine ran out of something, which says nothing about the experiment.
    NoRoom,
    /// Anything else; the text says what.
    Other,
}

impl StartRefused {
    /// Why. By the errno where the runtime gives one; runtimes that give words only say the same in them.
    pub fn kind(&self) -> RefusalKind {
        if self.text.contains("not a shared") {
            return RefusalKind::NotShared;
        }
        match self.errno.as_deref().or_else(|| errno_said(&self.text)) {
            Some("ENOTCONN" | "ECONNABORTED") => RefusalKind::DeadSource,
            Some("EACCES") => RefusalKind::Denied,
            Some("EPERM") => RefusalKind::NotPermitted,
            Some("hang") => RefusalKind::Hangs,
            Some("EROFS") => RefusalKind::ReadOnly,
            Some("ENOSPC" | "EMFILE" | "ENFILE" | "ENOMEM" | "EAGAIN" | "ETOOMANYREFS") => {
                RefusalKind::NoRoom
            }
            _ => RefusalKind::Other,
        }
    }
}

/// The errno that words of a program speak of, by its name or as strerror(3) says it; only those that
/// starts and mounts of FUSE filesystems meet.
pub fn errno_said(text: &str) -> Option<&'static str> {
    let lower = text.to_lowercase();
    let said = |(words, errno): &&(&str, &str)| lower.contains(words) || text.contains(errno);
    ERRNO_WORDS.iter().find(said).map(|(_, errno)| *errno)
}

const ERRNO_WORDS: [(&str, &str); 6] = [
    ("transport endpoint is not connected", "ENOTCONN"),
    ("permission denied", "EACCES"),
    ("operation not permitted", "EPERM"),
    ("read-only file system", "EROFS"),
    ("no space left on device", "ENOSPC"),
    ("too many open files", "EMFILE"),
];

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
