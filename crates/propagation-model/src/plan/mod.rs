//! Plans: the input of a run, with the workloads on a node, the faults, and the recovery.

mod bind;
mod bounds;
mod capability;
mod contradiction;
mod expect;
mod expectation;
mod fault;
mod fuse;
mod node;
mod path_problems;
mod placeholder;
mod problem;
mod programs;
mod repair;
mod requires;
mod resolved;
mod step;
mod step_problems;
mod transport;
mod user;
mod validate;
mod workload;
mod workload_file;
mod workload_problems;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cause::CauseId;
use crate::kernel::Version;

pub use bind::{BindSpec, HostPathType};
pub use expect::{Aspect, Device, Expected, Subject};
pub use fault::{Fault, FaultKind, Operation, PerOperation};
pub use fuse::{FuseSpec, MarkerPlace, Stale};
pub use node::{BridgeState, Covering, Engine, NodeMount, NodeSpec, RuntimeNamespace, RuntimeSpec};
pub use problem::Problem;
pub use repair::Repair;
pub use resolved::ResolvedPath;
pub use step::{Action, Names, PhaseName, Step};
use step_problems::step_problems;
pub use user::User;
pub use workload::{
    Bridge, ExtraVolume, OTHER_UID, Propagation, Role, StartOrder, Volume, VolumePaths,
    WorkloadSpec,
};

use crate::observation::Actor;

/// Deadlines for waiting, all in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Deadlines {
    /// Start of a workload, until its program runs.
    pub start_ms: u64,
    /// The marker, from the start of a consumer or of a producer's generation.
    pub marker_ms: u64,
    /// One access of one actor; when it passes, the access is a `hang`.
    pub probe_ms: u64,
    /// Breakage to be noticed after a fault.
    pub breakage_ms: u64,
    /// The fresh marker to reach existing consumers by itself, once the producer serves again; at least 30 s where their
    /// mount is the client of a server.
    pub recovery_ms: u64,
    /// The whole run.
    pub run_ms: u64,
}

impl Deadlines {
    /// All deadlines multiplied by a factor: for a machine on which everything takes longer.
    ///
    /// ```
    /// use propagation_model::plan::Deadlines;
    ///
    /// assert_eq!(Deadlines::default().times(3).probe_ms, 6_000);
    /// ```
    #[must_use]
    pub fn times(&self, factor: u32) -> Self {
        let times = |ms: u64| ms.saturating_mul(factor.into());
        Self {
            start_ms: times(self.start_ms),
            marker_ms: times(self.marker_ms),
            probe_ms: times(self.probe_ms),
            breakage_ms: times(self.breakage_ms),
            recovery_ms: times(self.recovery_ms),
            run_ms: times(self.run_ms),
        }
    }
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

/// The actors that look at the mount after a step.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Looks {
    /// Every actor, and consumers by themselves whenever something happens.
    #[default]
    All,
    /// Only the actors of which the step expects an outcome. Mount tables are read all the same, because that
    /// touches no mount.
    Asked,
}

impl Looks {
    /// Whether every actor looks.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
    fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// Certainty of a scenario's expectations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Its source says so.
    Reported,
    /// It follows from what its source says.
    Inferred,
}

/// The cause that the source of a scenario names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum NamedCause {
    /// This cause.
    One(CauseId),
    /// One of these causes: the source leaves open which.
    Any(Vec<CauseId>),
}

impl NamedCause {
    /// The ids, as written.
    pub fn ids(&self) -> &[CauseId] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Any(ids) => ids,
        }
    }
}

/// One experiment: what a scenario file describes, and what a run carries out. [`Plan::default`] is the five phases;
/// [`Plan::with`] makes another of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Plan {
    /// A short name, unique among the scenarios of a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it shows, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where it was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How sure its expectations are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// What a reader should know, such as where the kernel contradicts the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The cause that the source names, by the id of a diagnosis. Findings are compared with it; no diagnosis reads
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<NamedCause>,
    /// The first kernel that the expectations hold on; on an older one no step is carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Version>,
    /// The kernel's filesystems that the file needs beside FUSE, such as `cifs`; where one is missing, and on backends
    /// that do not tell, no step is carried out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filesystems: Vec<String>,
    /// The shared directory.
    pub bridge: Bridge,
    /// Properties of the node, where the backend can choose.
    pub node: NodeSpec,
    /// The FUSE filesystem that producers serve.
    pub fuse: FuseSpec,
    /// The workloads.
    pub workloads: Vec<WorkloadSpec>,
    /// The steps, in order; the five phases by default.
    pub steps: Vec<Step>,
    /// The fault in the phase `stale_mount`.
    pub fault: Fault,
    /// The repairs that the phase `recovery` tries, smallest first.
    pub recovery: Vec<Repair>,
    /// Deadlines for waiting.
    pub deadlines: Deadlines,
    /// The actors that look after each step. A look can change what is measured: one through a dead
    /// FUSE mount makes the kernel detach what is mounted inside it.
    #[serde(skip_serializing_if = "Looks::is_all")]
    pub looks: Looks,
}

