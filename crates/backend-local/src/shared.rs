//! What a node and its workloads share: the agent, and how to ask it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use propagation_core::marker::{MARKER_FILE, Marker, PLAIN_FILE};
use propagation_core::node::{Probe, Target};
use propagation_core::observation::Actor;
use propagation_core::plan::{Plan, Volume, VolumePaths, WorkloadSpec};
use propagation_core::program::{ProgramState, StartRefused};
use propagation_core::protocol::{Bind, Call, ContainerSpec, Look, Place, Reply};
use propagation_core::{Error, ErrorKind};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::agent::Agent;
use crate::containers::{Clock, Containers};
use crate::workload::Reported;

/// What the node and its workloads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) agent: Agent,
    pub(crate) plan: Plan,
    pub(crate) clock: Clock,
    pub(crate) containers: Arc<Containers>,
    pub(crate) next_container: AtomicU32,
}

impl Shared {
    /// Starts containers for workload specs, in order; the number and the events of each that was
    /// made.
    pub(crate) async fn start_containers(
        &self,
        specs: &[WorkloadSpec],
        marker: &Marker,
        fresh_pods: bool,
    ) -> Result<Vec<Result<(u32, watch::Receiver<Reported>), StartRefused>>, Error> {
        let containers: Vec<ContainerSpec> =
            specs.iter().map(|spec| self.container_spec(spec, marker, fresh_pods)).collect();
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
    pub(crate) fn check_names(&self, specs: &[WorkloadSpec]) -> Result<(), Error> {
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

    fn container_spec(
        &self,
        spec: &WorkloadSpec,
        marker: &Marker,
        fresh_pod: bool,
    ) -> ContainerSpec {
        let plan = &self.plan;
        let paths = spec.paths(&plan.bridge);
        let experiment = Bind {
            source: paths.source,
            destination: paths.destination,
            propagation: spec.propagation,
        };
        let extra = spec.volumes.iter().map(|volume| Bind {
            source: plan.fill_paths(&volume.source),
            destination: volume.destination.clone(),
            propagation: volume.propagation,
        });
        let fuse = plan.fuse_of(spec);
        // A user of its own mounts through fusermount3; programs of a scenario need theirs.
        let tools = spec.uid != 0 || !fuse.is_builtin() || plan.runs_programs_in(&spec.name);
        ContainerSpec {
            id: self.next_container.fetch_add(1, Ordering::Relaxed),
            name: spec.name.clone(),
            role: spec.role,
            privileged: spec.privileged(),
            capabilities: spec.capabilities.clone(),
            volumes: std::iter::once(experiment).chain(extra).collect(),
            sub_path: spec.sub_path.clone(),
            fresh_pod,
            fuse_path: paths.fuse,
            host: spec.host,
            user_namespace: spec.user_namespace,
            made_in: if spec.outside_runtime || spec.host { Place::Node } else { Place::Runtime },
            tools,
            uid: spec.uid,
            program: true,
            replicas: spec.replicas,
            marker: marker.clone(),
            marker_ms: plan.deadlines.marker_ms,
            probe_ms: plan.deadlines.probe_ms,
            fuse: fuse.clone(),
            supervised: spec.supervised,
            readers: spec.readers,
            writers: spec.writers,
        }
    }

    /// A producer is about to serve again in the container it has.
    pub(crate) fn begins_again(&self, id: u32) {
        if let Some((_, sender)) = self.containers.lock().reported.get(&id) {
            sender.send_modify(|reported| {
                reported.program = ProgramState::Running;
                (reported.mounted_at_us, reported.failure) = (None, None);
            });
        }
    }

    /// Forgets a container that has been removed.
    pub(crate) fn forget(&self, id: u32) {
        let mut state = self.containers.lock();
        state.reported.remove(&id);
        let stopped = state.by_workload.extract_if(|_, (known, _)| *known == id);
        let stopped: Vec<String> = stopped.map(|(name, _)| name).collect();
        state.stopped.extend(stopped);
    }

    /// Whether an actor is a workload that has been stopped and not started again.
    pub(crate) fn has_been_stopped(&self, actor: &Actor) -> bool {
        let Actor::Workload { name, .. } = actor else { return false };
        let state = self.containers.lock();
        !state.by_workload.contains_key(name) && state.stopped.contains(name)
    }

    /// Where an actor looks from, with the paths of its volume if it is a workload.
    pub(crate) fn place(&self, actor: &Actor) -> Result<(Place, Option<VolumePaths>), Error> {
        match actor {
            Actor::Node => Ok((Place::Node, None)),
            Actor::Runtime => Ok((Place::Runtime, None)),
            Actor::Workload { name, replica } => {
                let known = self.containers.lock().by_workload.get(name).cloned();
                let (id, paths) = known.ok_or_else(|| unknown(actor))?;
                Ok((Place::Container(id, *replica), Some(paths)))
            }
            Actor::HeldDescriptor { .. } => Err(unknown(actor)),
        }
    }

    /// Which directory and file an actor looks at; none when it has no such path.
    pub(crate) fn look(&self, actor: &Actor, probe: &Probe) -> Result<Option<Look>, Error> {
        let (place, paths) = self.place(actor)?;
        let bridge = &self.plan.bridge;
        let is_file = match actor {
            Actor::Workload { name, .. } => {
                self.plan.workload(name).is_some_and(|spec| spec.volume == Volume::File)
            }
            _ => false,
        };
        let (directory, file) = match (probe.target, paths) {
            (Target::Fuse, Some(paths)) => (Some(paths.fuse), MARKER_FILE),
            (Target::Fuse, None) => (Some(bridge.fuse_path()), MARKER_FILE),
            (Target::Bridge, Some(paths)) => (paths.bridge, PLAIN_FILE),
            (Target::Bridge, None) => {
                (self.plan.producer().map(|producer| producer.paths(bridge).source), PLAIN_FILE)
            }
        };
        Ok(directory.map(|directory| Look {
            place,
            mount_point: match is_file {
                true => format!("{directory}/{file}"),
                false => directory.clone(),
            },
            directory,
            file: file.into(),
            uids: probe.uids.clone(),
        }))
    }
}

/// Locks what only short code without panics holds.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `work`, which may block for ever, gives within a time; none when it passes first. The thread
/// is its own: a runtime waits for the threads of its pool when it ends.
pub(crate) async fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    let started = std::thread::Builder::new().name("propagation-wait".into()).spawn(move || {
        // Nobody waits any more: the result is not wanted.
        let _ = sender.send(work());
    });
    started.ok()?;
    tokio::time::timeout(limit, receiver).await.ok()?.ok()
}

/// What a task gave that goes on when its caller does not wait.
pub(crate) async fn finished<T>(task: JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    task.await.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Internal, "wait for a task", error.to_string()))
    })
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
