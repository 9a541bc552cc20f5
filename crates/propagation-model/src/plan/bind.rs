//! How a volume is checked by the kubelet and bound by the runtime, beside its propagation.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The type that the kubelet requires of the path of a hostPath volume, by its Kubernetes name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum HostPathType {
    /// A directory; the kubelet makes it where it is absent.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file; the kubelet makes it where it is absent.
    FileOrCreate,
    /// A file.
    File,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl fmt::Display for HostPathType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// How a volume is checked and bound. By default it is not checked, and it is bound writable with all mounts below
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BindSpec {
    /// The type that the kubelet requires, checked before the runtime looks.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<HostPathType>,
    /// Whether it is read-only: its topmost mount alone, not what is or will be mounted below.
    pub read_only: bool,
    /// Whether the mounts that lie below it at the start are read-only too (Kubernetes:
    /// `recursiveReadOnly: Enabled`).
    pub recursive_read_only: bool,
    /// Whether the mounts that lie below its source are bound too. A kubelet's always are; Docker has
    /// `bind-recursive=disabled`.
    pub recursive: bool,
}

impl Default for BindSpec {
    fn default() -> Self {
        Self { kind: None, read_only: false, recursive_read_only: false, recursive: true }
    }
}

impl BindSpec {
    /// Whether it has all defaults.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