impl Default for Plan {
    /// The five phases: a producer, an early and a late consumer and a control.
    fn default() -> Self {
        Self {
            name: None,
            title: None,
            source: None,
            confidence: None,
            note: None,
            cause: None,
            since: None,
            filesystems: Vec::new(),
            bridge: Bridge::default(),
            node: NodeSpec::default(),
            fuse: FuseSpec::default(),
            workloads: vec![
                WorkloadSpec::producer(),
                WorkloadSpec::consumer("consumer-early", StartOrder::BeforeMount),
                WorkloadSpec::consumer("consumer-late", StartOrder::AfterMount),
                WorkloadSpec::control(),
            ],
            steps: PhaseName::ALL.map(|phase| Action::Phase(phase).into()).into(),
            fault: Fault::default(),
            recovery: Repair::LADDER.to_vec(),
            deadlines: Deadlines::default(),
            looks: Looks::default(),
        }
    }
}

impl Plan {
    /// The plan with changes.
    ///
    /// ```
    /// use propagation_model::Plan;
    /// use propagation_model::plan::{Fault, StartOrder, WorkloadSpec};
    ///
    /// let plan = Plan::default().with(|plan| {
    ///     plan.fault = Fault::Stop;
    ///     plan.deadlines.probe_ms = 500;
    ///     plan.workloads.push(WorkloadSpec::consumer("another", StartOrder::AfterMount));
    /// });
    /// assert_eq!(plan.workloads.len(), 5);
    /// assert!(plan.is_five_phases() && plan.validate().is_ok());
    /// ```
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The first producer.
    pub fn producer(&self) -> Option<&WorkloadSpec> {
        self.workloads.iter().find(|workload| workload.role == Role::Producer)
    }

