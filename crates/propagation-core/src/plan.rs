//! What a run is to do: the node, the workloads on it, the fault, the recovery.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

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

/// What happens to the producer in phase 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "run", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// SIGKILL to every process of the workload, then its namespaces go: an out-of-memory kill, or
    /// a pod whose grace period has ended.
    #[default]
    Kill,
    /// SIGTERM: the daemon unmounts cleanly and exits.
    Terminate,
    /// SIGSTOP: the daemon is alive and does not answer.
    Stop,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Kill => "kill (SIGKILL, namespaces torn down)",
            Self::Terminate => "terminate (SIGTERM, clean unmount)",
            Self::Stop => "stop (SIGSTOP, the daemon hangs)",
        })
    }
}

/// A rung of the recovery ladder, from the smallest to the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "run", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Intervention {
    /// Nothing: the consumer recovers by itself.
    Wait,
    /// Bind the fresh mount over the mountpoint on the node.
    RebindHost,
    /// Bind the fresh mount over the stale one inside the consumer's mount namespace.
    RebindConsumer,
    /// Restart the consumer's container.
    RestartConsumer,
    /// Delete the consumer's pod and create it again.
    RecreateConsumer,
}

impl Intervention {
    /// All rungs, smallest first.
    pub const LADDER: [Self; 5] = [
        Self::Wait,
        Self::RebindHost,
        Self::RebindConsumer,
        Self::RestartConsumer,
        Self::RecreateConsumer,
    ];
}

impl fmt::Display for Intervention {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Wait => "nothing (it recovers by itself)",
            Self::RebindHost => "re-bind on the host",
            Self::RebindConsumer => "re-bind inside the consumer's mount namespace",
            Self::RestartConsumer => "restart of the consumer's container",
            Self::RecreateConsumer => "recreation of the consumer's pod",
        })
    }
}

/// How long is waited for what. All in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "run", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Deadlines {
    /// Start of a workload, until its program runs.
    pub start_ms: u64,
    /// The marker, from the start of a consumer or of a producer's generation (seed: 30 s).
    pub marker_ms: u64,
    /// One access of one actor; when it passes, the access is a `hang`.
    pub probe_ms: u64,
    /// Breakage to be noticed after a fault.
    pub breakage_ms: u64,
    /// The fresh marker to reach existing consumers by itself, once the producer serves again.
    pub recovery_ms: u64,
    /// The whole run.
    pub run_ms: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            start_ms: 30_000,
            marker_ms: 30_000,
            probe_ms: 2_000,
            breakage_ms: 5_000,
            recovery_ms: 2_000,
            run_ms: 300_000,
        }
    }
}

/// One experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "run", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The shared directory.
    #[serde(default)]
    pub bridge: Bridge,
    /// What the node is like, where the backend can choose.
    #[serde(default)]
    pub node: NodeSpec,
    /// Who takes part.
    pub workloads: Vec<WorkloadSpec>,
    /// What happens to the producer.
    #[serde(default)]
    pub fault: Fault,
    /// Which interventions are tried, smallest first.
    #[serde(default = "whole_ladder")]
    pub recovery: Vec<Intervention>,
    /// How long is waited.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// Whether the FUSE mount lets other users in.
    #[serde(default = "yes")]
    pub allow_other: bool,
}

fn whole_ladder() -> Vec<Intervention> {
    Intervention::LADDER.to_vec()
}

fn yes() -> bool {
    true
}

impl Default for Plan {
    /// The five phases of the seed: a producer, an early and a late consumer and a control.
    fn default() -> Self {
        Self {
            bridge: Bridge::default(),
            node: NodeSpec::default(),
            workloads: vec![
                WorkloadSpec::producer(),
                WorkloadSpec::consumer("consumer-early", StartOrder::BeforeMount),
                WorkloadSpec::consumer("consumer-late", StartOrder::AfterMount),
                WorkloadSpec::control(),
            ],
            fault: Fault::default(),
            recovery: whole_ladder(),
            deadlines: Deadlines::default(),
            allow_other: true,
        }
    }
}

impl Plan {
    /// The producer. A valid plan has exactly one.
    pub fn producer(&self) -> Option<&WorkloadSpec> {
        self.workloads.iter().find(|workload| workload.role == Role::Producer)
    }

