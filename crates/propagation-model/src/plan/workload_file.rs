//! A workload as a scenario file writes it.

use serde::Deserialize;

use super::bind::BindSpec;
use super::fuse::FuseSpec;
use super::{ExtraVolume, Propagation, Role, StartOrder, Volume, WorkloadSpec};

/// A workload as written: what is left out follows from the role.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkloadFile {
    /// A name, unique in the plan: a DNS label.
    name: String,
    /// Its role.
    role: Role,
    /// Mount propagation of its volume; by default Bidirectional for a producer, None for a control and
    /// HostToContainer for a consumer.
    propagation: Option<Propagation>,
    /// The directory or file of its volume.
    #[serde(default)]
    volume: Volume,
    /// The part of the volume that is bound, as the kubelet does it for a `subPath`.
    sub_path: Option<String>,
    /// How its volume is checked and bound.
    #[serde(default)]
    bind: BindSpec,
    /// When it starts; by default after the mount for a consumer, before it otherwise.
    order: Option<StartOrder>,
    /// UID that its program runs as, and that it looks as. 0 is root.
    #[serde(default)]
    uid: u32,
    /// Supplementary GIDs of its program, and of its looks as its own user.
    #[serde(default)]
    groups: Vec<u32>,
    /// Other UIDs that read its mount.
    #[serde(default)]
    also_read_as: Vec<u32>,
    /// Number of equal workloads; only the first runs the consumer program, all are observed.
    #[serde(default = "one")]
    replicas: u32,
    /// Whether its container is privileged; by default when it is Bidirectional.
    privileged: Option<bool>,
    /// Capabilities of a container that is not privileged, in addition to the default ones.
    #[serde(default)]
    capabilities: Vec<String>,
    /// Whether it runs as a process in the node's mount namespace instead of in a container.
    #[serde(default)]
    host: bool,
    /// Whether its container has its own user namespace.
    #[serde(default)]
    user_namespace: bool,
    /// Whether another runtime makes it, which lives in the node's mount namespace.
    #[serde(default)]
    outside_runtime: bool,
    /// Whether process 1 of its container is a supervisor, which outlives the daemon.
    #[serde(default)]
    supervised: bool,
    /// Whether its container has a liveness probe that lists the mount, and ends the container where that fails.
    #[serde(default)]
    liveness_probe: bool,
    /// Additional volumes.
    #[serde(default)]
    volumes: Vec<ExtraVolume>,
    /// Number of its processes that read, list and open continuously.
    #[serde(default)]
    readers: u32,
    /// Number of its processes that write continuously.
    #[serde(default)]
    writers: u32,
    /// The filesystem that it serves instead of the plan's.
    fuse: Option<FuseSpec>,
}

impl WorkloadFile {
    /// What names only its role.
    pub(super) fn new(name: String, role: Role) -> Self {
        Self {
            name,
            role,
            propagation: None,
            volume: Volume::Bridge,
            sub_path: None,
            bind: BindSpec::default(),
            order: None,
            uid: 0,
            groups: Vec::new(),
            also_read_as: Vec::new(),
            replicas: 1,
            privileged: None,
            capabilities: Vec::new(),
            host: false,
            user_namespace: false,
            outside_runtime: false,
            supervised: false,
            liveness_probe: false,
            volumes: Vec::new(),
            readers: 0,
            writers: 0,
            fuse: None,
        }
    }
}

impl From<WorkloadFile> for WorkloadSpec {
    fn from(file: WorkloadFile) -> Self {
        let (propagation, order) = match file.role {
            Role::Producer => (Propagation::Bidirectional, StartOrder::BeforeMount),
            Role::Consumer => (Propagation::HostToContainer, StartOrder::AfterMount),
            Role::Control => (Propagation::None, StartOrder::BeforeMount),
        };
        Self {
            name: file.name,
            role: file.role,
            propagation: file.propagation.unwrap_or(propagation),
            volume: file.volume,
            sub_path: file.sub_path,
            bind: file.bind,
            order: file.order.unwrap_or(order),
            uid: file.uid,
            groups: file.groups,
            also_read_as: file.also_read_as,
            replicas: file.replicas,
            privileged: file.privileged,
            capabilities: file.capabilities,
            host: file.host,
            user_namespace: file.user_namespace,
            outside_runtime: file.outside_runtime,
            supervised: file.supervised,
            liveness_probe: file.liveness_probe,
            volumes: file.volumes,
            readers: file.readers,
            writers: file.writers,
            fuse: file.fuse,
        }
    }
}

fn one() -> u32 {
    1
}
