//! A simulated node.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::time::{ClockId, clock_gettime};
use propagation_core::facts::HostFacts;
use propagation_core::journal::HostChange;
use propagation_core::marker::{MARKER_FILE, Marker, PLAIN_FILE};
use propagation_core::mountinfo::MountTable;
use propagation_core::node::{Probe, Target};
use propagation_core::observation::{Actor, Observation, Via};
use propagation_core::plan::{OTHER_UID, Plan, VolumePaths, WorkloadSpec};
use propagation_core::program::{ProgramState, StartRefused};
use propagation_core::protocol::{
    Call, ContainerSpec, Look, NodeSetup, Place, ProgramEvent, Reply, Seen,
};
use propagation_core::report::Cleanup;
use propagation_core::{Capabilities, Error, ErrorKind, Node, Run, Workload};
use tokio::sync::watch;

use crate::agent::{Agent, Events, Hello};
use crate::workload::{LocalWorkload, Reported};

/// How long the node's processes may take to end.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// A simulated node: a handle on the agent that is it.
#[derive(Debug)]
pub struct LocalNode {
    pub(crate) shared: Arc<Shared>,
    hello: Hello,
    run: Run,
    /// What has been changed and not taken back: what was there before is never undone.
    made: Mutex<Vec<HostChange>>,
}

/// What the node and its workloads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) agent: Agent,
    pub(crate) plan: Plan,
    pub(crate) clock: Clock,
    containers: Arc<Containers>,
    next_container: AtomicU32,
}

/// From the agent's clock to microseconds of the run. Both are CLOCK_MONOTONIC of one kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    zero_ns: u64,
}

impl Clock {
    fn starting_at(started: Instant) -> Self {
        let since = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Self { zero_ns: Self::monotonic_ns().saturating_sub(since) }
    }

    fn monotonic_ns() -> u64 {
        clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map(Duration::from)
            .map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(crate) fn micros(self, at_ns: u64) -> u64 {
        at_ns.saturating_sub(self.zero_ns) / 1_000
    }

    fn now_us(self) -> u64 {
        self.micros(Self::monotonic_ns())
    }

    /// An observation from what the agent has seen.
    pub(crate) fn observation(self, actor: Actor, via: Via, step: &str, seen: Seen) -> Observation {
        Observation {
            actor,
            step: step.into(),
            at_us: self.micros(seen.at_ns),
            took_us: seen.took_ns / 1_000,
            uid: seen.uid,
            via,
            outcome: seen.outcome,
            generation: seen.generation,
            mount: seen.mount,
        }
    }
}

/// The containers that have been started, and what their programs have reported.
#[derive(Debug)]
struct Containers {
    clock: Clock,
    state: Mutex<ContainersState>,
}

#[derive(Debug, Default)]
struct ContainersState {
    by_workload: HashMap<String, (u32, VolumePaths)>,
    reported: HashMap<u32, (String, watch::Sender<Reported>)>,
    reports: Vec<Observation>,
}

impl ContainersState {
    /// Whether a workload of this name runs. One whose program has ended gives its name free.
    fn runs(&self, name: &str) -> bool {
        let known = self.by_workload.get(name).and_then(|(id, _)| self.reported.get(id));
        known.is_some_and(|(_, sender)| sender.borrow().program == ProgramState::Running)
    }
}

impl Containers {
    fn lock(&self) -> MutexGuard<'_, ContainersState> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent has ended, and every program with it.
    fn end_all(&self) {
        for (_, sender) in self.lock().reported.values() {
            sender.send_if_modified(|reported| {
                let runs = reported.program == ProgramState::Running;
                if runs {
                    reported.program = ProgramState::Signaled { signal: "SIGKILL".into() };
                }
                runs
            });
        }
    }

    /// Takes what a program reports. Runs in the task that reads from the agent.
    fn take(&self, id: u32, event: ProgramEvent) {
        let mut state = self.lock();
        let Some((name, sender)) = state.reported.get(&id) else { return };
        let actor = Actor::workload(name.clone());
        let held = Actor::HeldDescriptor { name: name.clone() };
        let clock = self.clock;
        let mut report = None;
        sender.send_modify(|reported| match event {
            ProgramEvent::Mounted { at_ns } => reported.mounted_at_us = Some(clock.micros(at_ns)),
            ProgramEvent::Failed { text } => reported.failure = Some(text),
            ProgramEvent::Saw { seen } => {
                let observation = clock.observation(actor, Via::Watch, "", seen);
                report = Some(observation.clone());
                reported.seen = Some(observation);
            }
            ProgramEvent::Held { seen } => {
                reported.held = Some(seen.outcome.clone());
                report = Some(clock.observation(held, Via::Watch, "", seen));
            }
            ProgramEvent::Log { line } => reported.log.push(line),
            ProgramEvent::Ended { state } => reported.program = state,
        });
        state.reports.extend(report);
    }
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
            spec: plan.node.clone(),
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
        Ok(Self { shared, hello, run: run.clone(), made: Mutex::default() })
    }