    /// The workloads with a role, in the order of the plan.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &WorkloadSpec> {
        self.workloads.iter().filter(move |workload| workload.role == role)
    }

    /// The deadline for one access.
    pub fn probe_deadline(&self) -> Duration {
        Duration::from_millis(self.deadlines.probe_ms)
    }

    /// Checks that the plan can be run at all, before anything is touched.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a bridge that is not a clean absolute path, a mountpoint
    /// that is not one name, names that are not unique DNS labels, no producer or several, a
    /// producer that is not Bidirectional, a control that could see the mount.
    pub fn validate(&self) -> Result<(), Error> {
        self.validate_bridge()?;
        let mut names: Vec<&str> = self.workloads.iter().map(|w| w.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(invalid(
                format!("workload {:?}", pair[0]),
                "the name is used twice",
                "give every workload its own name",
            ));
        }
        for workload in &self.workloads {
            validate_workload(workload)?;
        }
        let producers = self.with_role(Role::Producer).count();
        if producers != 1 {
            return Err(invalid(
                "workloads",
                format!("{producers} producers, and exactly 1 is needed"),
                "keep one workload with role producer",
            ));
        }
        Ok(())
    }

    fn validate_bridge(&self) -> Result<(), Error> {
        let path = self.bridge.path.as_str();
        let refuse =
            |reason: &str, fix: &str| Err(invalid(format!("bridge {path:?}"), reason, fix));
        if !path.starts_with('/') {
            return refuse(
                "is not an absolute path",
                "write it from the root: /tmp/fuse-test-bridge",
            );
        }
        if path.contains('\0') || self.bridge.mountpoint.contains('\0') {
            return refuse("contains a NUL byte", "remove it: no path can contain one");
        }
        if path.len() > 4000 {
            return refuse("is longer than a path can be (4,095 bytes)", "use a shorter path");
        }
        let mut parts = path[1..].split('/');
        if parts.any(|part| part.is_empty() || part == "." || part == "..") {
            return refuse(
                "has an empty, `.` or `..` component",
                "write the path without `//`, `.`, `..` and without a slash at the end",
            );
        }
        if let Some(long) = path[1..].split('/').find(|part| part.len() > 255) {
            return refuse(
                &format!("has a component of {} bytes, and 255 is the most", long.len()),
                "use shorter names",
            );
        }
        if ["/proc", "/sys", "/dev"]
            .iter()
            .any(|top| path == *top || path.starts_with(&format!("{top}/")))
        {
            return refuse(
                "lies on a kernel filesystem",
                "use a directory on a disk or tmpfs, such as /tmp/fuse-test-bridge",
            );
        }
        let name = self.bridge.mountpoint.as_str();
        if name.is_empty() || name == "." || name == ".." || name.contains('/') || name.len() > 255
        {
            return Err(invalid(
                format!("mountpoint {name:?}"),
                "is not the name of one directory in the bridge",
                "use a single name such as dfs",
            ));
        }
        Ok(())
    }
}

fn validate_workload(workload: &WorkloadSpec) -> Result<(), Error> {
    let subject = format!("workload {:?}", workload.name);
    let name = &workload.name;
    let label = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !label {
        return Err(invalid(
            subject,
            "the name is not a DNS label",
            "use 1 to 63 of a-z, 0-9 and -, not starting or ending with -",
        ));
    }
    if workload.replicas == 0 {
        return Err(invalid(subject, "0 replicas", "use 1 or more, or leave the workload out"));
    }
    match workload.role {
        Role::Producer if workload.propagation != Propagation::Bidirectional => Err(invalid(
            subject,
            format!("a producer with {} cannot send its mount to the host", workload.propagation),
            "use Bidirectional for the producer",
        )),
        Role::Producer if workload.replicas != 1 => {
            Err(invalid(subject, "several replicas of a producer", "use 1 replica"))
        }
        Role::Control
            if workload.propagation != Propagation::None
                || workload.order != StartOrder::BeforeMount =>
        {
            Err(invalid(
                subject,
                "a control must be None and start before the mount: started later it copies the \
                 mount with its first bind",
                "use propagation None and order before_mount",
            ))
        }
        _ => Ok(()),
    }
}

fn invalid(subject: impl Into<String>, reason: impl Into<String>, fix: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, subject, reason).with_fix(fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_bridge(path: &str) -> Plan {
        Plan { bridge: Bridge { path: path.into(), ..Bridge::default() }, ..Plan::default() }
    }

    #[test]
    fn the_default_plan_is_valid() {
        Plan::default().validate().expect("the five phases");
    }

    #[test]
    fn bridges_that_cannot_be_are_refused_with_a_fix() {
        let long = format!("/tmp/{}", "x".repeat(256));
        for path in [
            "",
            "bridge",
            "./x",
            "/tmp/../x",
            "/tmp//x",
            "/tmp/x/",
            "/",
            "/proc/x",
            &long,
            "/tmp/\0",
        ] {
            let error = with_bridge(path).validate().expect_err(path);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}");
            assert!(error.fix().is_some(), "{path:?}");
        }
    }

    #[test]
    fn odd_but_possible_bridges_are_accepted() {
        for path in ["/tmp/a b", "/tmp/new\nline", "/tmp/tab\there", "/tmp/ü#\\"] {
            with_bridge(path).validate().expect(path);
        }
    }

    #[test]
    fn roles_are_checked() {
        let mut plan = Plan::default();
        plan.workloads[0].propagation = Propagation::HostToContainer;
        assert!(plan.validate().is_err(), "a producer that cannot send");
        let mut plan = Plan::default();
        plan.workloads[3].order = StartOrder::AfterMount;
        assert!(plan.validate().is_err(), "a control that would see the mount");
        let mut plan = Plan::default();
        plan.workloads.remove(0);
        assert!(plan.validate().is_err(), "no producer");
        let mut plan = Plan::default();
        plan.workloads[1].name = plan.workloads[2].name.clone();
        assert!(plan.validate().is_err(), "a name twice");
    }

    #[test]
    fn an_ancestor_at_the_top_is_the_root() {
        let bridge = Bridge { path: "/bridge".into(), mountpoint: "dfs".into() };
        let mut consumer = WorkloadSpec::consumer("c", StartOrder::AfterMount);
        consumer.volume = Volume::Ancestor;
        let paths = consumer.paths(&bridge);
        assert_eq!((paths.source.as_str(), paths.fuse.as_str()), ("/", "/mnt/bridge/dfs"));
    }
}
