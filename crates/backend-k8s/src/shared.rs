//! What a node and its workloads share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use propagation_core::marker::{MARKER_FILE, Marker, PLAIN_FILE};
use propagation_core::node::{Probe, Target};
use propagation_core::observation::{Access, Actor, Outcome};
use propagation_core::plan::{Plan, Role, Volume, WorkloadSpec};
use propagation_core::program::StartRefused;
use propagation_core::protocol::{Bind, Call, ContainerSpec, Look, Place, Reply};
use propagation_core::{Error, ErrorKind, RunId};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::failure::{or_gone, persist};
use crate::host::{Clock, Host, unexpected};
use crate::objects::FIELD_MANAGER;
use crate::objects::workload::{Common, Placement, Task, pod};
use crate::pods::{Pods, Standing, back_off, standing};
use crate::programs::{Programs, Reported};

/// When a container that has not started is asked after at its volume's source.
const SUSPICIOUS_AFTER: Duration = Duration::from_secs(3);

/// What a node and its workloads share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// Whether other runs may be in the namespace too.
    pub(crate) shares_namespace: bool,
    pub(crate) run: RunId,
    pub(crate) plan: Plan,
    pub(crate) placement: Placement,
    pub(crate) image: String,
    pub(crate) host: Host,
    pub(crate) pods: Pods,
    pub(crate) clock: Clock,
    pub(crate) programs: Arc<Programs>,
}

/// One workload that is being started.
struct Starting {
    container: u32,
    spec: WorkloadSpec,
    pods: Vec<String>,
    events: watch::Receiver<Reported>,
}

impl Shared {
    pub(crate) fn pod_api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The name of a pod: a workload's may be used again while the pod before is still going.
    fn pod_name(&self, spec: &WorkloadSpec, container: u32, replica: u32) -> String {
        let mut name = format!("{}-{container}", spec.name);
        if spec.replicas > 1 {
            name.push_str(&format!("-{replica}"));
        }
        if self.shares_namespace {
            name.push_str(&format!("-{}", self.run));
        }
        name
    }

    /// Starts the pods of workloads; the number, the pods and the events of each that was made.
    pub(crate) async fn start(
        &self,
        specs: &[WorkloadSpec],
        marker: &Marker,
    ) -> Result<Vec<Result<Started, StartRefused>>, Error> {
        let mut starting = Vec::new();
        for spec in specs {
            let (container, events) = self.programs.add(spec);
            let pods = (0..spec.replicas).map(|replica| self.pod_name(spec, container, replica));
            let pods = pods.collect();
            starting.push(Starting { container, spec: spec.clone(), pods, events });
        }
        let result = self.start_pods(&starting, marker).await;
        if result.is_err() {
            for one in &starting {
                self.programs.forget(one.container);
                // Best effort: closing the node deletes all that is left.
                let _ = self.delete_pods(&one.pods).await;
            }
        }
        result
    }

    async fn start_pods(
        &self,
        starting: &[Starting],
        marker: &Marker,
    ) -> Result<Vec<Result<Started, StartRefused>>, Error> {
        // All pods are made at once, and a producer is told last: what it mounts must not be there
        // when the others bind their volumes.
        let (producers, others): (Vec<_>, Vec<_>) =
            starting.iter().partition(|one| one.spec.role == Role::Producer);
        self.tell(others.iter().map(|one| self.told(one.container, &one.spec, marker))).await?;
        try_join_all(starting.iter().map(|one| self.create_pods(one))).await?;
        let created = Instant::now();
        let mut outcomes = HashMap::new();
        for group in [others, producers] {
            if group.iter().any(|one| one.spec.role == Role::Producer) {
                let told = group.iter().map(|one| self.told(one.container, &one.spec, marker));
                self.tell(told).await?;
            }
            let waits = group.iter().map(|one| async {
                let outcome = self.wait_for_start(one).await?;
                self.programs.note(one.container, &format!(
                    "its program ran {:.0} ms after the API server had its pod (scheduler, kubelet, \
                     runtime)",
                    created.elapsed().as_secs_f64() * 1e3
                ));
                Ok::<_, Error>((one.container, outcome))
            });
            outcomes.extend(try_join_all(waits).await?);
        }
        let mut results = Vec::new();
        for one in starting {
            results.push(match outcomes.remove(&one.container) {
                Some(Err(refusal)) => {
                    self.programs.forget(one.container);
                    self.delete_pods(&one.pods).await?;
                    self.host.call(Call::Remove { container: one.container }).await?;
                    Err(refusal)
                }
                _ => Ok(Started {
                    container: one.container,
                    pods: one.pods.clone(),
                    events: one.events.clone(),
                }),
            });
        }
        Ok(results)
    }

