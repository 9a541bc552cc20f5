//! Repairs of a dead mount.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::program::Attach;

/// A repair of a dead mount. Each is one action of an operator, a CSI driver or a kubelet. The phase `recovery`
/// climbs the rungs of [`Repair::LADDER`].
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// Nothing is done: consumers recover by themselves or not at all.
    #[serde(alias = "none")]
    Wait,
    /// The dead mount is unmounted on the node (umount(8), refused while it is in use), then the
    /// producer starts again.
    UnmountMount,
    /// The dead mount is unmounted lazily on the node, then the producer starts again.
    LazyUnmountMount,
    /// The producer starts again and mounts on top of what is there.
    MountOnTop,
    /// The producer starts again with its configured behaviour: see the key `stale` of `fuse`.
    Remount,
    /// Bind the fresh mount over the mountpoint on the node. On a shared mount the bind propagates to all peers and
    /// slaves: the layers grow by more than one each time.
    RebindHost,
    /// As `rebind_host`, after the existing layers have been taken off.
    RebindHostDeduplicated,
    /// Put a copy of the node's fresh mount where the stale one is, inside each consumer's own mount
    /// namespace.
    RebindConsumer,
    /// Make the private volume of each running consumer a slave of the node's mount, as though it had been started
    /// with HostToContainer: the fresh mount is put into it, and later ones propagate to it. Needs Linux 5.15.
    ReconnectConsumer,
    /// A successor takes over the `/dev/fuse` descriptor that a keeper holds: the same mount goes on.
    HandOver,
    /// The liveness probe of consumers, or of the named ones, runs once; containers that fail it are
    /// restarted.
    LivenessProbe,
    /// The consumers' containers are restarted in place.
    RestartConsumer,
    /// The consumers' pods are deleted and made again.
    RecreateConsumer,
}

impl Repair {
    /// All repairs.
    pub const ALL: [Self; 13] = [
        Self::Wait,
        Self::UnmountMount,
        Self::LazyUnmountMount,
        Self::MountOnTop,
        Self::Remount,
        Self::RebindHost,
        Self::RebindHostDeduplicated,
        Self::RebindConsumer,
        Self::ReconnectConsumer,
        Self::HandOver,
        Self::LivenessProbe,
        Self::RestartConsumer,
        Self::RecreateConsumer,
    ];

    /// Repairs that the phase `recovery` tries, from the smallest to the largest.
    pub const LADDER: [Self; 5] = [
        Self::Wait,
        Self::RebindHost,
        Self::RebindConsumer,
        Self::RestartConsumer,
        Self::RecreateConsumer,
    ];

    /// Whether it concerns consumers; otherwise it concerns producers and the node.
    pub fn is_of_consumers(self) -> bool {
        matches!(
            self,
            Self::RebindConsumer
                | Self::ReconnectConsumer
                | Self::LivenessProbe
                | Self::RestartConsumer
                | Self::RecreateConsumer
        )
    }

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
            Self::ReconnectConsumer => "reconnect_consumer",
            Self::HandOver => "hand_over",
            Self::LivenessProbe => "liveness_probe",
            Self::RestartConsumer => "restart_consumer",
            Self::RecreateConsumer => "recreate_consumer",
        }
    }

    /// The action, as a noun.
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
            Self::ReconnectConsumer => {
                "a reconnection of the consumers' volumes to the node's mount"
            }
            Self::HandOver => "the hand-over of the kept /dev/fuse descriptor to a successor",
            Self::LivenessProbe => "a restart of the containers whose liveness probe fails",
            Self::RestartConsumer => "a restart of the consumers' containers",
            Self::RecreateConsumer => "the recreation of the consumers' pods",
        }
    }
}

impl From<Attach> for Repair {
    fn from(how: Attach) -> Self {
        match how {
            Attach::Rebind => Self::RebindConsumer,
            Attach::Reconnect => Self::ReconnectConsumer,
        }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name(), self.words())
    }
}
