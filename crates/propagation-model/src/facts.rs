//! Facts about a node: read by the agent, judged by the phase `host_setup`.

use serde::{Deserialize, Serialize};

use crate::confinement::Confinement;
use crate::errno::Errno;
use crate::kernel::FeatureFact;
use crate::mountinfo::MountEntry;

/// The state of `/dev/fuse` as the agent found it by opening it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum FuseDevice {
    /// It opens for reading and writing.
    Usable,
    /// Opening it failed.
    Unusable {
        /// The errno: `ENOENT` (no device), `EACCES` (its mode, or a mount with
        /// `nodev`), `EPERM` (device control group or seccomp), `ENODEV` (no driver).
        errno: Errno,
    },
}

/// What is at the bridge path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PathState {
    /// A directory.
    Directory,
    /// It is absent.
    Missing,
    /// Something else than a directory.
    Other {
        /// `a regular file`, `a symbolic link to …`, …
        what: String,
    },
    /// Looking at it failed, for example with `ENOTCONN` on a dead mount.
    Error {
        /// The errno.
        errno: Errno,
    },
}

/// A `fuse.conf` file, and the part of it that matters here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FuseConf {
    /// Its path in the namespace it was read in.
    pub path: String,
    /// Whether the file exists.
    pub exists: bool,
    /// Whether it has an uncommented `user_allow_other` line.
    pub user_allow_other: bool,
}

/// Facts about a node, all read without changing anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HostFacts {
    /// Host name.
    pub hostname: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// `uname -m`.
    pub architecture: String,
    /// The user the agent runs as, in the namespace it runs in.
    pub uid: u32,
    /// Whether the node lives in a user namespace that an ordinary user made.
    pub user_namespace: bool,
    /// Number of user ids in that namespace (4294967295 on a host).
    pub mapped_uids: u64,
    /// `/dev/fuse`.
    pub fuse_device: FuseDevice,
    /// Whether the mode of `/dev/fuse` lets every user open it.
    pub fuse_device_for_all: bool,
    /// Where `fusermount3` is.
    pub fusermount3: Option<String>,
    /// Where the older `fusermount` (FUSE 2) is.
    pub fusermount: Option<String>,
    /// `/etc/fuse.conf` where fusermount would read it on this node.
    pub fuse_conf: FuseConf,
    /// What is at the bridge path.
    pub bridge: PathState,
    /// The mount that covers the bridge path, from the runtime's mount namespace.
    pub covering_mount: Option<MountEntry>,
    /// For a simulated node: the mount that covers the bridge path on the machine that it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_covering_mount: Option<MountEntry>,
    /// Active Linux security modules (`/sys/kernel/security/lsm`), empty where not readable.
    pub lsm: Vec<String>,
    /// What these modules go by, as far as it concerns FUSE mounts. The profiles of AppArmor can be read by root
    /// only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confinement: Vec<Confinement>,
    /// `v1`, `v2`, `hybrid` or `none`.
    pub cgroup: String,
    /// Whether mounts can be watched through fanotify (`FAN_REPORT_MNT`, Linux 6.15; in user
    /// namespaces 6.16).
    pub fanotify_mount_events: bool,
    /// Kernel features that matter here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel: Vec<FeatureFact>,
    /// Soft and hard limit of open descriptors of the agent.
    pub open_files: (u64, u64),
    /// `user.max_mnt_namespaces` of the user namespace, where readable.
    pub max_mnt_namespaces: Option<u64>,
    /// Container runtime and its version, where there is one.
    pub runtime: Option<String>,
    /// Kubelet version, where there is one.
    pub kubelet: Option<String>,
}

impl HostFacts {
    /// The mount that covers the bridge on the machine of a simulated node, where it propagates otherwise than the
    /// node's: then an answer of the node is none for the machine.
    pub fn unlike_machine(&self) -> Option<&MountEntry> {
        let real = self.machine_covering_mount.as_ref()?;
        let simulated = self.covering_mount.as_ref()?;
        (real.propagation() != simulated.propagation()).then_some(real)
    }
}
