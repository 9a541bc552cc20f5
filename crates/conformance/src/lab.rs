//! The tools of a case: a backend to open nodes on, and a stage on a node.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use propagation_core::journal::HostChange;
use propagation_core::marker::Marker;
use propagation_core::mountinfo::{MountEntry, MountTable};
use propagation_core::node::mount_table;
use propagation_core::node::{Probe, Target};
use propagation_core::observation::{Access, Actor, Observation};
use propagation_core::plan::{Deadlines, Fault, Plan, WorkloadSpec};
use propagation_core::workload::{RestartScope, Until, WorkloadStatus};
use propagation_core::{Backend, Error, Node, Run, RunId, Workload};

use crate::failure::{Failure, ensure};
use propagation_core::{Class, Errno};

/// The outcome of an access to a stale mount.
pub(crate) const DEAD: Class = Class::Errno(Errno::ENOTCONN);

/// Removes what a run has left.
pub(crate) type Remover =
    Arc<dyn Fn(RunId) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// A backend, and the nodes that a case has opened on it.
pub(crate) struct Lab {
    pub(crate) backend: Arc<dyn Backend>,
    /// How long something may take that has to happen.
    pub(crate) soon: Duration,
    pub(crate) remover: Option<Remover>,
    opened: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    nodes: Vec<Arc<dyn Node>>,
    runs: Vec<RunId>,
}

impl Lab {
    pub(crate) fn new(backend: Arc<dyn Backend>, soon: Duration, remover: Option<Remover>) -> Self {
        Self { backend, soon, remover, opened: Mutex::default() }
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        // No code that can panic runs under this lock.
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The five phases' plan, with a bridge of its own: real nodes have only one `/tmp`.
    pub(crate) fn plan(&self) -> Plan {
        let soon_ms = u64::try_from(self.soon.as_millis()).unwrap_or(u64::MAX);
        let mut plan = Plan::default();
        let run = RunId::generate().map_or_else(|_| "conformance".into(), |id| id.to_string());
        plan.bridge.path = format!("/tmp/propagation-{run}");
        plan.deadlines = Deadlines {
            start_ms: soon_ms,
            marker_ms: soon_ms,
            breakage_ms: soon_ms,
            recovery_ms: 500,
            ..Deadlines::default()
        };
        plan
    }

    /// A plan with these workloads besides the producer.
    pub(crate) fn plan_of(&self, others: &[WorkloadSpec]) -> Plan {
        let mut workloads = vec![WorkloadSpec::producer()];
        workloads.extend_from_slice(others);
        self.plan().with(|plan| plan.workloads = workloads)
    }

    /// Opens a node, closed at the end of the case.
    pub(crate) async fn try_open(&self, plan: &Plan) -> Result<Arc<dyn Node>, Error> {
        let run = Run::new(RunId::generate()?);
        let node: Arc<dyn Node> = self.backend.open(plan, &run).await?.into();
        let mut opened = self.opened();
        opened.nodes.push(Arc::clone(&node));
        opened.runs.push(run.id);
        Ok(node)
    }

    /// Opens a node that stays when it is closed; the caller removes it.
    pub(crate) async fn open_kept(&self, plan: &Plan) -> Result<(Arc<dyn Node>, RunId), Error> {
        let mut run = Run::new(RunId::generate()?);
        run.keep = true;
        let node: Arc<dyn Node> = self.backend.open(plan, &run).await?.into();
        self.note(run.id.clone());
        Ok((node, run.id))
    }

    /// Notes a run with a node that the caller does not close.
    pub(crate) fn note(&self, run: RunId) {
        self.opened().runs.push(run);
    }

    /// Closes all nodes; the runs that they were opened for.
    ///
    /// # Errors
    /// In words, when something could not be undone, or closing does not end.
    pub(crate) async fn close(&self) -> Result<Vec<RunId>, String> {
        let Opened { nodes, runs } = std::mem::take(&mut *self.opened());
        for node in nodes {
            let closed = tokio::time::timeout(self.soon * 3, node.close()).await;
            let cleanup = closed.map_err(|_| "closing the node does not end".to_owned())?;
            if !cleanup.could_not.is_empty() {
                return Err(format!("closing left something: {:?}", cleanup.could_not));
            }
        }
        Ok(runs)
    }
}

/// A node with the bridge made, ready for workloads.
pub(crate) struct Stage {
    pub(crate) node: Arc<dyn Node>,
    pub(crate) plan: Plan,
    soon: Duration,
}

impl Stage {
    /// Opens a node for the plan and makes the bridge and the mountpoint in it.
    pub(crate) async fn set(lab: &Lab, plan: Plan) -> Result<Self, Failure> {
        let node = lab.try_open(&plan).await?;
        Self::on(lab, node, plan).await
    }

    /// Makes the bridge and the mountpoint in it on a node.
    pub(crate) async fn on(lab: &Lab, node: Arc<dyn Node>, plan: Plan) -> Result<Self, Failure> {
        let stage = Self { node, plan, soon: lab.soon };
        for change in stage.directories() {
            stage.node.apply(&change).await?;
        }
        Ok(stage)
    }

