//! Properties of a simulated node.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Propagation of the mount that covers the bridge on a simulated node.
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
    /// A separate tmpfs, shared, as `/run` and `/tmp` often are.
    Tmpfs,
}

/// A mount of a simulated node on the way from `/` to its bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeMount {
    /// Its mountpoint, an absolute path.
    pub at: String,
    /// Its propagation; `tmpfs` is the same as `shared` here.
    pub propagation: Covering,
}

/// Mount namespace of the container runtime on a simulated node.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeNamespace {
    /// The node's own.
    #[default]
    Host,
    /// A separate one, with peers of the node's mounts: mounts propagate both ways.
    Shared,
    /// A separate one, with slaves of the node's mounts: it refuses Bidirectional volumes.
    Slave,
    /// A separate one, with slaves of the node's mounts that are shared among its containers, as in a
    /// node in a container or a service with `MountFlags=slave`: mounts made below it do not reach the
    /// node.
    SlaveShared,
    /// A separate one, disconnected from the node's.
    Private,
}

/// The engine that makes the containers of a simulated node: `builtin`, `runc`, `crun`, or the absolute path of an
/// OCI runtime.
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

/// An unknown engine that is not an absolute path either.
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
    /// The engine that makes the containers.
    pub engine: Engine,
    /// Its mount namespace.
    pub namespace: RuntimeNamespace,
    /// Whether it has its own user namespace, as rootless engines do: its mount namespace then holds
    /// slaves of the node's mounts.
    pub user_namespace: bool,
}

impl RuntimeSpec {
    /// Whether its mount namespace is separate from the node's.
    pub fn is_apart(&self) -> bool {
        self.namespace != RuntimeNamespace::Host || self.user_namespace
    }

    /// Whether containers are made by the built-in engine.
    pub fn is_builtin(&self) -> bool {
        self.engine == Engine::Builtin
    }
}

/// Properties of a simulated node. A real node cannot be shaped: its backend checks that it can be
/// used, and refuses what it cannot change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NodeSpec {
    /// Propagation of the mount that covers the bridge.
    pub covering: Covering,
    /// The mounts on the way from `/` to the bridge, in that order; where there are some, they are made in place of the
    /// one that `covering` stands for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<NodeMount>,
    /// Content of the node's `/etc/fuse.conf`; none leaves the file out.
    pub fuse_conf: Option<String>,
    /// Content of the containers' own `/etc/fuse.conf`; none leaves the file out.
    pub container_fuse_conf: Option<String>,
    /// Whether the bridge directory is absent at the start (the default), so that the run makes it, or
    /// is something else.
    pub bridge: BridgeState,
    /// Whether host programs (`/usr`) are left out of the node, so that fusermount3 is absent.
    pub without_host_tools: bool,
    /// Size of the node's own filesystem in bytes; 0 for no limit.
    pub disk_bytes: u64,
    /// Whether the filesystem that holds the bridge is read-only.
    pub read_only: bool,
    /// The container runtime.
    pub runtime: RuntimeSpec,
    /// Whether the kubelet replaces the dead bind of a subPath when a container restarts (Kubernetes 1.36 does,
    /// older versions do not).
    pub kubelet_heals_sub_path: bool,
}

/// Content of the bridge path of a simulated node before the run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BridgeState {
    /// It is absent.
    #[default]
    Missing,
    /// An empty directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link to a directory.
    Symlink,
}
