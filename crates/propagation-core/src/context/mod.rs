//! The context of a phase: the plan, the node, and everything recorded so far.

mod acts;
mod done;
mod generations;
mod look;
mod phases;
mod start;

pub use acts::OpenAct;
pub(crate) use done::{Done, Failed, Failures};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::backend::Capabilities;
use crate::error::Error;
use crate::event::EventSink;
use crate::facts::HostFacts;
use crate::journal::{HostChange, Journal};
use crate::kernel::Version;
use crate::mountinfo::MountPath;
use crate::node::Node;
use crate::observation::{Actor, Observation};
use crate::plan::Plan;
use crate::program::StartRefused;
use crate::report::{Act, Capture, Failure, Measurements, PhaseReport, WorkloadLog};
use crate::workload::Workload;
use generations::Generations;

/// The state of a run, handed from phase to phase.
pub struct RunContext<'a> {
    /// The plan of the run.
    pub plan: &'a Plan,
    /// The node.
    pub node: &'a dyn Node,
    /// Facts of the node, once `host_setup` has read them.
    pub facts: Option<HostFacts>,
    /// What has been measured.
    pub measurements: Measurements,
    started: Instant,
    events: EventSink,
    journal: Journal,
    workloads: Vec<Arc<dyn Workload>>,
    generations: Generations,
    phases: Vec<PhaseReport>,
    open_phase: bool,
    timeline: Vec<Observation>,
    acts: Vec<Act>,
    could_read: BTreeSet<Actor>,
    /// Where the node's mount table has the mount at the bridge, once it has been seen there: symbolic links may lead
    /// from the plan's path to it.
    on_node: Option<MountPath>,
    captures: Vec<Capture>,
    /// Why the last start of a workload was refused; none once it has started.
    refusals: BTreeMap<String, StartRefused>,
    /// Why a producer could not mount when it was started last.
    mount_failures: BTreeMap<String, String>,
    /// What could not start or mount.
    failures: Vec<Failure>,
    /// How many of them have been asked for.
    failures_asked: usize,
    /// Actors for which a descriptor is held.
    holding: BTreeSet<Actor>,
    /// Why the rest of a scenario makes no sense.
    gave_up: Option<String>,
    /// The node's kernel, where the plan names one and its release is understood.
    pub(crate) kernel: Option<Version>,
}

impl std::fmt::Debug for RunContext<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RunContext").field("phases", &self.phases).finish_non_exhaustive()
    }
}

/// Remains of a context after the last phase.
pub(crate) struct Recorded {
    pub(crate) phases: Vec<PhaseReport>,
    pub(crate) measurements: Measurements,
    pub(crate) timeline: Vec<Observation>,
    pub(crate) acts: Vec<Act>,
    pub(crate) captures: Vec<Capture>,
    pub(crate) facts: Option<HostFacts>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) logs: Vec<WorkloadLog>,
    pub(crate) journal: Journal,
    pub(crate) workloads: Vec<Arc<dyn Workload>>,
}

/// Why nothing is expected on a kernel of what holds from another one on; none where it is expected.
pub(crate) fn too_old(kernel: Option<Version>, since: Option<Version>) -> Option<String> {
    let (since, kernel) = (since?, kernel?);
    (kernel < since).then(|| format!("expected from Linux {since} on; this is Linux {kernel}"))
}

impl<'a> RunContext<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        node: &'a dyn Node,
        started: Instant,
        events: EventSink,
    ) -> Self {
        Self {
            plan,
            node,
            facts: None,
            measurements: Measurements::default(),
            started,
            events,
            journal: Journal::default(),
            workloads: Vec::new(),
            generations: Generations::default(),
            phases: Vec::new(),
            open_phase: false,
            timeline: Vec::new(),
            acts: Vec::new(),
            could_read: BTreeSet::new(),
            on_node: None,
            captures: Vec::new(),
            refusals: BTreeMap::new(),
            mount_failures: BTreeMap::new(),
            failures: Vec::new(),
            failures_asked: 0,
            holding: BTreeSet::new(),
            gave_up: None,
            kernel: None,
        }
    }

    /// What the node can be asked to do.
    pub fn capabilities(&self) -> Capabilities {
        self.node.capabilities()
    }

    /// [`too_old`] for the node's kernel.
    pub(crate) fn too_old_for(&self, since: Option<Version>) -> Option<String> {
        too_old(self.kernel, since)
    }

    /// Makes a change to the host, written to the journal first, so that the end of the run undoes it.
    /// Call it only for what is absent according to the facts.
    ///
    /// # Errors
    /// As [`Node::apply`].
    pub async fn change_host(&mut self, change: HostChange) -> Result<(), Error> {
        let entry = self.journal.intend(change.clone());
        let now = self.node.apply(&change).await?;
        self.journal.made(entry, now);
        Ok(())
    }

    /// Makes the directories that the workloads share, on a node whose facts say that they are missing.
    ///
    /// # Errors
    /// As [`RunContext::change_host`].
    pub(crate) async fn make_bridge(&mut self) -> Result<(), Error> {
        let bridge = &self.plan.bridge;
        // A producer that is not root writes into the one and mounts on the other.
        let owner = self.plan.producer().map_or(0, |spec| spec.uid);
        for path in [bridge.path.clone(), bridge.fuse_path()] {
            self.change_host(HostChange::MakeDirectory { path, owner }).await?;
        }
        Ok(())
    }

    pub(crate) async fn finish(mut self) -> Recorded {
        let mut logs = Vec::new();
        for workload in &self.workloads {
            // A log that cannot be read is not worth the run: the node's state says why.
            if let Ok(lines) = workload.log().await
                && !lines.is_empty()
            {
                logs.push(WorkloadLog::new(&workload.spec().name, lines));
            }
        }
        self.timeline.sort_by_key(|observation| observation.at_us);
        Recorded {
            phases: self.phases,
            measurements: self.measurements,
            timeline: self.timeline,
            acts: self.acts,
            captures: self.captures,
            facts: self.facts,
            failures: self.failures,
            logs,
            journal: self.journal,
            workloads: self.workloads,
        }
    }
}