    fn made(&self) -> MutexGuard<'_, Vec<HostChange>> {
        // No code that can panic runs under this lock.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Starts containers for workload specs, in order; the number and the events of each that was
    /// made.
    pub(crate) async fn start_containers(
        &self,
        specs: &[WorkloadSpec],
        marker: &Marker,
    ) -> Result<Vec<Result<(u32, watch::Receiver<Reported>), StartRefused>>, Error> {
        let containers: Vec<ContainerSpec> =
            specs.iter().map(|spec| self.container_spec(spec, marker)).collect();
        let ids: Vec<u32> = containers.iter().map(|container| container.id).collect();
        let mut receivers = Vec::new();
        for (spec, id) in specs.iter().zip(&ids) {
            let (sender, receiver) = watch::channel(Reported::default());
            self.containers.lock().reported.insert(*id, (spec.name.clone(), sender));
            receivers.push(receiver);
        }
        let deadline_ms = self.plan.deadlines.start_ms.min(self.plan.deadlines.probe_ms);
        let reply = self.agent.call(Call::Start { containers, deadline_ms }).await?;
        let Reply::Started { refused } = reply else { return Err(unexpected(&reply)) };
        let mut started = Vec::new();
        for (((spec, id), receiver), refusal) in specs.iter().zip(ids).zip(receivers).zip(refused) {
            let mut state = self.containers.lock();
            started.push(match refusal {
                Some(refusal) => {
                    state.reported.remove(&id);
                    Err(refusal)
                }
                None => {
                    let paths = spec.paths(&self.plan.bridge);
                    state.by_workload.insert(spec.name.clone(), (id, paths));
                    Ok((id, receiver))
                }
            });
        }
        Ok(started)
    }

    /// Every name is free and there once: two workloads of one name could not be told apart.
    fn check_names(&self, specs: &[WorkloadSpec]) -> Result<(), Error> {
        let state = self.containers.lock();
        for (number, spec) in specs.iter().enumerate() {
            let again = specs[..number].iter().any(|before| before.name == spec.name);
            if again || state.runs(&spec.name) {
                let subject = format!("start the workload {:?}", spec.name);
                return Err(Error::new(ErrorKind::InvalidInput, subject, "its name is in use")
                    .with_fix("stop the other one first, or use another name"));
            }
        }
        Ok(())
    }

    fn container_spec(&self, spec: &WorkloadSpec, marker: &Marker) -> ContainerSpec {
        let paths = spec.paths(&self.plan.bridge);
        ContainerSpec {
            id: self.next_container.fetch_add(1, Ordering::Relaxed),
            name: spec.name.clone(),
            role: spec.role,
            propagation: spec.propagation,
            privileged: spec.privileged(),
            source: paths.source,
            destination: paths.destination,
            fuse_path: paths.fuse,
            uid: spec.uid,
            program: true,
            replicas: spec.replicas,
            marker: marker.clone(),
            marker_ms: self.plan.deadlines.marker_ms,
            probe_ms: self.plan.deadlines.probe_ms,
            allow_other: self.plan.allow_other,
        }
    }

    /// Forgets a container that has been removed.
    pub(crate) fn forget(&self, id: u32) {
        let mut state = self.containers.lock();
        state.reported.remove(&id);
        state.by_workload.retain(|_, (known, _)| *known != id);
    }

    /// Where an actor looks from, with the paths of its volume if it is a workload.
    fn place(&self, actor: &Actor) -> Result<(Place, Option<VolumePaths>), Error> {
        match actor {
            Actor::Node | Actor::Runtime => Ok((Place::Node, None)),
            Actor::Workload { name, replica } => {
                let known = self.containers.lock().by_workload.get(name).cloned();
                let (id, paths) = known.ok_or_else(|| unknown(actor))?;
                Ok((Place::Container(id, *replica), Some(paths)))
            }
            Actor::HeldDescriptor { .. } => Err(unknown(actor)),
        }
    }