    /// Says to the host agent what containers are to do.
    pub(crate) async fn tell(
        &self,
        containers: impl Iterator<Item = ContainerSpec>,
    ) -> Result<(), Error> {
        let containers = containers.collect();
        let call = Call::Start { containers, deadline_ms: self.plan.deadlines.start_ms };
        match self.host.call(call).await? {
            Reply::Started { .. } => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn told(
        &self,
        container: u32,
        spec: &WorkloadSpec,
        marker: &Marker,
    ) -> ContainerSpec {
        let paths = spec.paths(&self.plan.bridge);
        let bind = Bind {
            source: paths.source,
            destination: paths.destination,
            propagation: spec.propagation,
        };
        ContainerSpec {
            id: container,
            name: spec.name.clone(),
            role: spec.role,
            privileged: spec.privileged(),
            capabilities: spec.capabilities.clone(),
            volumes: vec![bind],
            sub_path: spec.sub_path.clone(),
            fresh_pod: false,
            host: false,
            user_namespace: false,
            made_in: Place::Runtime,
            tools: false,
            fuse_path: paths.fuse,
            uid: spec.uid,
            program: true,
            replicas: spec.replicas,
            marker: marker.clone(),
            marker_ms: self.plan.deadlines.marker_ms,
            probe_ms: self.plan.deadlines.probe_ms,
            fuse: self.plan.fuse_of(spec).clone(),
            supervised: false,
            readers: 0,
            writers: 0,
        }
    }

    async fn create_pods(&self, one: &Starting) -> Result<(), Error> {
        let common = Common {
            namespace: &self.namespace,
            run: Some(&self.run),
            bridge: &self.plan.bridge,
            image: &self.image,
            placement: &self.placement,
        };
        let (api, parameters) = (self.pod_api(), PatchParams::apply(FIELD_MANAGER).force());
        let apply = one.pods.iter().zip(0..).map(|(name, replica)| {
            let task = Task::AsTold { container: one.container, replica, run: &self.run };
            let pod = pod(name, &one.spec, &common, &task);
            let (api, parameters) = (&api, &parameters);
            async move {
                let operation = format!("create pod {}/{name}", self.namespace);
                let patch = Patch::Apply(&pod);
                persist(&operation, || api.patch(name, parameters, &patch)).await
            }
        });
        try_join_all(apply).await.map(drop)
    }

    /// Waits until all replicas have arrived, or one of them cannot.
    async fn wait_for_start(&self, one: &Starting) -> Result<Result<(), StartRefused>, Error> {
        let before = HashMap::new();
        self.wait_for_arrival(one.container, &one.spec, &one.pods, one.events.clone(), before).await
    }

    /// The same after a restart: what a pod's status said before it says nothing.
    pub(crate) async fn wait_for_restart(
        &self,
        container: u32,
        spec: &WorkloadSpec,
        pods: &[String],
        events: watch::Receiver<Reported>,
    ) -> Result<Result<(), StartRefused>, Error> {
        let before = pods.iter().filter_map(|name| Some((name.clone(), self.pods.get(name)?)));
        self.wait_for_arrival(container, spec, pods, events, before.collect()).await
    }

    /// Waits until the programs of a workload have been told what to do, or its pods say that they
    /// cannot start.
    async fn wait_for_arrival(
        &self,
        container: u32,
        spec: &WorkloadSpec,
        pods: &[String],
        mut events: watch::Receiver<Reported>,
        before: HashMap<String, Arc<Pod>>,
    ) -> Result<Result<(), StartRefused>, Error> {
        let began = Instant::now();
        let limit = Duration::from_millis(self.plan.deadlines.start_ms);
        let arrived = events.wait_for(|reported| reported.arrived.len() == pods.len());
        let failing = self.pods.until(|known| {
            pods.iter().find_map(|name| {
                let pod = known.get(name)?;
                let old = before.get(name).map(|pod| &pod.metadata.resource_version);
                if old == Some(&pod.metadata.resource_version) {
                    return None;
                }
                match standing(pod) {
                    Standing::Pending | Standing::Running => None,
                    bad => Some((name.clone(), bad)),
                }
            })
        });
        let suspicious = async {
            tokio::time::sleep(SUSPICIOUS_AFTER).await;
            if !self.source_hangs(spec).await {
                std::future::pending::<()>().await;
            }
        };
        let operation = || format!("start {}", spec.name);
        tokio::select! {
            biased;
            arrived = arrived => match arrived {
                Ok(_) => Ok(Ok(())),
                Err(_) => Err(Error::new(ErrorKind::Disconnected, operation(), "the node was closed")),
            },
            Some((pod, bad)) = failing => match bad {
                Standing::Refused(refusal) => Ok(Err(refusal)),
                Standing::Broken { reason, fix } => {
                    let reason = format!("pod {pod}: {reason}");
                    Err(Error::new(ErrorKind::Environment, operation(), reason).with_fix(fix))
                }
                Standing::Over { reason } => {
                    let reason = reason.unwrap_or_else(|| "it has ended".into());
                    let reason = format!("pod {pod} did not get to run: {reason}");
                    Err(Error::new(ErrorKind::Environment, operation(), reason)
                        .with_fix("see what else happens on the node: kubectl get events"))
                }
                Standing::Pending | Standing::Running => {
                    Err(Error::new(ErrorKind::Internal, operation(), "it stands well and failed"))
                }
            },
            () = suspicious => Ok(Err(StartRefused {
                text: format!(
                    "the runtime does not get past the volume's source {:?}: looking at it hangs",
                    spec.paths(&self.plan.bridge).source
                ),
                errno: Some("hang".into()),
            })),
            () = self.patience(pods, limit) => {
                tracing::debug!(container, after = ?began.elapsed(), "a program did not arrive");
                // The kubelet has tried again, and the same was said.
                let refused = pods.iter().find_map(|name| match standing(&*self.pods.get(name)?) {
                    Standing::Refused(refusal) => Some(refusal),
                    _ => None,
                });
                refused.map_or_else(|| Err(self.too_late(spec, pods, began.elapsed())), |r| Ok(Err(r)))
            }
        }
    }

    /// Waits for a time; and for as long as the kubelet says that it waits between its tries, which
    /// gets longer each time.
    async fn patience(&self, pods: &[String], limit: Duration) {
        tokio::time::sleep(limit).await;
        let pauses = pods.iter().filter_map(|name| back_off(&*self.pods.get(name)?));
        if let Some(pause) = pauses.max() {
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether the runtime would hang at the source of a volume that is the mountpoint itself.
    async fn source_hangs(&self, spec: &WorkloadSpec) -> bool {
        let source = spec.paths(&self.plan.bridge).source;
        if source != self.plan.bridge.fuse_path() {
            return false;
        }
        let look = Look {
            place: Place::Node,
            mount_point: source.clone(),
            directory: source,
            file: MARKER_FILE.into(),
            uids: vec![0],
        };
        let marker = Marker { started: String::new(), generation: 0, nonce: String::new() };
        let deadline_ms = self.plan.deadlines.probe_ms;
        let (looks, access) = (vec![look], Access::Read);
        let call = Call::Observe { looks, access, expect: marker, deadline_ms };
        matches!(self.host.call(call).await, Ok(Reply::Observed { seen })
            if seen.iter().any(|seen| matches!(seen.outcome, Outcome::Hang { .. })))
    }

    fn too_late(&self, spec: &WorkloadSpec, pods: &[String], waited: Duration) -> Error {
        let states: Vec<String> = pods
            .iter()
            .map(|name| match self.pods.get(name) {
                Some(pod) => format!("{name}: {}", in_words(&pod)),
                None => format!("{name}: the API server does not tell of it"),
            })
            .collect();
        let reason = format!("not in {} s; {}", waited.as_secs(), states.join("; "));
        Error::new(ErrorKind::Timeout, format!("start {}", spec.name), reason).with_fix(
            "look at its events: kubectl describe pod; a pod that runs and does not report cannot \
             reach the socket of the host agent (SELinux, or another host)",
        )
    }

    /// Deletes pods without waiting until they are gone. Not by force: a kubelet must have seen that
    /// they are to go before their programs are killed, or it would start them again.
    pub(crate) async fn delete_pods(&self, names: &[String]) -> Result<(), Error> {
        let (api, parameters) = (self.pod_api(), DeleteParams::default());
        let (api, parameters) = (&api, &parameters);
        let delete = names.iter().map(|name| async move {
            let operation = format!("delete pod {}/{name}", self.namespace);
            persist(&operation, || async { or_gone(api.delete(name, parameters).await) }).await
        });
        try_join_all(delete).await.map(drop)
    }

    /// Where an actor looks from; an error when there is no such.
    pub(crate) fn place(&self, actor: &Actor) -> Result<Place, Error> {
        let unknown = || {
            let operation = format!("look from {actor}");
            Error::new(ErrorKind::InvalidInput, operation, "no such workload runs on this node")
        };
        match actor {
            Actor::Node => Ok(Place::Node),
            Actor::Runtime => Ok(Place::Runtime),
            Actor::Workload { name, replica } => {
                let (container, spec) = self.programs.running(name).ok_or_else(unknown)?;
                if *replica >= spec.replicas {
                    return Err(unknown());
                }
                Ok(Place::Container(container, *replica))
            }
            Actor::HeldDescriptor { .. } => Err(unknown()),
        }
    }

    /// Which directory and file an actor looks at; none when it has no such path.
    pub(crate) fn look(&self, actor: &Actor, probe: &Probe) -> Result<Option<Look>, Error> {
        let place = self.place(actor)?;
        let bridge = &self.plan.bridge;
        let spec = match actor {
            Actor::Workload { name, .. } => self.programs.running(name).map(|(_, spec)| spec),
            _ => None,
        };
        let is_file = spec.as_ref().is_some_and(|spec| spec.volume == Volume::File);
        let paths = spec.map(|spec| spec.paths(bridge));
        let (directory, file) = match (probe.target, paths) {
            (Target::Fuse, Some(paths)) => (Some(paths.fuse), MARKER_FILE),
            (Target::Fuse, None) => (Some(bridge.fuse_path()), MARKER_FILE),
            (Target::Bridge, Some(paths)) => (paths.bridge, PLAIN_FILE),
            (Target::Bridge, None) => {
                (self.plan.producer().map(|producer| producer.paths(bridge).source), PLAIN_FILE)
            }
        };
        let uids = probe.uids.clone();
        Ok(directory.map(|directory| Look {
            place,
            mount_point: match is_file {
                true => format!("{directory}/{file}"),
                false => directory.clone(),
            },
            directory,
            file: file.into(),
            uids,
        }))
    }
}

/// A workload whose programs run.
pub(crate) struct Started {
    pub(crate) container: u32,
    pub(crate) pods: Vec<String>,
    pub(crate) events: watch::Receiver<Reported>,
}

/// How a pod stands, for the message of a deadline.
fn in_words(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.clone()).unwrap_or_default();
    let container = status.and_then(|s| s.container_statuses.as_ref()?.first()?.state.clone());
    let waiting = container.and_then(|state| state.waiting);
    match waiting {
        Some(waiting) => {
            let words = [waiting.reason, waiting.message].into_iter().flatten();
            format!("{phase} ({})", words.collect::<Vec<_>>().join(": "))
        }
        None => format!(
            "{phase}, on {}",
            pod.spec.clone().and_then(|s| s.node_name).unwrap_or_else(|| pod.name_any())
        ),
    }
}

/// Locks what only short code without panics holds.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a task gave that goes on when its caller does not wait.
pub(crate) async fn finished<T>(task: JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    task.await.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Internal, "wait for a task", error.to_string()))
    })
}
