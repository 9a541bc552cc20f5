//! A simulated node.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use propagation_core::facts::HostFacts;
use propagation_core::journal::HostChange;
use propagation_core::marker::Marker;
use propagation_core::mountinfo::MountTable;
use propagation_core::node::Probe;
use propagation_core::observation::{Actor, Observation, Via};
use propagation_core::plan::{OTHER_UID, Plan, WorkloadSpec};
use propagation_core::program::{Executed, StartRefused};
use propagation_core::protocol::{Call, Look, NodeSetup, Reply};
use propagation_core::report::{Cleanup, Usage};
use propagation_core::{Capabilities, Error, ErrorKind, Node, Run, Workload};

use crate::agent::{Agent, Events, Hello};
use crate::containers::{Clock, Containers};
use crate::runtime;
use crate::shared::{Shared, finished, lock, unexpected, within};
use crate::workload::LocalWorkload;

/// How long the node's processes may take to end.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// A simulated node: a handle on the agent that is it.
#[derive(Debug)]
pub struct LocalNode {
    pub(crate) shared: Arc<Shared>,
    hello: Hello,
    run: Run,
    /// What has been changed and not taken back: what was there before is never undone.
    made: Arc<Mutex<Vec<HostChange>>>,
}

impl LocalNode {
    /// Makes a node for a run.
    ///
    /// # Errors
    /// As [`propagation_core::Backend::open`].
    pub async fn open(plan: &Plan, run: &Run) -> Result<Self, Error> {
        let clock = Clock::starting_at(run.started);
        let containers = Arc::new(Containers { clock, state: Mutex::default() });
        let setup = NodeSetup {
            run_id: run.id.to_string(),
            spec: runtime::with_path(&plan.node),
            bridge: plan.bridge.path.clone(),
            mountpoint: plan.bridge.mountpoint.clone(),
        };
        let (each, end) = (Arc::clone(&containers), Arc::clone(&containers));
        let events = Events {
            each: Box::new(move |id, event| each.take(id, event)),
            end: Box::new(move || end.end_all()),
        };
        let (agent, hello) = Agent::start(&setup, run.keep, events).await?;
        let shared = Arc::new(Shared {
            agent,
            plan: plan.clone(),
            clock,
            containers,
            next_container: AtomicU32::new(0),
        });
        Ok(Self { shared, hello, run: run.clone(), made: Arc::default() })
    }
}

