//! What a simulated node is like.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How the mount that covers the bridge is made on a simulated node.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Covering {
    /// Shared, as systemd leaves `/`.
    #[default]
    Shared,
    /// A slave: receives, does not send.
    Slave,
    /// Private, as on a host without systemd.
    Private,
    /// A tmpfs of its own, shared, as `/run` and `/tmp` often are.
    Tmpfs,
}

/// In which mount namespace the container runtime lives on a simulated node.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeNamespace {
    /// The node's own.
    #[default]
    Host,
    /// One of its own, whose mounts are peers of the node's: mounts travel both ways.
    Shared,
    /// One of its own, whose mounts are slaves of the node's: it refuses Bidirectional volumes.
    Slave,
    /// One of its own, whose mounts are slaves of the node's and shared among its containers, as a
    /// node in a container or a service with `MountFlags=slave` has it: mounts made below it do not
    /// reach the node.
    SlaveShared,
    /// One of its own, cut off from the node's.
    Private,
}

/// What makes the containers of a simulated node. Written `builtin`, `runc`, `crun`, or as the absolute path of
/// an OCI runtime.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Engine {
    /// The agent, in the order of containerd and runc.
    #[default]
    Builtin,
    /// The `runc` of this machine.
    Runc,
    /// The `crun` of this machine.
    Crun,
    /// The OCI runtime at this path.
    At(String),
}

/// A word that is no engine, and no absolute path of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown runtime {0:?}; use builtin, runc, crun, or the absolute path of an OCI runtime")]
pub struct UnknownEngine(pub String);

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(word: &str) -> Result<Self, UnknownEngine> {
        match word {
            "builtin" => Ok(Self::Builtin),
            "runc" => Ok(Self::Runc),
            "crun" => Ok(Self::Crun),
            path if path.starts_with('/') => Ok(Self::At(path.to_owned())),
            other => Err(UnknownEngine(other.to_owned())),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Builtin => "builtin",
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::At(path) => path,
        })
    }
}

impl Serialize for Engine {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Engine {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Engine {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Engine".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(builtin|runc|crun|/.+)$",
            "description": "builtin, runc, crun, or the absolute path of an OCI runtime.",
        })
    }
}

/// The container runtime of a simulated node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeSpec {
    /// What makes the containers.
    pub engine: Engine,
    /// In which mount namespace it lives.
    pub namespace: RuntimeNamespace,
    /// Whether it lives in a user namespace of its own, as rootless engines do: its mount namespace
    /// then holds slaves of the node's mounts.
    pub user_namespace: bool,
}

impl RuntimeSpec {
    /// Whether it has a mount namespace that is not the node's.
    pub fn is_apart(&self) -> bool {
        self.namespace != RuntimeNamespace::Host || self.user_namespace
    }

    /// Whether containers are made by the built-in engine.
    pub fn is_builtin(&self) -> bool {
        self.engine == Engine::Builtin
    }
}

/// What a simulated node is like. A real node is what it is: its backend checks that it can be
/// used and refuses what it cannot change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
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
    /// The container runtime.
    pub runtime: RuntimeSpec,
    /// Whether the kubelet takes off and re-makes the bind of a subPath that is dead when a container
    /// restarts (Kubernetes 1.36 does, older ones do not).
    pub kubelet_heals_sub_path: bool,
}

/// What is at the bridge path of a simulated node before the run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
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
