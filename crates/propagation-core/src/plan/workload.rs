//! Workloads and the directory they share.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Mount propagation of a volume, by its Kubernetes name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "run", derive(schemars::JsonSchema))]
pub enum Propagation {
    /// `rprivate`: later mounts travel in neither direction.
    None,
    /// `rslave`: later mounts of the host show in the container.
    HostToContainer,
    /// `rshared`: later mounts travel in both directions. Needs a privileged container.
    Bidirectional,
}

impl Propagation {
    /// The mount option that a runtime gives the volume.
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

/// What a workload is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "run", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Makes the FUSE mount.
    Producer,
    /// Reads it.
    Consumer,
    /// Must not see it; shows that the experiment can come out negative.
    Control,
}

/// Which host directory a workload's volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "run", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Volume {
    /// The bridge; the FUSE mountpoint is a child of it.
    #[default]
    Bridge,
    /// The FUSE mountpoint itself.
    Mountpoint,
    /// The parent directory of the bridge.
    Ancestor,
}

/// When a workload starts, relative to the producer's first mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "run", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StartOrder {
    /// Before the producer.
    BeforeMount,
    /// After the producer has mounted.
    AfterMount,
}

/// The shared host directory and the mountpoint in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "run", derive(schemars::JsonSchema))]
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

    fn parent_and_name(&self) -> (&str, &str) {
        match self.path.rsplit_once('/') {
            Some(("", name)) => ("/", name),
            Some((parent, name)) => (parent, name),
            None => ("/", self.path.as_str()),
        }
    }
}

/// The paths of one workload's volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "run", derive(schemars::JsonSchema))]
pub struct VolumePaths {
    /// The host directory that is bound.
    pub source: String,
    /// Where it is bound in the container.
    pub destination: String,
    /// Where the FUSE mount is, seen from the container.
    pub fuse: String,
    /// Where the bridge is, seen from the container: nowhere when the volume is the mountpoint.
    pub bridge: Option<String>,
}

/// One workload of a plan, or `replicas` equal ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "run", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WorkloadSpec {
    /// A name, unique in the plan: a DNS label.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// How mounts travel between it and the node.
    pub propagation: Propagation,
    /// Which directory its volume is.
    #[serde(default)]
    pub volume: Volume,
    /// When it starts.
    pub order: StartOrder,
    /// As which user its program runs. 0 is root.
    #[serde(default)]
    pub uid: u32,
    /// As which other users its mount is read.
    #[serde(default)]
    pub also_read_as: Vec<u32>,
    /// How many equal ones; only the first runs the consumer program, all are observed.
    #[serde(default = "one")]
    pub replicas: u32,
}

fn one() -> u32 {
    1
}

impl WorkloadSpec {
    /// The only producer: root, privileged, Bidirectional, its volume the bridge.
    pub fn producer() -> Self {
        Self {
            name: "producer".into(),
            role: Role::Producer,
            propagation: Propagation::Bidirectional,
            volume: Volume::Bridge,
            order: StartOrder::BeforeMount,
            uid: 0,
            also_read_as: Vec::new(),
            replicas: 1,
        }
    }

    /// A consumer: root, HostToContainer, its volume the bridge, read as uid 1000 too.
    pub fn consumer(name: impl Into<String>, order: StartOrder) -> Self {
        Self {
            name: name.into(),
            role: Role::Consumer,
            propagation: Propagation::HostToContainer,
            volume: Volume::Bridge,
            order,
            uid: 0,
            also_read_as: vec![OTHER_UID],
            replicas: 1,
        }
    }

    /// The negative control: None, started before the mount.
    pub fn control() -> Self {
        Self {
            name: "control".into(),
            role: Role::Control,
            propagation: Propagation::None,
            volume: Volume::Bridge,
            order: StartOrder::BeforeMount,
            uid: 0,
            also_read_as: Vec::new(),
            replicas: 1,
        }
    }

    /// Whether its container is privileged: the API server refuses Bidirectional without.
    pub fn privileged(&self) -> bool {
        self.propagation == Propagation::Bidirectional
    }

    /// Where its volume lies on the node and in the container. The FUSE mount is at `/mnt/dfs` in
    /// the container whichever directory is the volume, unless the volume is an ancestor.
    ///
    /// ```
    /// use propagation_core::plan::{Bridge, Volume, WorkloadSpec, StartOrder};
    ///
    /// let mut consumer = WorkloadSpec::consumer("late", StartOrder::AfterMount);
    /// let paths = consumer.paths(&Bridge::default());
    /// assert_eq!((paths.source.as_str(), paths.destination.as_str()), ("/tmp/fuse-test-bridge", "/mnt"));
    /// assert_eq!(paths.fuse, "/mnt/dfs");
    /// consumer.volume = Volume::Mountpoint;
    /// assert_eq!(consumer.paths(&Bridge::default()).destination, "/mnt/dfs");
    /// ```
    pub fn paths(&self, bridge: &Bridge) -> VolumePaths {
        match self.volume {
            Volume::Bridge => VolumePaths {
                source: bridge.path.clone(),
                destination: "/mnt".into(),
                fuse: format!("/mnt/{}", bridge.mountpoint),
                bridge: Some("/mnt".into()),
            },
            Volume::Mountpoint => VolumePaths {
                source: bridge.fuse_path(),
                destination: format!("/mnt/{}", bridge.mountpoint),
                fuse: format!("/mnt/{}", bridge.mountpoint),
                bridge: None,
            },
            Volume::Ancestor => {
                let (parent, name) = bridge.parent_and_name();
                VolumePaths {
                    source: parent.into(),
                    destination: "/mnt".into(),
                    fuse: format!("/mnt/{name}/{}", bridge.mountpoint),
                    bridge: Some(format!("/mnt/{name}")),
                }
            }
        }
    }
}

/// The second user as whom mounts are read, to see whether `allow_other` works.
pub const OTHER_UID: u32 = 1000;