    /// The changes that make the bridge, and the mountpoint in it.
    pub(crate) fn directories(&self) -> [HostChange; 2] {
        let owner = self.plan.producer().map_or(0, |producer| producer.uid);
        let bridge = &self.plan.bridge;
        [bridge.path.clone(), bridge.fuse_path()]
            .map(|path| HostChange::MakeDirectory { path, owner })
    }

    /// The marker of a generation, with a unique nonce.
    pub(crate) fn marker(&self, generation: u64) -> Marker {
        Marker {
            started: "2026-02-28T10:00:00Z".into(),
            generation,
            nonce: format!("{}-{generation}", self.plan.bridge.path.trim_start_matches('/')),
        }
    }

    /// Starts workloads that have to start.
    pub(crate) async fn start(
        &self,
        specs: &[WorkloadSpec],
    ) -> Result<Vec<Arc<dyn Workload>>, Failure> {
        let started = self.node.start(specs, &self.marker(1)).await?;
        started.into_iter().map(|result| result.map_err(Failure::from)).collect()
    }

    /// Starts one workload that has to start.
    pub(crate) async fn start_one(
        &self,
        spec: &WorkloadSpec,
    ) -> Result<Arc<dyn Workload>, Failure> {
        let mut started = self.start(std::slice::from_ref(spec)).await?;
        started.pop().ok_or_else(|| Failure::new("starting one workload gave no result"))
    }

    /// Starts the plan's producer with generation 1 and waits until it serves.
    pub(crate) async fn serve(&self) -> Result<Arc<dyn Workload>, Failure> {
        let spec = self.plan.producer().cloned().unwrap_or_else(WorkloadSpec::producer);
        let producer = self.start_one(&spec).await?;
        self.until(&*producer, Until::Mounted).await?;
        Ok(producer)
    }

    /// Restarts a producer with another generation and waits until it serves.
    pub(crate) async fn serve_again(
        &self,
        producer: &dyn Workload,
        generation: u64,
    ) -> Result<(), Failure> {
        producer.restart(&self.marker(generation), RestartScope::Container.into()).await??;
        self.until(producer, Until::Mounted).await.map(drop)
    }

    /// Does a fault and sees to it that it comes with evidence.
    pub(crate) async fn inject(
        &self,
        workload: &dyn Workload,
        fault: Fault,
    ) -> Result<(), Failure> {
        let evidence = workload.inject(&fault).await??;
        ensure!(!evidence.trim().is_empty(), "{fault}: it is done, and nothing shows it");
        Ok(())
    }

    /// Waits for what has to happen.
    pub(crate) async fn until(
        &self,
        workload: &dyn Workload,
        until: Until,
    ) -> Result<WorkloadStatus, Failure> {
        let status = workload.wait(until.clone(), self.soon).await?;
        let name = &workload.spec().name;
        ensure!(until.is_met_by(&status), "{name} ended before {until:?}: {status:?}");
        Ok(status)
    }

    /// A probe at the FUSE mount, as root, for a generation.
    pub(crate) fn probe(&self, generation: u64) -> Probe {
        Probe {
            access: Access::Read,
            target: Target::Fuse,
            expect: vec![self.marker(generation)],
            uids: vec![0],
            deadline: self.plan.probe_deadline(),
            step: "conformance".into(),
        }
    }

    /// Looks at the FUSE mount as root, for a generation.
    pub(crate) async fn look(
        &self,
        actors: &[Actor],
        generation: u64,
    ) -> Result<Vec<Observation>, Failure> {
        let seen = self.node.observe(actors, &self.probe(generation)).await?;
        let (found, asked) = (seen.len(), actors.len());
        ensure!(found == asked, "{found} observations for {asked} actors and one user");
        Ok(seen)
    }

    /// Looks from one actor.
    pub(crate) async fn look_from(
        &self,
        actor: &Actor,
        generation: u64,
    ) -> Result<Observation, Failure> {
        let mut seen = self.look(std::slice::from_ref(actor), generation).await?;
        seen.pop().ok_or_else(|| Failure::new("nothing was observed"))
    }

    /// Looks from each actor and compares the classes of what they see with what they have to.
    pub(crate) async fn expect(
        &self,
        wanted: &[(Actor, Class)],
        generation: u64,
        when: &str,
    ) -> Result<Vec<Observation>, Failure> {
        let actors: Vec<Actor> = wanted.iter().map(|(actor, _)| actor.clone()).collect();
        let seen = self.look(&actors, generation).await?;
        for (observation, (actor, class)) in seen.iter().zip(wanted) {
            let found = observation.outcome.class();
            ensure!(found == *class, "{when}: {actor} has to see {class}: {observation}");
        }
        Ok(seen)
    }

    /// The mount tables of the node and of a workload, and their mounts at the FUSE path.
    pub(crate) async fn fuse_mount(
        &self,
        actor: &Actor,
        path: &str,
    ) -> Result<(MountTable, Option<MountEntry>), Failure> {
        let table = mount_table(&*self.node, actor).await?;
        let mount = table.at(&path.into()).cloned();
        Ok((table, mount))
    }
}

/// The first replica of a workload.
pub(crate) fn of(name: &str) -> Actor {
    Actor::workload(name)
}
