//! The handles: a fake node and its workloads, over one shared state.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::watch;

use super::Settings;
use super::world::World;
use crate::Signal;
use crate::backend::Capabilities;
use crate::client::{self, Reported};
use crate::error::{Error, ErrorKind};
use crate::facts::HostFacts;
use crate::journal::HostChange;
use crate::marker::Marker;
use crate::mountinfo::MountTable;
use crate::node::{Node, Probe};
use crate::observation::{Actor, Observation};
use crate::plan::{Fault, Plan, Repair, WorkloadSpec};
use crate::program::{Attach, Attached, Executed, LoadReport, ProgramState, Refused, StartRefused};
use crate::report::{Cleanup, Usage};
use crate::run_id::Run;
use crate::workload::{Restart, Until, Workload, WorkloadStatus};

/// A node in memory.
#[derive(Debug)]
pub(super) struct FakeNode {
    shared: Arc<Shared>,
    run: Run,
}

#[derive(Debug)]
struct Shared {
    capabilities: Capabilities,
    patience: Duration,
    world: Mutex<World>,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        // A panic under the lock fails the test that caused it; the others have their own node.
        client::lock(&self.world)
    }

    /// Begins every call: as on a real node, other tasks get their turn before the call is carried out,
    /// and it is not carried out when its future is dropped meanwhile.
    async fn call(&self) -> Result<MutexGuard<'_, World>, Error> {
        let_others().await;
        let world = self.world();
        if world.closed {
            return Err(Error::new(
                ErrorKind::Disconnected,
                "talk to the fake node",
                "it has been closed",
            ));
        }
        Ok(world)
    }
}