    /// The workloads of a role, in the order of the plan.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &WorkloadSpec> {
        self.workloads.iter().filter(move |workload| workload.role == role)
    }

    /// Whether an expectation holds from a kernel on.
    pub fn names_a_kernel(&self) -> bool {
        let names = |step: &Step| step.expect.values().any(|expected| expected.since.is_some());
        self.since.is_some() || self.any_step(&names)
    }

    /// Whether something holds of a step, those of repetitions among them.
    pub fn any_step(&self, holds: &dyn Fn(&Step) -> bool) -> bool {
        fn any(steps: &[Step], holds: &dyn Fn(&Step) -> bool) -> bool {
            steps.iter().any(|step| match &step.action {
                Action::Repeat { steps, .. } => holds(step) || any(steps, holds),
                _ => holds(step),
            })
        }
        any(&self.steps, holds)
    }

    /// The workload called `name`.
    pub fn workload(&self, name: &str) -> Option<&WorkloadSpec> {
        self.workloads.iter().find(|workload| workload.name == name)
    }

    /// The workload called `name`; one that a phase made by itself is like the first consumer.
    pub fn workload_or_like(&self, name: &str) -> Option<&WorkloadSpec> {
        self.workload(name).or_else(|| self.with_role(Role::Consumer).next())
    }

    /// UID that an actor looks as by default: a workload as its own, so that it sees what its program sees, and the
    /// node as root.
    pub fn uid_of(&self, actor: &Actor) -> u32 {
        match actor {
            Actor::Node | Actor::Runtime => 0,
            Actor::Workload { name, .. } | Actor::HeldDescriptor { name } => {
                self.workload_or_like(name).map_or(0, |spec| spec.uid)
            }
        }
    }

    /// Path on the node of the mount that a workload makes or has in its volume: the mountpoint of a producer that
    /// its path is at or in, otherwise the bridge's, which is what is published.
    ///
    /// ```
    /// use propagation_model::Plan;
    /// use propagation_model::plan::{Role, Volume, WorkloadSpec};
    ///
    /// let mut second = WorkloadSpec::new("second", Role::Producer);
    /// second.volume = Volume::Path("/srv/second".into());
    /// let mut reader = WorkloadSpec::new("reader", Role::Consumer);
    /// reader.volume = Volume::Path("/srv/second/sub".into());
    /// let mut plan = Plan::default();
    /// plan.workloads.extend([second, reader.clone()]);
    /// assert_eq!(plan.mountpoint_of(&reader), "/srv/second");
    /// reader.volume = Volume::Path("/var/lib/published".into());
    /// assert_eq!(plan.mountpoint_of(&reader), "/tmp/fuse-test-bridge/dfs");
    /// ```
    pub fn mountpoint_of(&self, spec: &WorkloadSpec) -> String {
        let path = spec.path_on_node(&self.bridge);
        self.mountpoint_over(&path).unwrap_or_else(|| self.bridge.fuse_path())
    }

    /// The mountpoint of a producer that is this path of the node or lies above it, the nearest of several.
    pub fn mountpoint_over(&self, path: &str) -> Option<String> {
        let holds = |mountpoint: &String| {
            path.strip_prefix(mountpoint.as_str())
                .is_some_and(|below| below.is_empty() || below.starts_with('/'))
        };
        let all = self.with_role(Role::Producer).map(|one| one.path_on_node(&self.bridge));
        all.filter(holds).max_by_key(String::len)
    }

    /// The directory of a producer's filesystem at a workload's FUSE path: `/`, unless the volume is a directory
    /// inside the mount.
    ///
    /// ```
    /// use propagation_model::Plan;
    /// use propagation_model::plan::Volume;
    ///
    /// let mut plan = Plan::default();
    /// assert_eq!(plan.directory_of(&plan.workloads[1]), "/");
    /// plan.workloads[1].volume = Volume::Mountpoint;
    /// plan.workloads[1].sub_path = Some("sub".into());
    /// assert_eq!(plan.directory_of(&plan.workloads[1]), "/sub");
    /// ```
    pub fn directory_of(&self, spec: &WorkloadSpec) -> String {
        let path = spec.path_on_node(&self.bridge);
        let inside = self.with_role(Role::Producer).filter_map(|producer| {
            let below = path.strip_prefix(producer.path_on_node(&self.bridge).as_str())?;
            (below.is_empty() || below.starts_with('/')).then_some(below)
        });
        let nearest = inside.min_by_key(|below| below.len()).unwrap_or_default();
        if nearest.is_empty() { "/".to_owned() } else { nearest.to_owned() }
    }

    /// User that an actor looks as for `uid`: itself where that is its own UID.
    pub fn user_of(&self, actor: &Actor, uid: u32) -> User {
        let own = match actor {
            Actor::Node | Actor::Runtime => None,
            Actor::Workload { name, .. } | Actor::HeldDescriptor { name } => {
                self.workload_or_like(name).map(WorkloadSpec::user)
            }
        };
        own.filter(|own| own.uid == uid).unwrap_or_else(|| User::plain(uid))
    }

    /// The plan without possible secrets: the values of variables for FUSE programs.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        let own = self.workloads.iter_mut().filter_map(|workload| workload.fuse.as_mut());
        own.chain([&mut self.fuse]).for_each(FuseSpec::hide_secrets);
        self
    }

    /// The filesystem of a workload, if it is a producer.
    pub fn fuse_of<'a>(&'a self, workload: &'a WorkloadSpec) -> &'a FuseSpec {
        workload.fuse.as_ref().unwrap_or(&self.fuse)
    }

    /// Whether the five phases are among its steps; the verdict then follows from them.
    pub fn is_five_phases(&self) -> bool {
        let has =
            |name: &PhaseName| self.steps.iter().any(|step| step.action == Action::Phase(*name));
        PhaseName::ALL.iter().all(has)
    }

    /// Whether a step runs a program in a workload's mount namespace.
    pub fn runs_programs_in(&self, name: &str) -> bool {
        let runs =
            |step: &Step| matches!(&step.action, Action::Execute { inside, .. } if inside == name);
        self.any_step(&runs)
    }

    /// The deadline for one access.
    pub fn probe_deadline(&self) -> Duration {
        Duration::from_millis(self.deadlines.probe_ms)
    }
}
