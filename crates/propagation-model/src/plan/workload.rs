//! Workloads and the directory they share.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bind::BindSpec;
use super::fuse::FuseSpec;
use super::user::User;
use super::workload_file::WorkloadFile;
use crate::marker::MARKER_FILE;

/// Mount propagation of a volume, by its Kubernetes name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Propagation {
    /// `rprivate`: later mounts propagate in neither direction.
    None,
    /// `rslave`: later mounts of the host propagate to the container.
    HostToContainer,
    /// `rshared`: later mounts propagate in both directions. Needs a privileged container.
    Bidirectional,
}

impl Propagation {
    /// The mount option that a runtime sets on the volume.
    pub fn mount_option(self) -> &'static str {
        match self {
            Self::None => "rprivate",
            Self::HostToContainer => "rslave",
            Self::Bidirectional => "rshared",
        }
    }
}

impl fmt::Display for Propagation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "None",
            Self::HostToContainer => "HostToContainer",
            Self::Bidirectional => "Bidirectional",
        })
    }
}

/// Role of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Makes the FUSE mount.
    Producer,
    /// Reads the mount.
    Consumer,
    /// Must not see the mount; shows that the experiment can come out negative.
    Control,
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Role {
    /// Its name in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::Control => "control",
        }
    }
}

/// The host directory or file of a workload's volume.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Volume {
    /// The bridge; the FUSE mountpoint is a child of it.
    #[default]
    Bridge,
    /// The FUSE mountpoint itself.
    Mountpoint,
    /// The parent directory of the bridge.
    Ancestor,
    /// The marker file in the FUSE mount, as a volume that is one file.
    File,
    /// Any directory of the node, by its absolute path.
    Path(String),
}

/// When a workload starts, relative to the producer's first mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartOrder {
    /// Before the producer.
    BeforeMount,
    /// After the producer has mounted.
    AfterMount,
}

/// The shared host directory and the mountpoint in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bridge {
    /// Absolute path of the bridge on the node.
    pub path: String,
    /// Name of the directory in it that the producer mounts on.
    pub mountpoint: String,
}

impl Default for Bridge {
    fn default() -> Self {
        Self { path: "/tmp/fuse-test-bridge".into(), mountpoint: "dfs".into() }
    }
}

impl Bridge {
    /// Absolute path of the FUSE mountpoint on the node.
    pub fn fuse_path(&self) -> String {
        format!("{}/{}", self.path, self.mountpoint)
    }

    /// Replaces `{bridge}` and `{mountpoint}` by the paths of the node.
    pub fn fill(&self, text: &str) -> String {
        text.replace("{mountpoint}", &self.fuse_path()).replace("{bridge}", &self.path)
    }

    fn parent_and_name(&self) -> (&str, &str) {
        match self.path.rsplit_once('/') {
            Some(("", name)) => ("/", name),
            Some((parent, name)) => (parent, name),
            None => ("/", self.path.as_str()),
        }
    }
}

/// The paths of one workload's volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct VolumePaths {
    /// The host directory, or file, that is bound. With a subPath the directory that the subPath is
    /// relative to.
    pub source: String,
    /// Where it is bound in the container.
    pub destination: String,
    /// Where the FUSE mount is, seen from the container.
    pub fuse: String,
    /// Mountpoint of the mount that the container sees: `fuse`, or the file in it where the volume is that file.
    pub mount_point: String,
    /// Where the bridge is, seen from the container; none when the volume is the mountpoint.
    pub bridge: Option<String>,
}

/// An additional volume of a workload, beside the one under test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtraVolume {
    /// Absolute path of the host directory or file; `{bridge}` and `{mountpoint}` stand for those
    /// paths. A directory that is missing is made, as containerd does.
    pub source: String,
    /// Absolute path in the container. It may lie inside another volume.
    pub destination: String,
    /// Mount propagation between the volume and the node.
    #[serde(default = "no_propagation")]
    pub propagation: Propagation,
    /// How it is checked and bound.
    #[serde(default, skip_serializing_if = "BindSpec::is_default")]
    pub bind: BindSpec,
}

fn no_propagation() -> Propagation {
    Propagation::None
}

