//! Capabilities of a backend, and requirements of a plan: sets of the same words. Their difference is the reason
//! why a plan is not carried out.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::observation::Access;
use crate::plan::{FaultKind, Repair};

/// Defines the features: their names and descriptions.
macro_rules! features {
    ($( $name:ident = $word:literal, $words:literal, )*) => {
        /// A property of a node, a workload or a step that not every backend supports.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            schemars::JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Feature {
            $( #[doc = $words] $name, )*
        }

        impl Feature {
            /// All features.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $( Self::$name => $word, )* }
            }

            /// Its description: a noun without an article.
            pub fn words(self) -> &'static str {
                match self { $( Self::$name => $words, )* }
            }
        }
    };
}

features! {
    ShapedNode = "shaped_node", "node that is shaped by the plan",
    DiskSize = "disk_size", "limit for the size of the node's own filesystem",
    AnyPath = "any_path", "path of the bridge with a quote, a backslash, a colon or a control character",
    OciRuntime = "oci_runtime", "OCI runtime of a scenario's choice",
    RuntimeNamespace = "runtime_namespace", "runtime with a mount namespace of its own",
    SecondRuntime = "second_runtime", "second runtime",
    HostProcess = "host_process", "process of the node itself as a workload",
    UserNamespace = "user_namespace", "user namespace of a single workload",
    Supervisor = "supervisor", "supervisor that outlives its daemon",
    SubPath = "sub_path", "bind of a part of the volume (subPath)",
    OtherVolume = "other_volume", "volume that is a file or another directory",
    FurtherVolumes = "further_volumes", "further volume beside the one that is looked at",
    CheckedBind = "checked_bind", "kubelet that checks a volume, or bind with options",
    SingleBind = "single_bind", "bind without the mounts below it",
    Publishing = "publishing", "driver that publishes volumes",
    Reopening = "reopening", "descriptor that is held from outside and opened again",
    Load = "load", "readers and writers",
    ExternalDaemon = "external_daemon", "FUSE daemon other than the built-in one",
    Transport = "transport", "server and its client in the producer's place",
    UnprivilegedProducer = "unprivileged_producer", "producer that is not root",
    Keeper = "keeper", "keeper of a producer's descriptor",
    Replicas = "replicas", "workload with several replicas",
    Programs = "programs", "program of the scenario in a container",
    NodePrograms = "node_programs", "program of the scenario on the node itself",
    KernelFilesystems = "kernel_filesystems", "filesystem of the kernel beside FUSE",
    OtherUids = "other_uids", "second user to look and to run programs as",
    RealKernel = "real_kernel", "real kernel: mounts, processes and errnos that are not simulated",
}

impl fmt::Display for Feature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What can be asked of a backend and its nodes. Phases, steps and the conformance suite go by capabilities, never
/// by the name of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Capabilities {
    /// Supported faults.
    pub faults: BTreeSet<FaultKind>,
    /// Supported repairs.
    pub repairs: BTreeSet<Repair>,
    /// Supported ways to look.
    pub accesses: BTreeSet<Access>,
    /// Other supported features.
    pub features: BTreeSet<Feature>,
}

impl Capabilities {
    /// All capabilities.
    pub fn all() -> Self {
        Self {
            faults: FaultKind::ALL.iter().copied().collect(),
            repairs: Repair::ALL.into(),
            accesses: Access::ALL.into(),
            features: Feature::ALL.iter().copied().collect(),
        }
    }

    /// These capabilities without some faults.
    #[must_use]
    pub fn without_faults(mut self, faults: &[FaultKind]) -> Self {
        self.faults.retain(|fault| !faults.contains(fault));
        self
    }

    /// These capabilities without some repairs.
    #[must_use]
    pub fn without_repairs(mut self, repairs: &[Repair]) -> Self {
        self.repairs.retain(|repair| !repairs.contains(repair));
        self
    }

    /// These capabilities without some accesses.
    #[must_use]
    pub fn without_accesses(mut self, accesses: &[Access]) -> Self {
        self.accesses.retain(|access| !accesses.contains(access));
        self
    }

    /// These capabilities without some features.
    #[must_use]
    pub fn without(mut self, features: &[Feature]) -> Self {
        self.features.retain(|feature| !features.contains(feature));
        self
    }

    /// Whether a feature is supported.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// The first requirement that is not met, in words; none when all are met.
    ///
    /// ```
    /// use propagation_model::capabilities::{Capabilities, Feature};
    /// use propagation_model::plan::{Plan, Repair};
    ///
    /// let mut plan = Plan::default();
    /// let can = Capabilities::all().without(&[Feature::Replicas]);
    /// assert_eq!(can.lack(&plan.requires()), None);
    /// plan.workloads[1].replicas = 3;
    /// let reason = can.lack(&plan.requires()).unwrap();
    /// assert_eq!(reason, "workload \"consumer-early\": no workload with several replicas (replicas)");
    /// ```
    pub fn lack(&self, needs: &[Need]) -> Option<String> {
        self.lacks(needs).map(Need::to_string)
    }

    /// The first requirement that is not met; none when all are met.
    pub fn lacks<'a>(&self, needs: &'a [Need]) -> Option<&'a Need> {
        needs.iter().find(|need| !self.meet(need.what))
    }

    fn meet(&self, what: Requirement) -> bool {
        match what {
            Requirement::Fault(fault) => self.faults.contains(&fault),
            Requirement::Repair(repair) => self.repairs.contains(&repair),
            Requirement::Feature(feature) => self.has(feature),
        }
    }
}

/// A requirement of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// The fault is supported.
    Fault(FaultKind),
    /// The repair is supported.
    Repair(Repair),
    /// The feature is supported.
    Feature(Feature),
}

impl fmt::Display for Requirement {
    /// Reason why a backend that does not meet it does not carry the plan out.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(formatter, "the fault {} cannot be done", fault.name()),
            Self::Repair(repair) => {
                write!(formatter, "the repair {} cannot be done", repair.name())
            }
            Self::Feature(feature) => write!(formatter, "no {} ({feature})", feature.words()),
        }
    }
}

impl From<Feature> for Requirement {
    fn from(feature: Feature) -> Self {
        Self::Feature(feature)
    }
}

/// A requirement of a plan, and the workload that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The requirement.
    pub what: Requirement,
    /// The workload; none for the plan's node or a step.
    pub workload: Option<String>,
}

impl fmt::Display for Need {
    /// Reason why a backend that does not meet it does not carry the plan out.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(workload) = &self.workload {
            write!(formatter, "workload {workload:?}: ")?;
        }
        write!(formatter, "{}", self.what)
    }
}
