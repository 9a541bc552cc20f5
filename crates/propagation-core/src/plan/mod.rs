//! What a run is to do: the node, the workloads on it, the fault, the recovery.

mod node;
mod validate;
mod workload;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use node::{BridgeState, Covering, NodeSpec};
pub use workload::{
    Bridge, OTHER_UID, Propagation, Role, StartOrder, Volume, VolumePaths, WorkloadSpec,
};

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
}