/// One workload of a plan, or `replicas` equal ones; [`WorkloadSpec::new`] has the defaults of its role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(from = "WorkloadFile")]
#[non_exhaustive]
pub struct WorkloadSpec {
    /// A name, unique in the plan: a DNS label.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Mount propagation between its volume and the node.
    pub propagation: Propagation,
    /// The directory or file of its volume.
    pub volume: Volume,
    /// The part of the volume that is bound, relative to it, as the kubelet does it for a
    /// `subPath`: a bind of the kubelet's own, made when the pod starts and kept over restarts of its
    /// containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
    /// How its volume is checked and bound.
    #[serde(skip_serializing_if = "BindSpec::is_default")]
    pub bind: BindSpec,
    /// When it starts.
    pub order: StartOrder,
    /// UID that its program runs as, and that it looks as. 0 is root.
    pub uid: u32,
    /// Supplementary GIDs of its program, and of its looks as its own user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u32>,
    /// Other UIDs that read its mount.
    pub also_read_as: Vec<u32>,
    /// Number of equal workloads; only the first runs the consumer program, all are observed.
    pub replicas: u32,
    /// Whether its container is privileged; by default when it is Bidirectional.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// Capabilities of a container that is not privileged, in addition to the default ones, such as
    /// `SYS_ADMIN`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Whether it runs as a process in the node's mount namespace instead of in a container.
    #[serde(skip_serializing_if = "is_false")]
    pub host: bool,
    /// Whether its container has its own user namespace (Kubernetes: `hostUsers: false`).
    #[serde(skip_serializing_if = "is_false")]
    pub user_namespace: bool,
    /// Whether another runtime makes it from the node's mount namespace, although the plan's runtime
    /// has a separate one.
    #[serde(skip_serializing_if = "is_false")]
    pub outside_runtime: bool,
    /// Whether process 1 of its container is a supervisor, which outlives the daemon.
    #[serde(skip_serializing_if = "is_false")]
    pub supervised: bool,
    /// Whether its container has a liveness probe that lists the mount, if it is a producer: after a fault it looks
    /// once, for as long as one access may take, and ends a container whose daemon does not answer or answers with
    /// an error. In a scenario the container is restarted at once, in the five phases by the phase `recovery`.
    #[serde(skip_serializing_if = "is_false")]
    pub liveness_probe: bool,
    /// Additional volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<ExtraVolume>,
    /// Number of its processes that read, list and open continuously.
    #[serde(skip_serializing_if = "is_zero")]
    pub readers: u32,
    /// Number of its processes that write continuously.
    #[serde(skip_serializing_if = "is_zero")]
    pub writers: u32,
    /// The filesystem that it serves instead of the plan's, if it is a producer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuse: Option<FuseSpec>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl WorkloadSpec {
    /// A workload of a role with its defaults: a producer is Bidirectional; a consumer is HostToContainer and
    /// starts after the mount; a control is None and starts before it. All are root, and their volume is the
    /// bridge.
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        WorkloadFile::new(name.into(), role).into()
    }

    /// The only producer: root, privileged, Bidirectional, its volume the bridge.
    pub fn producer() -> Self {
        Self::new("producer", Role::Producer)
    }

    /// A consumer: root, HostToContainer, its volume the bridge, read as UID 1000 too.
    pub fn consumer(name: impl Into<String>, order: StartOrder) -> Self {
        Self { order, also_read_as: vec![OTHER_UID], ..Self::new(name, Role::Consumer) }
    }

    /// The negative control: None, started before the mount.
    pub fn control() -> Self {
        Self::new("control", Role::Control)
    }

    /// The workload with changes.
    ///
    /// ```
    /// use propagation_model::plan::{Role, Volume, WorkloadSpec};
    ///
    /// let spec = WorkloadSpec::new("app", Role::Consumer).with(|spec| {
    ///     spec.volume = Volume::Mountpoint;
    ///     spec.uid = 1000;
    /// });
    /// assert_eq!((spec.volume, spec.uid, spec.replicas), (Volume::Mountpoint, 1000, 1));
    /// ```
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The user that its program runs as, and that it looks as.
    pub fn user(&self) -> User {
        User { uid: self.uid, groups: self.groups.clone() }
    }

    /// Whether its container is privileged: the API server refuses Bidirectional without.
    pub fn privileged(&self) -> bool {
        self.privileged.unwrap_or(self.propagation == Propagation::Bidirectional)
    }

    /// Paths of its volume on the node and in the container. The FUSE mount is at `/mnt/dfs` in the
    /// container whichever directory is the volume, unless the volume is an ancestor.
    ///
    /// ```
    /// use propagation_model::plan::{Bridge, Volume, WorkloadSpec, StartOrder};
    ///
    /// let mut consumer = WorkloadSpec::consumer("late", StartOrder::AfterMount);
    /// let paths = consumer.paths(&Bridge::default());
    /// assert_eq!((paths.source.as_str(), paths.destination.as_str()), ("/tmp/fuse-test-bridge", "/mnt"));
    /// assert_eq!(paths.fuse, "/mnt/dfs");
    /// consumer.volume = Volume::Mountpoint;
    /// assert_eq!(consumer.paths(&Bridge::default()).destination, "/mnt/dfs");
    /// ```
    pub fn paths(&self, bridge: &Bridge) -> VolumePaths {
        let fuse = format!("/mnt/{}", bridge.mountpoint);
        let (source, destination, in_bridge) = match &self.volume {
            Volume::Bridge => (bridge.path.clone(), "/mnt".into(), Some("/mnt".into())),
            Volume::Mountpoint => (bridge.fuse_path(), fuse.clone(), None),
            Volume::File => {
                let file = |directory: &str| format!("{directory}/{MARKER_FILE}");
                (file(&bridge.fuse_path()), file(&fuse), None)
            }
            Volume::Path(path) => (path.clone(), fuse.clone(), None),
            Volume::Ancestor => {
                let (parent, name) = bridge.parent_and_name();
                let there = format!("/mnt/{name}");
                let fuse = format!("{there}/{}", bridge.mountpoint);
                let paths = (parent.to_owned(), "/mnt".to_owned(), Some(there));
                return self.placed(bridge, paths, fuse);
            }
        };
        self.placed(bridge, (source, destination, in_bridge), fuse)
    }

    /// The paths of a volume, for a container or a process of the node, with or without a subPath.
    fn placed(
        &self,
        bridge: &Bridge,
        (source, destination, in_bridge): (String, String, Option<String>),
        fuse: String,
    ) -> VolumePaths {
        if self.host {
            let fuse = match &self.volume {
                Volume::Path(path) => path.clone(),
                _ => bridge.fuse_path(),
            };
            let (destination, mount_point) = (source.clone(), fuse.clone());
            let bridge = Some(bridge.path.clone());
            return VolumePaths { source, destination, fuse, mount_point, bridge };
        }
        if self.sub_path.is_some() {
            let fuse = format!("/mnt/{}", bridge.mountpoint);
            let (destination, mount_point) = (fuse.clone(), fuse.clone());
            return VolumePaths { source, destination, fuse, mount_point, bridge: None };
        }
        let mount_point = match self.volume {
            Volume::File => destination.clone(),
            _ => fuse.clone(),
        };
        VolumePaths { source, destination, fuse, mount_point, bridge: in_bridge }
    }

    /// Path on the node of the mount that it makes or looks at: for a producer its mountpoint.
    ///
    /// ```
    /// use propagation_model::plan::{Bridge, Role, Volume, WorkloadSpec};
    ///
    /// let mut producer = WorkloadSpec::new("second", Role::Producer);
    /// assert_eq!(producer.path_on_node(&Bridge::default()), "/tmp/fuse-test-bridge/dfs");
    /// producer.volume = Volume::Path("/srv/second".into());
    /// assert_eq!(producer.path_on_node(&Bridge::default()), "/srv/second");
    /// ```
    pub fn path_on_node(&self, bridge: &Bridge) -> String {
        match (&self.volume, &self.sub_path) {
            (_, Some(part)) => format!("{}/{part}", self.paths(bridge).source),
            (Volume::Path(path), None) => path.clone(),
            (_, None) => bridge.fuse_path(),
        }
    }
}

/// UID of the second user that reads mounts, to test `allow_other`.
pub const OTHER_UID: u32 = 1000;
