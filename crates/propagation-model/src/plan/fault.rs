//! What can happen to a producer, and what can be done about it.

use std::fmt;

use serde::{Deserialize, Serialize};

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
    Errors(String),
    /// Somebody unmounts on the node (umount(8)).
    Unmount,
    /// Somebody unmounts lazily on the node (`umount --lazy`).
    LazyUnmount,
    /// The daemon outgrows the memory limit of its control group and the kernel kills it.
    Oom,
}

impl Fault {
    /// Whether it is done to the node's mount table and not to the workload.
    pub fn is_on_the_node(&self) -> bool {
        matches!(self, Self::Unmount | Self::LazyUnmount)
    }

    /// Whether it ends another fault instead of doing one.
    pub fn ends_a_fault(&self) -> bool {
        matches!(self, Self::Continue | Self::Slow(0))
            || matches!(self, Self::Errors(errno) if errno == "0")
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
            Self::Errors(errno) if errno == "0" => "errors end (the daemon answers again)",
            Self::Errors(errno) => return write!(formatter, "errors (the daemon answers {errno})"),
            Self::Unmount => "unmount on the node",
            Self::LazyUnmount => "lazy unmount on the node",
            Self::Oom => "oom (the daemon outgrows its memory limit)",
        };
        formatter.write_str(words)
    }
}

/// What is done about a dead mount. Each is one action of an operator, a CSI driver or a kubelet. The
/// phase `recovery` climbs the rungs of [`Repair::LADDER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// Nothing is done: whoever recovers does so by himself.
    #[serde(alias = "none")]
    Wait,
    /// The dead mount is unmounted on the node (umount(8), refused while it is in use), then the
    /// producer starts again.
    UnmountMount,
    /// The dead mount is unmounted lazily on the node, then the producer starts again.
    LazyUnmountMount,
    /// The producer starts again and mounts on top of what is there.
    MountOnTop,
    /// The producer starts again as it is told to: see the key `stale` of `fuse`.
    Remount,
    /// Bind the fresh mount over the mountpoint on the node. On a shared mount the bind travels to all
    /// that lie there already: the layers grow by more than one each time.
    RebindHost,
    /// As `rebind_host`, after the layers that are there have been taken off.
    RebindHostDeduplicated,
    /// Put a copy of the node's fresh mount where the stale one is, inside each consumer's own mount
    /// namespace.
    RebindConsumer,
    /// A successor takes over the `/dev/fuse` descriptor that a keeper holds: the same mount goes on.
    HandOver,
    /// The consumers' liveness probe is asked; whose probe fails is restarted, container only.
    LivenessProbe,
    /// The consumers' containers are restarted in place.
    RestartConsumer,
    /// The consumers' pods are deleted and made again.
    RecreateConsumer,
}

impl Repair {
    /// What the phase `recovery` tries, from the smallest to the largest.
    pub const LADDER: [Self; 5] = [
        Self::Wait,
        Self::RebindHost,
        Self::RebindConsumer,
        Self::RestartConsumer,
        Self::RecreateConsumer,
    ];

    /// Its name in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::UnmountMount => "unmount_mount",
            Self::LazyUnmountMount => "lazy_unmount_mount",
            Self::MountOnTop => "mount_on_top",
            Self::Remount => "remount",
            Self::RebindHost => "rebind_host",
            Self::RebindHostDeduplicated => "rebind_host_deduplicated",
            Self::RebindConsumer => "rebind_consumer",
            Self::HandOver => "hand_over",
            Self::LivenessProbe => "liveness_probe",
            Self::RestartConsumer => "restart_consumer",
            Self::RecreateConsumer => "recreate_consumer",
        }
    }

    /// What is done, as a noun.
    pub fn words(self) -> &'static str {
        match self {
            Self::Wait => "no intervention",
            Self::UnmountMount => "umount on the node and a start of the producer",
            Self::LazyUnmountMount => "umount --lazy on the node and a start of the producer",
            Self::MountOnTop => "a mount of the producer on top of what is there",
            Self::Remount => "a start of the producer",
            Self::RebindHost => "a bind of the fresh mount over itself on the node",
            Self::RebindHostDeduplicated => {
                "a bind of the fresh mount on the node in place of the old layers"
            }
            Self::RebindConsumer => "a re-bind inside the consumers' mount namespaces",
            Self::HandOver => "the hand-over of the kept /dev/fuse descriptor to a successor",
            Self::LivenessProbe => "a restart of the containers whose liveness probe fails",
            Self::RestartConsumer => "a restart of the consumers' containers",
            Self::RecreateConsumer => "the recreation of the consumers' pods",
        }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name(), self.words())
    }
}
