//! The causes that the diagnosis knows, in one table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Defines the ids of causes: each with its stable name and what it means.
macro_rules! cause_ids {
    ($( $name:ident = $word:literal: $about:literal, )*) => {
        /// Id of a cause. Its name in reports is stable, in kebab case: `volume-is-mountpoint`.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum CauseId {
            $( #[doc = $about] $name, )*
            /// A cause that a custom phase found.
            Custom(String),
        }

        impl CauseId {
            /// Every cause that the diagnosis knows, in the order of the table.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// The name in reports.
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$name => $word, )*
                    Self::Custom(name) => name,
                }
            }

            /// Its meaning in one line; empty for the cause of a custom phase.
            pub fn about(&self) -> &'static str {
                match self {
                    $( Self::$name => $about, )*
                    Self::Custom(_) => "",
                }
            }
        }

        impl FromStr for CauseId {
            type Err = std::convert::Infallible;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(match text {
                    $( $word => Self::$name, )*
                    other => Self::Custom(other.to_owned()),
                })
            }
        }
    };
}

cause_ids! {
    NothingWrong = "nothing-wrong": "Everything is as it should be.",
    FuseDeviceUnusable = "fuse-device-unusable": "/dev/fuse cannot be opened.",
    Fusermount3Absent = "fusermount3-absent": "A producer that is not root has no fusermount3.",
    MountpointMissing = "mountpoint-missing": "The directory on which a producer is to mount is not there where it runs.",
    UserAllowOtherMissing = "user-allow-other-missing": "The fuse.conf that fusermount3 reads does not permit allow_other.",
    CoveringPrivate = "covering-private": "The mount that covers the bridge, or another volume, is private, whatever the root is.",
    CoveringSlave = "covering-slave": "The mount that covers the bridge receives mounts and sends none.",
    BridgeUnusable = "bridge-unusable": "What lies at the bridge cannot be a volume.",
    ControlPositive = "control-positive": "A control that must not see the mount sees it.",
    ProducerNotShared = "producer-not-shared": "The producer's volume is not shared, so that its mount stays in its own namespace.",
    MountOutsideVolume = "mount-outside-volume": "The producer mounts at a path outside its shared volume.",
    RuntimeOwnNamespace = "runtime-own-namespace": "The container runtime lives in a mount namespace of its own.",
    UserNamespaceBoundary = "user-namespace-boundary": "The mount namespace belongs to another user namespace: it receives mounts and sends none.",
    ConsumerNotConnected = "consumer-not-connected": "The consumer's volume is not connected to the mount on which the producer's landed.",
    BindNotRecursive = "bind-not-recursive": "The consumer's volume is a bind that did not carry the mounts below it.",
    PropagationNotRecursive = "propagation-not-recursive": "A volume is a slave at its top only: mounts below it send to the node still.",
    PropagationNotApplied = "propagation-not-applied": "The runtime did not apply the propagation that the volume asks for.",
    AllowOtherMissing = "allow-other-missing": "The mount admits only the user who made it.",
    DaemonDenies = "daemon-denies": "The daemon itself answers EACCES or EPERM, inside containers and outside.",
    FileModeDenies = "file-mode-denies": "The modes of the files deny a user, which the kernel checks because of default_permissions.",
    CallerGroupsUnknown = "caller-groups-unknown": "The daemon decides by the groups that it knows of its caller, and does not know those of the container.",
    LsmDenies = "lsm-denies": "A security module or a file mode denies access.",
    CapabilityMissing = "capability-missing": "A capability is missing, or seccomp refuses.",
    MountedNosuid = "mounted-nosuid": "The FUSE mount is nosuid, so that programs in it get no rights by their mode.",
    LowerMountLost = "lower-mount-lost": "A daemon serves what it reads from another FUSE mount, and lost that.",
    OverlayLowerDied = "overlay-lower-died": "An overlay has a layer on a FUSE mount that has died.",
    FuseAsUpperDir = "fuse-as-upperdir": "An overlay cannot have a FUSE filesystem as its upper layer.",
    ConsumerModeNone = "consumer-mode-none": "The consumer's volume is private, and it started before the mount.",
    ConsumerFrozenCopy = "consumer-frozen-copy": "The consumer's volume is private, and it keeps the mount that was there when it started.",
    VolumeIsMountpoint = "volume-is-mountpoint": "The consumer's volume is the FUSE mount itself.",
    FileVolumePinsMount = "file-volume-pins-mount": "The consumer's volume is a file of the FUSE mount, and pins the filesystem that it was in.",
    SubPathPinsMount = "subpath-pins-mount": "The consumer's subPath is a bind of the kubelet's own, and pins the filesystem that it was in.",
    SubPathBeforeMount = "subpath-before-mount": "The consumer's subPath was bound before the mount, and stays the directory below it.",
    ConsumerPinsMount = "consumer-pins-mount": "The consumer's private copy keeps a filesystem that the node has unmounted.",
    MountHidden = "mount-hidden": "Another mount lies on the FUSE mount or on a directory above it, and hides it.",
    FreshMountHidden = "fresh-mount-hidden": "A dead mount of the consumer's own side hides the fresh one.",
    DaemonStopped = "daemon-stopped": "The daemon is stopped: it has its connection open and answers nothing.",
    DaemonKilledKeeperHolds = "daemon-killed-keeper-holds": "The daemon was killed, and a keeper holds its connection open.",
    DaemonSlow = "daemon-slow": "The daemon is alive and slow, in some operations or in all.",
    NotYetServed = "not-yet-served": "The mount is made, and its daemon does not serve yet.",
    MountTypeUnexpected = "mount-type-unexpected": "The producer has mounted another type than is waited for.",
    SubPathOnDeadDentry = "subpath-on-dead-dentry": "The volume is bound to a directory that has been deleted.",
    DaemonDead = "daemon-dead": "The daemon ended, and its mount stayed behind.",
    DaemonDiesWithParent = "daemon-dies-with-parent": "The daemon was killed with the process that started it, and its mount stayed behind.",
    DaemonOutOfMemory = "daemon-out-of-memory": "The daemon was killed for its memory, and its mount stayed behind.",
    UnmountBusy = "unmount-busy": "The daemon could not unmount when it was told to end, because somebody used the mount.",
    UnmountFromSharedCopy = "unmount-from-shared-copy": "An unmount in one container propagated to all others, because its volume is Bidirectional.",
    MountGone = "mount-gone": "The mount has been unmounted, and nobody has mounted again.",
    DaemonAnswersErrors = "daemon-answers-errors": "The daemon is alive and answers with errors.",
    ReadOnlyNotInherited = "read-only-not-inherited": "A read-only volume shows a mount below it that can be written.",
    MountReadOnly = "mount-read-only": "A write is refused by the kernel, because the mount is read-only.",
    StaleSourceBlocksStart = "stale-source-blocks-start": "A dead mount at the volume's source blocks the start of a container.",
    SourceMissing = "source-missing": "A volume's source is not there at a start: it was removed, or nobody has made it.",
    ImpatientProbe = "impatient-probe": "A liveness probe restarted what was not dead: it began too early, or its limit is too short.",
    RecoveryBeforeMount = "recovery-before-mount": "A recovery ran before the fresh mount was there, and found nothing to bind.",
    RecoveryRacesUnpublish = "recovery-races-unpublish": "A recovery mounted at a path again between its unmount and the removal of its directory.",
    MountLeftBehind = "mount-left-behind": "A directory cannot be removed, because something is mounted on it or in it still.",
    SourceTypeMismatch = "source-type-mismatch": "A volume's source and its place in the container are not both files or both directories.",
    StalePublishPath = "stale-publish-path": "A bind of the mount at another path is dead, and nobody has bound the fresh one there.",
    DescriptorHeld = "descriptor-held": "A descriptor that was opened before stays on the dead connection.",
    ServerAway = "server-away": "The server of a mount is away: the mount stays, and its client waits or fails until there is one again.",
    MountOutlivesDaemon = "mount-outlives-daemon": "The mount goes on after its daemon has ended.",
    ConsumerDied = "consumer-died": "A consumer ended because of the dead mount.",
    CleanUnmountWhereStackNeeded = "clean-unmount-where-stack-needed": "The stale mount was unmounted before the new one was made, which cut off the mounts that were bound to it.",
    StackedLayers = "stacked-layers": "Dead mounts lie below the live one.",
    MountsOfSeveralProducers = "mounts-of-several-producers": "Several producers mount on one path.",
    MountsMultiply = "mounts-multiply": "Mounts multiply with every start of a container.",
    SourceMadeAsDirectory = "source-made-as-directory": "The file of a volume was missing at a start, and the runtime made a directory.",
    LowerFilesystemWritten = "lower-filesystem-written": "Files lie in the directory under the mountpoint.",
    LowerFilesystemExposed = "lower-filesystem-exposed": "After an unmount consumers see the directory under the mountpoint, without an error.",
    MountedButWrongContent = "mounted-but-wrong-content": "The mount answers, and its content is not what it should be.",
    DeletedThroughMount = "deleted-through-mount": "Somebody removed the content through the mount.",
    ConsumerDidNotNotice = "consumer-did-not-notice": "A consumer went on while its mount was broken.",
    FoundByExperiment = "found-by-experiment": "No rule names it: one change alone makes it work.",
    Unexplained = "unexplained": "Something is not as expected, and no rule says why.",
}

impl fmt::Display for CauseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl From<&str> for CauseId {
    fn from(text: &str) -> Self {
        match text.parse() {
            Ok(id) => id,
        }
    }
}

impl Serialize for CauseId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CauseId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.as_str()))
    }
}

impl schemars::JsonSchema for CauseId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CauseId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let known: Vec<&str> = Self::ALL.iter().map(Self::as_str).collect();
        schemars::json_schema!({
            "type": "string",
            "description": "Id of the cause; a custom phase may have others than the examples.",
            "examples": known,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_read_back_as_they_are_written_and_are_told_apart() {
        let mut names = BTreeSet::new();
        for id in CauseId::ALL {
            assert_eq!(CauseId::from(id.as_str()), *id);
            assert!(names.insert(id.as_str()), "{id}");
            assert!(id.about().ends_with('.'), "{id}");
        }
        let own = CauseId::from("dns-search-path");
        assert_eq!(own, CauseId::Custom("dns-search-path".to_owned()));
        assert_eq!(own.to_string(), "dns-search-path");
    }
}
