//! What becomes of a container: refused by the runtime, or its program runs and ends.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::errno::Errno;
use crate::error::{Error, ErrorKind};
use crate::signal::Signal;

/// Where programs are looked for on a node: the variable `PATH` of those that a scenario runs.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The runtime's refusal to create or start a container: a result of the experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct StartRefused {
    /// Why, decided by the backend that met it.
    pub kind: RefusalKind,
    /// The runtime's own words, such as `path "/x" is mounted on "/" but it is not a shared mount`.
    pub text: String,
    /// The errno under it, where there is one.
    pub errno: Option<Errno>,
}

/// The refusal by the kernel, the runtime or a daemon of something that was asked of it: a result of the
/// experiment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {reason}")]
pub struct Refused {
    /// What was attempted.
    pub operation: String,
    /// Why it is refused, in the words of who refuses it.
    pub reason: String,
    /// What kind of refusal it is, where that is known.
    pub refusal: Option<Refusal>,
    /// What to do about it, where that is known.
    pub fix: Option<String>,
}

impl Refused {
    /// A refusal of a kind that nobody knows.
    pub fn new(operation: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { operation: operation.into(), reason: reason.into(), refusal: None, fix: None }
    }
}

/// For callers to whom a refusal is an error.
impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let Refused { operation, reason, refusal, fix } = refused;
        let errno = refusal.and_then(|refusal| refusal.errno);
        let error = Self::new(ErrorKind::Environment, operation, reason).with_errno(errno);
        match fix {
            Some(fix) => error.with_fix(fix),
            None => error,
        }
    }
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
    /// Whether whoever looked meanwhile could see the directory under the mount that was replaced; `None`
    /// when there was nothing to replace.
    pub hole: Option<bool>,
}

impl fmt::Display for Attached {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.hole {
            None => "no mount had to be replaced",
            Some(true) => "for a moment the directory under the replaced mount could be seen",
            Some(false) => "at no time could the directory under the replaced mount be seen",
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
    /// The source is of another type than is wanted: a file where a directory should be, or the other way
    /// round (ENOTDIR), or not what the type of a hostPath asks for.
    WrongType,
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
    /// A refusal with an errno under it, which decides its kind.
    pub fn with(errno: Errno, text: impl Into<String>) -> Self {
        Self { kind: RefusalKind::of(errno), text: text.into(), errno: Some(errno) }
    }

    /// A refusal of a kind that has no errno.
    pub fn of(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), errno: None }
    }

    /// A refusal of a runtime that gives words only, as containerd and runc do: what they say decides.
    pub fn said(text: impl Into<String>) -> Self {
        /// runc's libcontainer, containerd's `pkg/cri`: `but it is not a shared mount`.
        const NOT_SHARED: &str = "not a shared";
        /// The kubelet's `pkg/volume/hostpath`.
        const TYPE_CHECK: &str = "hostPath type check failed";
        let text = text.into();
        match Errno::said_in(&text) {
            _ if text.contains(NOT_SHARED) => Self::of(RefusalKind::NotShared, text),
            _ if text.contains(TYPE_CHECK) => Self::of(RefusalKind::WrongType, text),
            Some(errno) => Self::with(errno, text),
            None => Self::of(RefusalKind::Other, text),
        }
    }
}

impl RefusalKind {
    /// What an errno means when it keeps a container from starting.
    pub fn of(errno: Errno) -> Self {
        match errno {
            Errno::ENOTCONN | Errno::ECONNABORTED => Self::DeadSource,
            Errno::EACCES => Self::Denied,
            Errno::EPERM => Self::NotPermitted,
            Errno::EROFS => Self::ReadOnly,
            Errno::ENOTDIR => Self::WrongType,
            Errno::ENOSPC
            | Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOMEM
            | Errno::EAGAIN
            | Errno::ETOOMANYREFS => Self::NoRoom,
            _ => Self::Other,
        }
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
    pub last_errno: Option<Errno>,
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
        /// Which.
        signal: Signal,
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
