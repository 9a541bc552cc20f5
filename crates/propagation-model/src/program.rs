//! What becomes of a container: refused by the runtime, or its program runs and ends.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::errno::Errno;

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

/// How a running workload gets the node's mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attach {
    /// A copy of the node's mount takes the place of the stale one.
    Rebind,
    /// Its private volume becomes a slave of the node's mount, and gets what is mounted there: later
    /// mounts propagate to it.
    Reconnect,
}

/// How a running workload got the node's mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Whether whoever looked meanwhile could see the directory under the mount.
    pub hole: bool,
}

impl fmt::Display for Attached {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.hole {
            true => "for a moment the directory under the mount could be seen",
            false => "at no time could the directory under the mount be seen",
        })
    }
}

/// A refusal by its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Refusal {
    /// Why.
    pub kind: RefusalKind,
    /// The errno under it, where the kernel gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<Errno>,
}

/// Why a runtime refuses to create or start a container, or the kernel to change a mount.
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
    /// The kernel is too old for it.
    Kernel,
    /// The mounts are of different filesystems.
    OtherFilesystem,
    /// The mount is not private: it is connected already.
    NotPrivate,
    /// The node's mount shows less of the filesystem than the other one.
    Narrower,
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
        let errno = self.errno.as_deref().or_else(|| errno_said(&self.text));
        errno.map_or(RefusalKind::Other, RefusalKind::of_errno)
    }
}

impl RefusalKind {
    /// What the name of an errno means where it has the same meaning whatever was attempted.
    pub fn of_errno(name: &str) -> Self {
        match name {
            "ENOTCONN" | "ECONNABORTED" => Self::DeadSource,
            "EACCES" => Self::Denied,
            "EPERM" => Self::NotPermitted,
            "hang" => Self::Hangs,
            "EROFS" => Self::ReadOnly,
            "ENOSPC" | "EMFILE" | "ENFILE" | "ENOMEM" | "EAGAIN" | "ETOOMANYREFS" => Self::NoRoom,
            _ => Self::Other,
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
