//! Outcomes of a container: the runtime refuses it, or its program runs and ends.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::errno::Errno;
use crate::error::{Error, ErrorKind};
use crate::signal::Signal;

/// The `PATH` of programs that a scenario runs on a node.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The runtime's refusal to create or start a container: a result of the experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct StartRefused {
    /// Kind of the refusal, as the backend that met it decided.
    pub kind: RefusalKind,
    /// The runtime's own words, such as `path "/x" is mounted on "/" but it is not a shared mount`.
    pub text: String,
    /// The errno behind it, where there is one.
    pub errno: Option<Errno>,
}

/// A refusal by the kernel, the runtime or a daemon: a result of the experiment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {reason}")]
pub struct Refused {
    /// The attempted operation.
    pub operation: String,
    /// The reason, in the words of the refuser.
    pub reason: String,
    /// Kind of the refusal, where it is known.
    pub refusal: Option<Refusal>,
    /// The fix, where it is known.
    pub fix: Option<String>,
}

impl Refused {
    /// A refusal of an unknown kind.
    pub fn new(operation: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { operation: operation.into(), reason: reason.into(), refusal: None, fix: None }
    }
}

/// For callers that treat a refusal as an error.
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
    /// Its private volume becomes a slave of the node's mount and gets the mounts there; later mounts propagate to
    /// it.
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
    /// Kind of the refusal.
    pub kind: RefusalKind,
    /// The errno behind it, where the kernel gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<Errno>,
}

/// Kind of refusal: why a runtime does not create or start a container, or the kernel does not change a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RefusalKind {
    /// The mount that covers the volume does not propagate as the volume's mode needs.
    NotShared,
    /// The volume's source lies on a dead FUSE mount (ENOTCONN).
    DeadSource,
    /// The runtime has no permission to look at the source, or to mount it (EACCES).
    Denied,
    /// The runtime lacks a privilege (EPERM).
    NotPermitted,
    /// A look at the source hangs.
    Hangs,
    /// The source does not exist and cannot be made (EROFS).
    ReadOnly,
    /// The source does not exist (ENOENT).
    Missing,
    /// The source is of another type than is wanted: a file where a directory should be, or the other way
    /// round (ENOTDIR), or not what the type of a hostPath asks for.
    WrongType,
    /// The kernel is too old for it.
    Kernel,
    /// The mounts are of different filesystems.
    OtherFilesystem,
    /// The mount is not private: it is already connected.
    NotPrivate,
    /// The node's mount shows less of the filesystem than the other one.
    Narrower,
    /// The machine ran out of a resource, which says nothing about the experiment.
    NoRoom,
    /// Another reason, which the text gives.
    Other,
}

impl StartRefused {
    /// A refusal with an errno, which decides its kind.
    pub fn with(errno: Errno, text: impl Into<String>) -> Self {
        Self { kind: RefusalKind::of(errno), text: text.into(), errno: Some(errno) }
    }

    /// A refusal of a kind without an errno.
    pub fn of(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), errno: None }
    }

    /// A refusal of a runtime in words only, as of containerd and runc: the words decide its kind.
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
    /// Kind of refusal for an errno at the start of a container.
    pub fn of(errno: Errno) -> Self {
        match errno {
            Errno::ENOTCONN | Errno::ECONNABORTED => Self::DeadSource,
            Errno::EACCES => Self::Denied,
            Errno::EPERM => Self::NotPermitted,
            Errno::EROFS => Self::ReadOnly,
            Errno::ENOENT => Self::Missing,
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

/// End of a program that ran in an actor's mount namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// How it ended; `None` when its deadline passed and it was killed.
    pub state: Option<ProgramState>,
    /// Its output, standard output and standard error together.
    pub output: String,
}

impl Executed {
    /// Its exit code, if it exited.
    pub fn exit_code(&self) -> Option<i32> {
        match self.state {
            Some(ProgramState::Exited { code }) => Some(code),
            _ => None,
        }
    }
}

/// Load of a workload: operations of its readers and writers since the previous query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LoadReport {
    /// Number of operations that have ended.
    pub operations: u64,
    /// Number of operations that failed.
    pub failed: u64,
    /// The errno of the last failed operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_errno: Option<Errno>,
    /// The longest operation, unfinished ones included, in microseconds.
    pub longest_us: u64,
}

/// State of a workload's program.
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
        /// The signal.
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
