//! The report: the one data type of a run's result. Every rendering is a pure function of it.

mod act;
mod check;
mod experiment;
pub(crate) mod phase;
pub mod time;

use serde::{Deserialize, Serialize};

pub use act::{Act, Deed};
pub use check::{Check, CheckId, Finding};
pub use experiment::{
    Added, Advice, After, Change, Cost, Experiment, JudgedBy, SideEffect, Since, Trial, Tried,
    What, Working,
};
pub use phase::{PhaseReport, Status};

use crate::cause::Cause;
use crate::facts::HostFacts;
use crate::mountinfo::{MountGraph, MountTable};
use crate::observation::{Actor, Observation};
use crate::plan::{Plan, ResolvedPath};
use crate::program::RefusalKind;
use crate::verdict::{Expectations, Verdict};

/// Version of the report's shape. Grows when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 2;

/// Results of the clean-up at the end of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct Cleanup {
    /// What was undone, in order.
    pub undone: Vec<String>,
    /// What could not be undone, each with the command that undoes it by hand.
    pub could_not: Vec<String>,
    /// What was kept on request, with how to remove it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    /// How long it took.
    pub duration_ms: f64,
    /// The part of it spent waiting for the kubelet to end the pods. Simulated nodes have no kubelet, and this is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet_ms: Option<f64>,
    /// The part of it spent waiting for the API server to remove the namespace. Simulated nodes have none, and this is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_ms: Option<f64>,
}

/// How a node of a cluster was reached: what a repetition of the run has to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct ClusterAccess {
    /// Whether the node was reached over ssh; otherwise through a pod.
    pub over_ssh: bool,
    /// The kubeconfig, if one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<String>,
    /// Its context, if one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The namespace, if the run made none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The image with the agent, if one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The image with the programs of the scenario, if one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_image: Option<String>,
    /// Whether the agent was imported as an image.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub import_image: bool,
    /// The ssh configuration, if one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_config: Option<String>,
    /// The ssh user, if one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_user: Option<String>,
    /// The suffix that made the node's name a host name, if one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_domain: Option<String>,
    /// Tolerated taints: `KEY[=VALUE][:EFFECT]`, or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<String>,
    /// Whether `user_allow_other` was added to the node's `/etc/fuse.conf` for the run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub apply: bool,
}

impl Cleanup {
    /// A clean-up that undid nothing, for this reason.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self { could_not: vec![reason.into()], ..Self::default() }
    }
}

/// A workload that could not be started, or a producer that did not mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Failure {
    /// The workload.
    pub workload: String,
    /// The phase or step in which it was tried.
    pub step: String,
    /// The start or the mount that failed.
    pub of: FailureOf,
    /// The words of the runtime, or of the producer.
    pub words: String,
    /// Why the runtime refused the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<RefusalKind>,
}

/// Kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureOf {
    /// The container was not created or not started.
    Start,
    /// The producer said that it cannot mount, or ended.
    Mount,
    /// The producer runs and did not serve its mount in time.
    Serve,
}

/// A log of one workload, as `kubectl logs` would show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct WorkloadLog {
    /// The workload.
    pub workload: String,
    /// Its lines.
    pub lines: Vec<String>,
}

impl WorkloadLog {
    /// The lines of a workload's log.
    pub fn new(workload: impl Into<String>, lines: Vec<String>) -> Self {
        Self { workload: workload.into(), lines }
    }
}

