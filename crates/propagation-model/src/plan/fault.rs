//! What can happen to a producer.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::errno::Errno;

/// What happens to a workload, usually the producer.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// SIGKILL to the daemon. Where it is process 1 of its container, as usual, the container's
    /// namespaces go with it; under a supervisor the container stays.
    #[default]
    Kill,
    /// SIGTERM: the daemon unmounts cleanly and exits.
    Terminate,
    /// The pod is deleted: SIGTERM, SIGKILL when that takes too long, and its namespaces go.
    Delete,
    /// The pod is deleted by force (`kubectl delete --force --grace-period 0`): it is gone from the
    /// cluster at once, and its processes have the 2 s that a kubelet gives at the least.
    ForceDelete,
    /// The daemon takes its mount off by itself and exits, as on an error of its own.
    Exit,
    /// SIGKILL to process 1 of the container: the supervisor dies, and its children with it.
    KillParent,
    /// SIGSTOP: the daemon is alive and does not answer.
    Stop,
    /// SIGCONT: it answers again.
    Continue,
    /// The connection is aborted through fusectl; the daemon lives.
    Abort,
    /// The daemon answers every request this much later, in milliseconds (0 ends it). Built-in
    /// filesystem only.
    Slow(u64),
    /// The daemon answers every request with this error, such as `EIO` (`0` ends it). Built-in
    /// filesystem only.
    Errors(Errno),
    /// Somebody unmounts on the node (umount(8)).
    Unmount,
    /// Somebody unmounts lazily on the node (`umount --lazy`).
    LazyUnmount,
    /// The daemon outgrows the memory limit of its control group and the kernel kills it.
    Oom,
}

impl Fault {
    /// The daemon answers all requests this many milliseconds later.
    pub fn slow(delay_ms: u64) -> Self {
        Self::Slow(delay_ms)
    }

    /// The daemon answers all requests with this error.
    pub fn errors(errno: Errno) -> Self {
        Self::Errors(errno)
    }

    /// Whether it is done to the node's mount table and not to the workload.
    pub fn is_on_the_node(&self) -> bool {
        matches!(self, Self::Unmount | Self::LazyUnmount)
    }

    /// Whether the daemon is expected to be gone afterwards.
    pub fn ends_the_daemon(&self) -> bool {
        matches!(
            self,
            Self::Kill
                | Self::Terminate
                | Self::Delete
                | Self::ForceDelete
                | Self::Exit
                | Self::KillParent
                | Self::Oom
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Kill => "kill (SIGKILL to the daemon)",
            Self::Terminate => "terminate (SIGTERM, clean unmount)",
            Self::Delete => "delete (SIGTERM, then the namespaces are torn down)",
            Self::ForceDelete => {
                "force_delete (SIGTERM, SIGKILL 2 s later, then the namespaces go)"
            }
            Self::Exit => "exit (the daemon unmounts and ends by itself)",
            Self::KillParent => "kill_parent (SIGKILL to process 1 of the container)",
            Self::Stop => "stop (SIGSTOP, the daemon hangs)",
            Self::Continue => "continue (SIGCONT)",
            Self::Abort => "abort (fusectl ends the connection)",
            Self::Slow(0) => "slow ends (the daemon answers at once again)",
            Self::Slow(delay_ms) => {
                return write!(formatter, "slow (the daemon answers {delay_ms} ms later)");
            }
            Self::Errors(Errno::NONE) => "errors end (the daemon answers again)",
            Self::Errors(errno) => return write!(formatter, "errors (the daemon answers {errno})"),
            Self::Unmount => "unmount on the node",
            Self::LazyUnmount => "lazy unmount on the node",
            Self::Oom => "oom (the daemon outgrows its memory limit)",
        };
        formatter.write_str(words)
    }
}
