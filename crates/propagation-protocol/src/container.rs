//! What a node and its containers are made from.

use propagation_model::marker::Marker;
use propagation_model::plan::{BindSpec, FuseSpec, NodeSpec, Propagation, Role, User};
use serde::{Deserialize, Serialize};

use crate::look::Place;

/// Instructions for the agent that makes itself a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSetup {
    /// Marks every process and mount of the run.
    pub run_id: String,
    /// Properties of the node.
    pub spec: NodeSpec,
    /// Where the bridge will be.
    pub bridge: String,
    /// Name of the mountpoint directory in it.
    pub mountpoint: String,
    /// Whether its programs may open files by their handles.
    pub files_by_handle: bool,
}

/// A bind into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Host directory or file.
    pub source: String,
    /// Where it is in the container.
    pub destination: String,
    /// Propagation of the volume.
    pub propagation: Propagation,
    /// How it is checked and bound.
    pub how: BindSpec,
}

/// A container to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its number, given by the backend; unique for the life of the node.
    pub id: u32,
    /// The workload's name, for process titles and logs.
    pub name: String,
    /// Role of its program.
    pub role: Role,
    /// Whether it is privileged: it gets the node's devices and all capabilities.
    pub privileged: bool,
    /// Capabilities beside the default ones, if it is not privileged.
    pub capabilities: Vec<String>,
    /// Its volumes, in the order in which they are bound; the first is the one under test.
    pub volumes: Vec<Bind>,
    /// The part of the first volume that the kubelet binds (subPath).
    pub sub_path: Option<String>,
    /// Whether the kubelet makes its bind for the subPath anew, as for a new pod.
    pub fresh_pod: bool,
    /// Where the FUSE mount is or will be in the container.
    pub fuse_path: String,
    /// Whether it runs as a process in the node's mount namespace instead of in a container.
    pub host: bool,
    /// Whether it has its own user namespace.
    pub user_namespace: bool,
    /// The mount namespace that it is made from.
    pub made_in: Place,
    /// Whether it contains host programs.
    pub tools: bool,
    /// The directory of the producer's filesystem at its FUSE path.
    pub directory: String,
    /// The user that its program runs as.
    pub user: User,
    /// Whether a consumer's program looks by itself whenever something happens.
    pub watches: bool,
    /// Number of equal mount views to make; each has a separate place to look from.
    pub replicas: u32,
    /// The marker that a producer serves.
    pub marker: Marker,
    /// How long a consumer waits for the marker, and a producer for an external daemon's mount.
    pub marker_ms: u64,
    /// Deadline for one of its accesses.
    pub probe_ms: u64,
    /// The filesystem that a producer serves.
    pub fuse: FuseSpec,
    /// Whether a supervisor outlives a producer's daemon.
    pub supervised: bool,
    /// Number of processes that read continuously.
    pub readers: u32,
    /// Number of processes that write continuously.
    pub writers: u32,
}
