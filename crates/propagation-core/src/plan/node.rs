//! What a simulated node is like.

use serde::{Deserialize, Serialize};

/// How the mount that covers the bridge is made on a simulated node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "run", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Covering {
    /// Shared, as systemd leaves `/`.
    #[default]
    Shared,
    /// A slave: receives, does not send.
    Slave,
    /// Private, as on a host without systemd.
    Private,
}

/// What a simulated node is like. A real node is what it is: its backend checks that it can be
/// used and refuses what it cannot change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "run", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct NodeSpec {
    /// Propagation of the mount that covers the bridge.
    pub covering: Covering,
    /// Content of the node's `/etc/fuse.conf`; none leaves the file out.
    pub fuse_conf: Option<String>,
    /// Content of the containers' own `/etc/fuse.conf`; none leaves the file out.
    pub container_fuse_conf: Option<String>,
    /// Whether the bridge directory is left for the run to make (the default) or is something
    /// else already.
    pub bridge: BridgeState,
    /// Whether host programs (`/usr`) are left out of the node, so that there is no fusermount3.
    pub without_host_tools: bool,
    /// Size of the node's own filesystem in bytes; 0 for no limit.
    pub disk_bytes: u64,
    /// Whether the filesystem that holds the bridge is read-only.
    pub read_only: bool,
}

/// What is at the bridge path of a simulated node before the run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "run", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BridgeState {
    /// Nothing.
    #[default]
    Missing,
    /// An empty directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link to a directory.
    Symlink,
}