#[async_trait]
impl Node for LocalNode {
    fn name(&self) -> &str {
        "local"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            shape_node: true,
            rebind_host: true,
            rebind_consumer: true,
            other_uids: self.hello.mapped_uids > u64::from(OTHER_UID),
            stop_fault: true,
            replicas: true,
            real_kernel: true,
        }
    }

    fn now_us(&self) -> u64 {
        self.shared.clock.now_us()
    }

    async fn facts(&self) -> Result<HostFacts, Error> {
        match self.shared.agent.call(Call::Facts).await? {
            Reply::Facts { facts } => Ok(*facts),
            other => Err(unexpected(&other)),
        }
    }

    async fn apply(&self, change: &HostChange) -> Result<bool, Error> {
        let (shared, made) = (Arc::clone(&self.shared), Arc::clone(&self.made));
        let change = change.clone();
        // In a task of its own: a change that is made is noted, whether the caller waits or not.
        finished(tokio::spawn(async move {
            match shared.agent.call(Call::Apply { change: change.clone() }).await? {
                Reply::Applied { now } => {
                    if now {
                        lock(&made).push(change);
                    }
                    Ok(now)
                }
                other => Err(unexpected(&other)),
            }
        }))
        .await
    }

    async fn undo(&self, change: &HostChange) -> Result<(), Error> {
        if !lock(&self.made).contains(change) {
            return Ok(());
        }
        self.shared.agent.call(Call::Undo { change: change.clone() }).await?;
        lock(&self.made).retain(|made| made != change);
        Ok(())
    }

    async fn start(
        &self,
        specs: &[WorkloadSpec],
        marker: &Marker,
    ) -> Result<Vec<Result<Arc<dyn Workload>, StartRefused>>, Error> {
        self.shared.check_names(specs)?;
        let started = self.shared.start_containers(specs, marker, true).await?;
        let workloads = specs.iter().zip(started).map(|(spec, result)| {
            result.map(|(id, events)| {
                let shared = Arc::clone(&self.shared);
                Arc::new(LocalWorkload::new(shared, spec.clone(), id, events)) as Arc<dyn Workload>
            })
        });
        Ok(workloads.collect())
    }

    async fn observe(&self, actors: &[Actor], probe: &Probe) -> Result<Vec<Observation>, Error> {
        let looks: Vec<Option<Look>> =
            actors.iter().map(|actor| self.shared.look(actor, probe)).collect::<Result<_, _>>()?;
        let call = Call::Observe {
            looks: looks.iter().flatten().cloned().collect(),
            access: probe.access,
            expect: probe.expect.clone(),
            deadline_ms: u64::try_from(probe.deadline.as_millis()).unwrap_or(u64::MAX),
        };
        let reply = self.shared.agent.call(call).await?;
        let Reply::Observed { seen } = reply else { return Err(unexpected(&reply)) };
        let clock = self.shared.clock;
        let mut seen = seen.into_iter();
        let mut observations = Vec::with_capacity(actors.len() * probe.uids.len());
        for (actor, look) in actors.iter().zip(&looks) {
            for uid in &probe.uids {
                let one = match look {
                    Some(_) => seen.next().ok_or_else(|| unexpected(&Reply::Done))?,
                    None => clock.nothing_there(*uid),
                };
                let made = clock.observation(actor.clone(), Via::Probe, &probe.step, one);
                observations.push(Observation { access: probe.access, ..made });
            }
        }
        Ok(observations)
    }

    fn take_reports(&self) -> Vec<Observation> {
        let mut reports = std::mem::take(&mut self.shared.containers.lock().reports);
        reports.sort_by_key(|observation| observation.at_us);
        reports
    }

    async fn mount_tables(&self, actors: &[Actor]) -> Result<Vec<Option<MountTable>>, Error> {
        let place = |actor| match self.shared.has_been_stopped(actor) {
            true => Ok(None),
            false => self.shared.place(actor).map(|(place, _)| Some(place)),
        };
        let places = actors.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let call = Call::Mounts { places: places.iter().flatten().cloned().collect() };
        let reply = self.shared.agent.call(call).await?;
        let Reply::Mounts { mountinfo } = reply else { return Err(unexpected(&reply)) };
        let mut mountinfo = mountinfo.into_iter();
        let parse = |(actor, place): (&Actor, &Option<_>)| {
            let text = place.as_ref().and_then(|_| mountinfo.next()).flatten();
            let parsed = text.map(|text| MountTable::parse(text.as_bytes())).transpose();
            parsed.map_err(|error| {
                let operation = format!("read the mounts of {actor}");
                Error::new(ErrorKind::Internal, operation, error.to_string())
            })
        };
        actors.iter().zip(&places).map(parse).collect()
    }

    async fn rebind_host(&self, deduplicate: bool) -> Result<(), Error> {
        self.shared.agent.call(Call::RebindHost { deduplicate }).await.map(drop)
    }

    async fn unmount(&self, lazy: bool) -> Result<(), Error> {
        self.shared.agent.call(Call::Unmount { lazy }).await.map(drop)
    }

    async fn execute(
        &self,
        actor: &Actor,
        command: &[String],
        deadline: Duration,
    ) -> Result<Executed, Error> {
        let (place, _) = self.shared.place(actor)?;
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let call = Call::Execute { place, command: command.to_vec(), deadline_ms };
        match self.shared.agent.call(call).await? {
            Reply::Executed { executed } => Ok(executed),
            other => Err(unexpected(&other)),
        }
    }

    async fn usage(&self) -> Result<Usage, Error> {
        match self.shared.agent.call(Call::Usage).await? {
            Reply::Usage { blocked_processes, fuse_connections } => {
                Ok(Usage { blocked_processes, fuse_connections })
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn close(&self) -> Cleanup {
        let started = Instant::now();
        let agent = &self.shared.agent;
        let mut cleanup = Cleanup::default();
        let run_id = &self.run.id;
        if self.run.keep && agent.call(Call::Keep).await.is_ok() {
            // The process belongs to `propagation clean` from here on.
            drop(agent.take_process());
            cleanup.kept.push(format!(
                "the node of run {run_id}: look with `nsenter --all --target $(pgrep --parent {})`, \
                 remove with `propagation clean --run-id {run_id}`",
                agent.pid()
            ));
            return cleanup;
        }
        agent.close_socket();
        self.shared.containers.end_all();
        if let Some(mut process) = agent.take_process() {
            match within(CLOSE_WITHIN, move || process.wait()).await {
                Some(Ok(_)) => cleanup.undone.push(format!(
                    "ended the node of run {run_id} with its processes, mounts and namespaces"
                )),
                _ => cleanup.could_not.push(format!(
                    "the node of run {run_id} (process {}) has not ended in {} s: a process in it \
                     is stuck in the kernel; try `propagation clean --run-id {run_id}`",
                    agent.pid(),
                    CLOSE_WITHIN.as_secs()
                )),
            }
        }
        cleanup.duration_ms = started.elapsed().as_secs_f64() * 1e3;
        cleanup
    }
}