/// Returns at the second look, so that other tasks get their turn.
async fn let_others() {
    let mut looked = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut looked, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl FakeNode {
    pub(super) fn new(plan: &Plan, run: &Run, settings: Settings) -> Self {
        let shared = Shared {
            capabilities: settings.capabilities.clone(),
            patience: settings.patience,
            world: Mutex::new(World::new(plan, settings, run.started)),
        };
        Self { shared: Arc::new(shared), run: run.clone() }
    }

    fn workload(&self, spec: &WorkloadSpec, number: u32) -> Option<Arc<dyn Workload>> {
        let events = self.shared.world().workloads.get(&number)?.reported.subscribe();
        let (shared, spec) = (Arc::clone(&self.shared), spec.clone());
        Some(Arc::new(FakeWorkload { shared, spec, number, events }))
    }
}

impl Shared {
    fn declared(&self, repair: Repair) -> Result<(), Error> {
        if self.capabilities.repairs.contains(&repair) {
            return Ok(());
        }
        let reason = format!("not declared: {}", repair.name());
        Err(Error::new(ErrorKind::Unsupported, repair.to_string(), reason))
    }
}

#[async_trait]
impl Node for FakeNode {
    fn name(&self) -> &str {
        "fake"
    }

    fn capabilities(&self) -> Capabilities {
        self.shared.capabilities.clone()
    }

    fn now_us(&self) -> u64 {
        self.shared.world().now_us()
    }

    async fn facts(&self) -> Result<HostFacts, Error> {
        Ok(self.shared.call().await?.facts())
    }

    async fn apply(&self, change: &HostChange) -> Result<bool, Error> {
        self.shared.call().await?.apply(change)
    }

    async fn undo(&self, change: &HostChange) -> Result<(), Error> {
        self.shared.call().await?.undo(change)
    }

    async fn start(
        &self,
        specs: &[WorkloadSpec],
        marker: &Marker,
    ) -> Result<Vec<Result<Arc<dyn Workload>, StartRefused>>, Error> {
        let started = self.shared.call().await?.start(specs, marker)?;
        let handles = specs.iter().zip(started).filter_map(|(spec, started)| match started {
            Ok(number) => self.workload(spec, number).map(Ok),
            Err(refusal) => Some(Err(refusal)),
        });
        Ok(handles.collect())
    }

    async fn observe(&self, actors: &[Actor], probe: &Probe) -> Result<Vec<Observation>, Error> {
        if !self.shared.capabilities.accesses.contains(&probe.access) {
            let operation = format!("look ({})", probe.access.as_str());
            return Err(Error::new(ErrorKind::Unsupported, operation, "not declared"));
        }
        self.shared.call().await?.observe(actors, probe)
    }

    fn take_reports(&self) -> Vec<Observation> {
        std::mem::take(&mut self.shared.world().reports)
    }

    async fn mount_tables(&self, actors: &[Actor]) -> Result<Vec<Option<MountTable>>, Error> {
        let world = self.shared.call().await?;
        let table = |actor| {
            if world.has_ended(actor) {
                return Ok(None);
            }
            let (namespace, _) = world.place_of(actor)?;
            Ok(Some(world.kernel.table(namespace)))
        };
        actors.iter().map(table).collect()
    }

    async fn rebind_host(
        &self,
        path: &str,
        deduplicate: bool,
    ) -> Result<Result<(), Refused>, Error> {
        let repair = match deduplicate {
            true => Repair::RebindHostDeduplicated,
            false => Repair::RebindHost,
        };
        self.shared.declared(repair)?;
        self.shared.call().await?.rebind_host(path, deduplicate)
    }

    async fn unmount(&self, path: &str, _lazy: bool) -> Result<Result<(), Refused>, Error> {
        self.shared.call().await?.unmount_on_node(path)
    }

    async fn publish(&self, path: &str) -> Result<Result<(), Refused>, Error> {
        Err(undeclared(format!("publish a volume at {path:?}")))
    }

    async fn unpublish(&self, path: &str) -> Result<Result<(), Refused>, Error> {
        Err(undeclared(format!("unpublish the volume at {path:?}")))
    }

    async fn let_go(&self, actor: &Actor) -> Result<(), Error> {
        Err(undeclared(format!("let go of what {actor} holds")))
    }

    async fn execute(
        &self,
        _actor: &Actor,
        _command: &[String],
        _deadline: Duration,
    ) -> Result<Result<Executed, Refused>, Error> {
        let reason = "a fake node has no programs";
        Err(Error::new(ErrorKind::Unsupported, "run a program", reason))
    }

    async fn usage(&self) -> Result<Usage, Error> {
        drop(self.shared.call().await?);
        Ok(Usage::default())
    }

    async fn close(&self) -> Cleanup {
        let started = Instant::now();
        let mut cleanup = Cleanup::default();
        let Ok(mut world) = self.shared.call().await else { return cleanup };
        let run_id = &self.run.id;
        if self.run.keep {
            cleanup.kept.push(format!(
                "the fake node of run {run_id}: it lives in this process and goes with it"
            ));
            return cleanup;
        }
        let numbers: Vec<u32> = world.workloads.keys().copied().collect();
        for number in numbers {
            world.end(number, killed());
        }
        world.closed = true;
        cleanup.undone.push(format!("ended the fake node of run {run_id} with its workloads"));
        cleanup.duration_ms = started.elapsed().as_secs_f64() * 1e3;
        cleanup
    }
}

fn killed() -> ProgramState {
    ProgramState::Signaled { signal: Signal::SIGKILL }
}

/// A handle on a workload of a fake node.
#[derive(Debug)]
struct FakeWorkload {
    shared: Arc<Shared>,
    spec: WorkloadSpec,
    number: u32,
    events: watch::Receiver<Reported>,
}

#[async_trait]
impl Workload for FakeWorkload {
    fn spec(&self) -> &WorkloadSpec {
        &self.spec
    }

    async fn status(&self) -> Result<WorkloadStatus, Error> {
        let_others().await;
        Ok(self.events.borrow().status.clone())
    }

    async fn wait(&self, until: Until, deadline: Duration) -> Result<WorkloadStatus, Error> {
        let deadline = deadline.min(self.shared.patience);
        client::wait(self.events.clone(), &self.spec.name, until, deadline).await
    }

    async fn inject(&self, fault: &Fault) -> Result<Result<String, Refused>, Error> {
        self.shared.call().await?.inject(self.number, fault)
    }

    async fn restart(
        &self,
        marker: &Marker,
        restart: Restart,
    ) -> Result<Result<(), StartRefused>, Error> {
        // Nothing outlives the container here, so a new pod is a new container.
        self.shared.call().await?.restart(self.number, marker, restart.stale)
    }

    async fn hand_over(&self, marker: &Marker) -> Result<Result<(), Refused>, Error> {
        self.shared.declared(Repair::HandOver)?;
        self.shared.call().await?.hand_over(self.number, marker)
    }

    async fn load(&self) -> Result<Option<LoadReport>, Error> {
        let_others().await;
        Ok(None)
    }

    async fn attach(&self, how: Attach) -> Result<Result<Attached, Refused>, Error> {
        self.shared.declared(how.into())?;
        self.shared.call().await?.attach(self.number, how)
    }

    async fn log(&self) -> Result<Vec<String>, Error> {
        let_others().await;
        Ok(self.events.borrow().log.to_vec())
    }

    async fn stop(&self) -> Result<(), Error> {
        // A node that has been closed has stopped it.
        if let Ok(mut world) = self.shared.call().await {
            world.end(self.number, killed());
        }
        Ok(())
    }
}

/// Error for something that the node does not declare.
fn undeclared(operation: String) -> Error {
    Error::new(ErrorKind::Unsupported, operation, "this is not done on this node")
        .with_fix("use a simulated node")
}