/// Measurements of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct Measurements {
    /// From the producer's mount to each existing consumer's own first read of the marker.
    #[serde(default)]
    pub mount_to_visible_ms: Vec<f64>,
    /// From the fault to the last consumer's notice of it.
    #[serde(default)]
    pub fault_to_breakage_ms: Option<f64>,
    /// Recovery of the consumers without any intervention; none where the run did not come to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_itself: Option<ByItself>,
    /// From the fault until the run restarted the producer: it looked and waited in that time, and nothing is recovered
    /// in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_to_restart_ms: Option<f64>,
    /// From the beginning of the producer's restart until every consumer read the new generation by itself; none when
    /// one did not.
    #[serde(default)]
    pub restart_to_recovery_ms: Option<f64>,
    /// From the new producer's mount until every consumer read the new generation by itself; none when one did not.
    #[serde(default)]
    pub remount_to_fresh_read_ms: Option<f64>,
    /// The smallest intervention that brought every consumer back; [`Repair::Wait`](crate::plan::Repair::Wait)
    /// when they came back by themselves.
    #[serde(default)]
    pub smallest_intervention: Option<crate::plan::Repair>,
    /// From the beginning of that intervention until every consumer read the new generation; none when they came
    /// back by themselves.
    #[serde(default)]
    pub intervention_to_fresh_read_ms: Option<f64>,
    /// Time that the run waited in vain: for accesses that hang, and for repairs that did not help.
    #[serde(default)]
    pub waited_in_vain_ms: f64,
    /// Times in which the run could only wait for other programs; `propagation_report::time::TimeSplit` sums them up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<time::Wait>,
}

/// Recovery without any intervention.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ByItself {
    /// Every consumer read the new generation.
    After {
        /// From the producer's new mount to the last of these reads.
        ms: f64,
    },
    /// Some consumer did not.
    Never {
        /// Time that the run waited for it.
        waited_ms: f64,
    },
}

/// State of the processes and FUSE connections of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct Usage {
    /// Processes of the node in uninterruptible sleep (state D).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_processes: Option<u64>,
    /// FUSE connections of the kernel, where fusectl is mounted; they include those of others on the
    /// same kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuse_connections: Option<u64>,
}

/// The mount tables of all actors at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct Capture {
    /// The phase or step that it was taken after.
    pub step: String,
    /// When, in microseconds since the start of the run.
    pub at_us: u64,
    /// The mount tables: of the node, of the runtime where its namespace is separate, and of the first
    /// replica of every running workload.
    pub tables: Vec<ActorTable>,
    /// State of processes and connections at that moment, for the steps of a scenario.
    #[serde(default)]
    pub usage: Usage,
}

/// The mount table of one actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct ActorTable {
    /// The actor.
    pub actor: Actor,
    /// Its mounts.
    pub table: MountTable,
}

impl ActorTable {
    /// The mounts of an actor.
    pub fn new(actor: Actor, table: MountTable) -> Self {
        Self { actor, table }
    }
}

impl Capture {
    /// The tables after a step, at a time in microseconds since the start of the run.
    pub fn new(step: impl Into<String>, at_us: u64, tables: Vec<ActorTable>) -> Self {
        Self { step: step.into(), at_us, tables, usage: Usage::default() }
    }

    /// The table of an actor.
    pub fn table(&self, actor: &Actor) -> Option<&MountTable> {
        self.tables.iter().find(|one| one.actor == *actor).map(|one| &one.table)
    }

    /// The graph of all tables; its namespaces have the names of the actors.
    pub fn graph(&self) -> MountGraph {
        MountGraph::build(self.tables.iter().map(|one| (one.actor.to_string(), one.table.clone())))
    }
}

/// The result of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct Report {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// Version of the tool that wrote it.
    pub tool_version: String,
    /// Id of the run.
    pub run_id: String,
    /// `local`, `k8s`, …
    pub backend: String,
    /// Name of the node.
    pub node: String,
    /// How the node was reached, on a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterAccess>,
    /// When it started (RFC 3339, UTC).
    pub started_at: String,
    /// From the start to the verdict, without the experiments.
    pub duration_ms: f64,
    /// The verdict.
    pub verdict: Verdict,
    /// The causes, the most likely and most severe first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnosis: Vec<Cause>,
    /// Single changes of the plan, each tried on a fresh simulated node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub experiments: Vec<Experiment>,
    /// What to do, according to the experiments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<Advice>,
    /// The phases, in order.
    pub phases: Vec<PhaseReport>,
    /// Measurements.
    pub measurements: Measurements,
    /// All observations, in order of time.
    pub timeline: Vec<Observation>,
    /// All acts, in order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acts: Vec<Act>,
    /// The mount tables of all actors at the end of every phase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<Capture>,
    /// Facts of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<HostFacts>,
    /// The plan of the run, with the paths that the node knows.
    pub plan: Plan,
    /// Paths that were asked for and lead over symbolic links of the node to those in the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved: Vec<ResolvedPath>,
    /// Failed starts and mounts, in order, expected ones included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// Logs of the workloads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<WorkloadLog>,
    /// Why the run ended before its last phase, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_short: Option<String>,
    /// Results of the clean-up at the end.
    pub cleanup: Cleanup,
}