    /// Which directory and file an actor looks at.
    fn look(&self, actor: &Actor, probe: &Probe) -> Result<Look, Error> {
        let (place, paths) = self.place(actor)?;
        let bridge = &self.plan.bridge;
        let (directory, file) = match (probe.target, paths) {
            (Target::Fuse, Some(paths)) => (Some(paths.fuse), MARKER_FILE),
            (Target::Fuse, None) => (Some(bridge.fuse_path()), MARKER_FILE),
            (Target::Bridge, Some(paths)) => (paths.bridge, PLAIN_FILE),
            (Target::Bridge, None) => {
                (self.plan.producer().map(|producer| producer.paths(bridge).source), PLAIN_FILE)
            }
        };
        let directory = directory.ok_or_else(|| unknown(actor))?;
        Ok(Look { place, directory, file: file.into(), uids: probe.uids.clone() })
    }
}

pub(crate) fn unexpected(reply: &Reply) -> Error {
    Error::new(ErrorKind::AgentVersion, "understand the agent", format!("it answered {reply:?}"))
        .with_fix("use the agent of the same release")
}

fn unknown(actor: &Actor) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!("look from {actor}"),
        "no such workload runs on this node",
    )
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
        match self.shared.agent.call(Call::Apply { change: change.clone() }).await? {
            Reply::Applied { now } => {
                if now {
                    self.made().push(change.clone());
                }
                Ok(now)
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn undo(&self, change: &HostChange) -> Result<(), Error> {
        if !self.made().contains(change) {
            return Ok(());
        }
        self.shared.agent.call(Call::Undo { change: change.clone() }).await?;
        self.made().retain(|made| made != change);
        Ok(())
    }

    async fn start(
        &self,
        specs: &[WorkloadSpec],
        marker: &Marker,
    ) -> Result<Vec<Result<Arc<dyn Workload>, StartRefused>>, Error> {
        self.shared.check_names(specs)?;
        let started = self.shared.start_containers(specs, marker).await?;
        let workloads = specs.iter().zip(started).map(|(spec, result)| {
            result.map(|(id, events)| {
                let shared = Arc::clone(&self.shared);
                Arc::new(LocalWorkload::new(shared, spec.clone(), id, events)) as Arc<dyn Workload>
            })
        });
        Ok(workloads.collect())
    }

    async fn observe(&self, actors: &[Actor], probe: &Probe) -> Result<Vec<Observation>, Error> {
        let looks =
            actors.iter().map(|actor| self.shared.look(actor, probe)).collect::<Result<_, _>>()?;
        let call = Call::Observe {
            looks,
            expect: probe.expect.clone(),
            deadline_ms: u64::try_from(probe.deadline.as_millis()).unwrap_or(u64::MAX),
        };
        let reply = self.shared.agent.call(call).await?;
        let Reply::Observed { seen } = reply else { return Err(unexpected(&reply)) };
        let clock = self.shared.clock;
        let each = actors.iter().flat_map(|actor| probe.uids.iter().map(move |_| actor));
        Ok(each
            .zip(seen)
            .map(|(actor, seen)| clock.observation(actor.clone(), Via::Probe, &probe.step, seen))
            .collect())
    }

    fn take_reports(&self) -> Vec<Observation> {
        let mut reports = std::mem::take(&mut self.shared.containers.lock().reports);
        reports.sort_by_key(|observation| observation.at_us);
        reports
    }

    async fn mount_table(&self, actor: &Actor) -> Result<MountTable, Error> {
        let (place, _) = self.shared.place(actor)?;
        let reply = self.shared.agent.call(Call::Mounts { place }).await?;
        let Reply::Mounts { mountinfo } = reply else { return Err(unexpected(&reply)) };
        MountTable::parse(mountinfo.as_bytes()).map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                format!("read the mounts of {actor}"),
                error.to_string(),
            )
        })
    }

    async fn rebind_host(&self) -> Result<(), Error> {
        self.shared.agent.call(Call::RebindHost).await.map(drop)
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
            let ended = tokio::task::spawn_blocking(move || process.wait());
            match tokio::time::timeout(CLOSE_WITHIN, ended).await {
                Ok(Ok(Ok(_))) => cleanup.undone.push(format!(
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