impl Report {
    /// The report of a run in which nothing has been seen yet. Whoever carries out the plan fills it.
    ///
    /// ```
    /// use propagation_model::report::PhaseReport;
    /// use propagation_model::report::{Check, Status};
    /// use propagation_model::{Plan, Report};
    ///
    /// let mut report = Report::new(Plan::default(), "20261126t134524-2d5ff1fb", "local", "node");
    /// let mut phase = PhaseReport::new("latency", Status::Passed);
    /// phase.checks.push(Check::new("first_read", true, "below 1 ms", "0.4 ms"));
    /// report.phases.push(phase);
    /// assert_eq!(Report::from_json(report.to_json()?.as_bytes()).unwrap(), report);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn new(
        plan: Plan,
        run_id: impl Into<String>,
        backend: impl Into<String>,
        node: impl Into<String>,
    ) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").into(),
            run_id: run_id.into(),
            backend: backend.into(),
            node: node.into(),
            cluster: None,
            started_at: String::new(),
            duration_ms: 0.0,
            verdict: Verdict::Expectations(Expectations::of(&[])),
            diagnosis: Vec::new(),
            experiments: Vec::new(),
            advice: None,
            phases: Vec::new(),
            measurements: Measurements::default(),
            timeline: Vec::new(),
            acts: Vec::new(),
            captures: Vec::new(),
            environment: None,
            plan,
            resolved: Vec::new(),
            failures: Vec::new(),
            logs: Vec::new(),
            cut_short: None,
            cleanup: Cleanup::default(),
        }
    }

    /// How many checks came out as expected.
    pub fn expectations(&self) -> Expectations {
        Expectations::of(&self.phases)
    }

    /// The result of a change, where it is among the experiments.
    pub fn experiment(&self, change: &Change) -> Option<&Experiment> {
        self.experiments.iter().find(|experiment| experiment.change == *change)
    }

    /// The phase called `id`.
    pub fn phase(&self, id: &str) -> Option<&PhaseReport> {
        self.phases.iter().find(|phase| phase.id == id)
    }

    /// The JSON form, indented.
    ///
    /// # Errors
    /// Never for a report of this crate; the signature follows `serde_json`.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    /// Reads a saved report.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) when it is not JSON, not a
    /// report, or of another schema version.
    pub fn from_json(json: &[u8]) -> Result<Self, crate::Error> {
        let refuse = |reason: String, fix: &str| {
            crate::Error::new(crate::ErrorKind::InvalidInput, "read the report", reason)
                .with_fix(fix)
        };
        #[derive(Deserialize)]
        struct Version {
            schema_version: u32,
        }
        let version: Version = serde_json::from_slice(json).map_err(|error| {
            refuse(
                format!("it is not a report in JSON ({error})"),
                "name the report.json that `propagation run --report DIR` wrote",
            )
        })?;
        if version.schema_version != SCHEMA_VERSION {
            return Err(refuse(
                format!(
                    "it has schema_version {}, and this program reads {SCHEMA_VERSION}",
                    version.schema_version
                ),
                "render it with the release that wrote it",
            ));
        }
        serde_json::from_slice(json).map_err(|error| {
            refuse(format!("it is damaged: {error}"), "write it again with `propagation run`")
        })
    }

    /// The JSON Schema of reports.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}
