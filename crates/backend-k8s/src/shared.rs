//! What a node and its workloads share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use kube::Client;
use kube::api::DeleteParams;
use propagation_core::client::{Arrival, NodeClient, Reported, lock};
use propagation_core::host::{HostCall, ProgramId};
use propagation_core::journal::HostChange;
use propagation_core::marker::{MARKER_FILE, Marker};
use propagation_core::observation::{Access, Outcome};
use propagation_core::plan::{Looks, Role, User, WorkloadSpec};
use propagation_core::program::{RefusalKind, StartRefused};
use propagation_core::protocol::{Bind, Call, ContainerSpec, Look, Place, Reply};
use propagation_core::report::time::WaitedOn;
use propagation_core::{Error, ErrorKind, RunId};
use tokio::sync::watch;

use crate::failure::{or_gone, persist};
use crate::host::Host;
use crate::kinds::{Kind, Pod};
use crate::objects::workload::{Common, Placement, Task, pod};
use crate::pods::Pods;
use crate::requests::Api;
use crate::sign::Sign;
use crate::standing::{Heard, Standing, back_off, standing};
use crate::tasks::Tasks;
use crate::told::{Told, of_pod};

/// Time after which the source of the volume of a container that does not start is looked at.
const SUSPICIOUS_AFTER: Duration = Duration::from_secs(3);

/// What a node and its workloads share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// The name of the node.
    pub(crate) node_name: String,
    /// Whether other runs may be in the namespace too.
    pub(crate) shares_namespace: bool,
    pub(crate) run: RunId,
    pub(crate) placement: Placement,
    pub(crate) image: String,
    /// What containers with programs of the scenario get of the node; nothing where their image has the programs.
    pub(crate) trees: Vec<&'static str>,
    pub(crate) pods: Pods,
    /// Tells others that the run goes on.
    pub(crate) _sign: Sign,
    pub(crate) node: Arc<NodeClient<Host>>,
    pub(crate) tasks: Tasks,
    /// From when to when a kubelet was waited for to end pods, since the last restart of one.
    pub(crate) stopping: Mutex<Option<(Instant, Instant)>>,
}

/// A container that has been started: its number and its reports.
pub(crate) type Started = (u32, watch::Receiver<Reported>);

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

    /// The names of a workload's pods, none for a process of the node: its own may be used again while the pods
    /// before are still going.
    pub(crate) fn pod_names(&self, spec: &WorkloadSpec, container: u32) -> Vec<String> {
        if spec.host {
            return Vec::new();
        }
        let name = |replica| {
            let mut name = format!("{}-{container}", spec.name);
            if spec.replicas > 1 {
                name.push_str(&format!("-{replica}"));
            }
            if self.shares_namespace {
                name.push_str(&format!("-{}", self.run));
            }
            name
        };
        (0..spec.replicas).map(name).collect()
    }

    /// Starts the pods of workloads, in order.
    pub(crate) async fn start(
        &self,
        specs: &[WorkloadSpec],
        marker: &Marker,
    ) -> Result<Vec<Result<Started, StartRefused>>, Error> {
        let mut starting = Vec::new();
        for spec in specs {
            let (container, events) = self.node.programs.add(spec);
            // Its name is taken at once: a start goes on when its caller does not wait.
            self.node.programs.stands(container);
            let pods = self.pod_names(spec, container);
            starting.push(Starting { container, spec: spec.clone(), pods, events });
        }
        let result = self.start_pods(&starting, marker).await;
        // Where the node is being closed that is left to it.
        if result.is_err() && self.tasks.go_on().is_ok() {
            for one in &starting {
                self.node.programs.forget(one.container);
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
        self.make_sources(starting).await?;
        self.tell(others.iter().map(|one| self.told(one.container, &one.spec, marker))).await?;
        try_join_all(starting.iter().map(|one| self.create_pods(one))).await?;
        let created_us = self.node.programs.clock().now_us();
        let mut outcomes = HashMap::new();
        for group in [others, producers] {
            if group.iter().any(|one| one.spec.role == Role::Producer) {
                // Where it mounts is the run's when it is not there yet.
                let (path, owner) = (self.node.plan.bridge.fuse_path(), group[0].spec.uid);
                self.node.apply(&HostChange::MakeDirectory { path, owner }).await?;
                let told = group.iter().map(|one| self.told(one.container, &one.spec, marker));
                self.tell(told).await?;
            }
            let waits = group.iter().map(|one| async {
                let outcome = self.wait_for_start(one).await;
                self.waited(&one.spec.name, created_us, &one.events);
                Ok::<_, Error>((one.container, outcome?))
            });
            outcomes.extend(try_join_all(waits).await?);
        }
        let mut results = Vec::new();
        for one in starting {
            results.push(match outcomes.remove(&one.container) {
                Some(Err(refusal)) => {
                    self.node.programs.forget(one.container);
                    self.delete_pods(&one.pods).await?;
                    self.node.call(Call::Remove { container: one.container }).await?;
                    Err(refusal)
                }
                _ => Ok((one.container, one.events.clone())),
            });
        }
        Ok(results)
    }

    /// Makes the directories of further volumes that are not there: a runtime would make them, and nobody remove them.
    /// Those that it makes in the first volume, to mount there, are noted, and those that the kubelet makes for a
    /// `subPath`: in one call, because the journal has one writer at a time.
    async fn make_sources(&self, starting: &[Starting]) -> Result<(), Error> {
        let below = starting.iter().flat_map(|one| {
            let first = one.spec.paths(&self.node.plan.bridge);
            one.spec.volumes.iter().filter_map(move |volume| {
                let below = volume.destination.strip_prefix(&first.destination)?;
                below.starts_with('/').then(|| format!("{}{below}", first.source))
            })
        });
        let sub_paths = starting.iter().filter_map(|one| {
            let sub_path = one.spec.sub_path.as_ref()?;
            Some(format!("{}/{sub_path}", one.spec.paths(&self.node.plan.bridge).source))
        });
        let paths: Vec<String> = below.chain(sub_paths).collect();
        if !paths.is_empty() {
            self.node.connection.ask(HostCall::Foresee { paths }).await?;
        }
        let volumes = starting.iter().flat_map(|one| &one.spec.volumes);
        for volume in volumes.filter(|volume| volume.bind.kind.is_none()) {
            let path = self.node.plan.bridge.fill(&volume.source);
            self.node.apply(&HostChange::MakeDirectory { path, owner: 0 }).await?;
        }
        Ok(())
    }

    /// Says to the host agent what containers are to do.
    pub(crate) async fn tell(
        &self,
        containers: impl Iterator<Item = ContainerSpec>,
    ) -> Result<(), Error> {
        let containers = containers.collect();
        let call = Call::Start { containers, deadline_ms: self.node.plan.deadlines.start_ms };
        match self.node.call(call).await? {
            Reply::Started { .. } => Ok(()),
            other => Err(self.node.unexpected(&other)),
        }
    }

    pub(crate) fn told(
        &self,
        container: u32,
        spec: &WorkloadSpec,
        marker: &Marker,
    ) -> ContainerSpec {
        let paths = spec.paths(&self.node.plan.bridge);
        let bind = Bind {
            source: paths.source,
            destination: paths.destination,
            propagation: spec.propagation,
            how: spec.bind,
        };
        let bridge = &self.node.plan.bridge;
        let further = spec.volumes.iter().map(|volume| Bind {
            source: bridge.fill(&volume.source),
            destination: volume.destination.clone(),
            propagation: volume.propagation,
            how: volume.bind,
        });
        ContainerSpec {
            id: container,
            name: spec.name.clone(),
            role: spec.role,
            privileged: spec.privileged(),
            capabilities: spec.capabilities.clone(),
            volumes: std::iter::once(bind).chain(further).collect(),
            sub_path: spec.sub_path.clone(),
            fresh_pod: false,
            host: spec.host,
            user_namespace: spec.user_namespace,
            made_in: Place::Runtime,
            tools: self.node.plan.needs_programs(spec),
            fuse_path: paths.fuse,
            directory: self.node.plan.directory_of(spec),
            user: spec.user(),
            watches: self.node.plan.looks == Looks::All,
            replicas: spec.replicas,
            marker: marker.clone(),
            marker_ms: self.node.plan.deadlines.marker_ms,
            probe_ms: self.node.plan.deadlines.probe_ms,
            fuse: self.node.plan.fuse_of(spec).clone(),
            supervised: spec.supervised,
            readers: 0,
            writers: 0,
        }
    }

    async fn create_pods(&self, one: &Starting) -> Result<(), Error> {
        let common = Common {
            namespace: &self.namespace,
            run: Some(&self.run),
            bridge: &self.node.plan.bridge,
            image: &self.image,
            placement: &self.placement,
        };
        self.tasks.go_on()?;
        self.pods.expect(&one.pods);
        let api = self.pod_api();
        let secrets = one.pods.iter().map(|_| secret()).collect::<Result<Vec<_>, _>>()?;
        let apply = one.pods.iter().zip(0..).zip(secrets).map(|((name, replica), secret)| {
            let program = ProgramId { container: one.container, replica };
            let needs_programs = self.node.plan.needs_programs(&one.spec);
            let trees = if needs_programs { self.trees.as_slice() } else { &[] };
            let task = Task::AsTold { program, secret: &secret, run: &self.run, trees };
            let pod = pod(name, &one.spec, &common, &task);
            let api = &api;
            async move {
                let operation = format!("create pod {}/{name}", self.namespace);
                let made = persist(&operation, || api.apply(name, &pod)).await?;
                let user_namespace = one.spec.user_namespace;
                let has_it = made.spec.and_then(|spec| spec.host_users) == Some(false);
                if user_namespace && !has_it {
                    let reason = "the API server made it without its own user namespace: it does not know hostUsers";
                    return Err(Error::new(ErrorKind::Unsupported, operation, reason)
                        .with_fix("use Kubernetes 1.33 or newer, or leave out user_namespace"));
                }
                let pod = made.metadata.uid.unwrap_or_default();
                let admit = HostCall::Admit { program, pod, secret, user_namespace };
                self.node.connection.ask(admit).await
            }
        });
        try_join_all(apply).await.map(drop)
    }

    /// Waits until all replicas have arrived, or one of them cannot.
    async fn wait_for_start(&self, one: &Starting) -> Result<Result<(), StartRefused>, Error> {
        let heard = HashMap::new();
        self.wait_for_arrival(one.container, &one.spec, &one.pods, one.events.clone(), heard).await
    }

    /// The same after a restart: what a pod's status said before it says nothing.
    pub(crate) async fn wait_for_restart(
        &self,
        container: u32,
        spec: &WorkloadSpec,
        pods: &[String],
        events: watch::Receiver<Reported>,
    ) -> Result<Result<(), StartRefused>, Error> {
        let heard = pods.iter().filter_map(|name| {
            let pod = self.pods.get(name)?;
            Some((name.clone(), Heard::of(&pod)))
        });
        self.wait_for_arrival(container, spec, pods, events, heard.collect()).await
    }

    /// Waits until the programs of a workload have been told what to do, or its pods say that they
    /// cannot start.
    async fn wait_for_arrival(
        &self,
        container: u32,
        spec: &WorkloadSpec,
        pods: &[String],
        mut events: watch::Receiver<Reported>,
        mut heard: HashMap<String, Heard>,
    ) -> Result<Result<(), StartRefused>, Error> {
        let began = Instant::now();
        let limit = Duration::from_millis(self.node.plan.deadlines.start_ms);
        let replicas = usize::try_from(spec.replicas).unwrap_or(usize::MAX);
        let arrived = events.wait_for(|reported| reported.arrived.len() == replicas);
        let failing = self.pods.until(|known| {
            pods.iter().find_map(|name| {
                let news = heard.entry(name.clone()).or_default().news(known.get(name)?)?;
                Some((name.clone(), news))
            })
        });
        let suspicious = async {
            tokio::time::sleep(SUSPICIOUS_AFTER).await;
            if !self.source_hangs(spec).await {
                std::future::pending::<()>().await;
            }
        };
        let impatient = async {
            self.patience(pods, limit).await;
            let refused = pods.iter().find_map(|name| match standing(&*self.pods.get(name)?) {
                Standing::Refused(refusal) => Some(refusal),
                _ => None,
            });
            // The kubelet has tried again, or would hear the same.
            match refused {
                Some(refusal) if self.is_so_still(spec, &refusal).await => Ok(Err(refusal)),
                _ => Err(self.too_late(spec, pods, began.elapsed()).await),
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
                    let reason = format!("pod {pod} did not run: {reason}");
                    Err(Error::new(ErrorKind::Environment, operation(), reason)
                        .with_fix("see what else happens on the node: kubectl get events"))
                }
                Standing::Pending | Standing::Running => {
                    Err(Error::new(ErrorKind::Internal, operation(), "it stands well and failed"))
                }
            },
            error = self.pods.disturbance() => Err(error),
            error = self.tasks.ending() => Err(error),
            error = self.node.connection.given_up() => Err(error),
            () = suspicious => Ok(Err(StartRefused::of(
                RefusalKind::Hangs,
                format!(
                    "the runtime does not get past the volume's source {:?}: looking at it hangs",
                    spec.paths(&self.node.plan.bridge).source
                ),
            ))),
            outcome = impatient => {
                tracing::debug!(container, after = ?began.elapsed(), "a program did not arrive");
                outcome
            }
        }
    }

    /// Whether what the runtime has refused a source for is still so, as far as a look can tell.
    async fn is_so_still(&self, spec: &WorkloadSpec, refusal: &StartRefused) -> bool {
        let seen = self.look_at_source(spec).await;
        let of_the_source = refusal.errno.is_some() && refusal.kind != RefusalKind::NotPermitted;
        !of_the_source
            || seen.is_none_or(|seen| matches!(seen, Outcome::Errno { .. } | Outcome::Hang { .. }))
    }

    /// Remembers that a kubelet was waited for to end pods.
    pub(crate) fn waited_to_stop(&self, since: Instant) {
        let mut stopping = lock(&self.stopping);
        let first = stopping.map_or(since, |(first, _)| first);
        *stopping = Some((first, Instant::now()));
    }

    /// How long a kubelet was waited for to end pods, in milliseconds.
    pub(crate) fn stopped_in_ms(&self) -> f64 {
        lock(&self.stopping).map_or(0.0, |(first, last)| (last - first).as_secs_f64() * 1e3)
    }

    /// Remembers what was waited for until the programs of a workload had come.
    pub(crate) fn waited(&self, workload: &str, since_us: u64, events: &watch::Receiver<Reported>) {
        let programs = &self.node.programs;
        let arrivals: Vec<Arrival> = events.borrow().arrived.values().copied().collect();
        let process = arrivals.iter().map(|arrival| arrival.process_us).max();
        let came = arrivals.iter().map(|arrival| arrival.came_us).max();
        // One that was refused or given up has no process that counts.
        let process_us = process.unwrap_or_else(|| programs.clock().now_us()).max(since_us);
        programs.waited(WaitedOn::Kubelet, workload, since_us, process_us);
        if let Some(came_us) = came {
            programs.waited(WaitedOn::Runtime, workload, process_us, came_us.max(process_us));
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
        matches!(self.look_at_source(spec).await, Some(Outcome::Hang { .. }))
    }

    /// Looks at the source of a volume that is the mountpoint itself.
    async fn look_at_source(&self, spec: &WorkloadSpec) -> Option<Outcome> {
        let source = spec.paths(&self.node.plan.bridge).source;
        if source != self.node.plan.bridge.fuse_path() {
            return None;
        }
        let look = Look {
            place: Place::Node,
            mount_point: source.clone(),
            directory: source,
            file: MARKER_FILE.into(),
            belongs_to: None,
            users: vec![User::default()],
        };
        let deadline_ms = self.node.plan.deadlines.probe_ms;
        let (looks, access) = (vec![look], Access::Read);
        let call = Call::Observe { looks, access, expect: Vec::new(), deadline_ms };
        match self.node.call(call).await {
            Ok(Reply::Observed { mut seen }) => seen.pop().map(|seen| seen.outcome),
            _ => None,
        }
    }

    async fn too_late(&self, spec: &WorkloadSpec, pods: &[String], waited: Duration) -> Error {
        let states: Vec<String> = pods
            .iter()
            .map(|name| match self.pods.get(name) {
                Some(pod) => format!("{name}: {}", in_words(&pod)),
                None => format!("{name}: the API server does not tell of it"),
            })
            .collect();
        let reason = format!("not in {} s; {}", waited.as_secs(), states.join("; "));
        let told = match pods.first() {
            Some(pod) => of_pod(&self.client, &self.namespace, pod, &self.node_name).await,
            None => Told::default(),
        };
        let operation = format!("start {}", spec.name);
        let error = Error::new(ErrorKind::Timeout, operation, told.after(&reason));
        error.with_fix(told.fix.unwrap_or_else(|| {
            "look at its events: kubectl describe pod; a pod that runs and does not report cannot \
             reach the socket of the host agent (SELinux, or another host) or was refused there (the \
             host agent's log says why)"
                .into()
        }))
    }

    /// Deletes pods without waiting until they are gone. Not by force: a kubelet must have seen that
    /// they are to go before their programs are killed, or it would start them again.
    pub(crate) async fn delete_pods(&self, names: &[String]) -> Result<(), Error> {
        self.delete_pods_with(names, None).await
    }

    /// The same with another grace period than the pods' own.
    pub(crate) async fn delete_pods_with(
        &self,
        names: &[String],
        grace_period_seconds: Option<u32>,
    ) -> Result<(), Error> {
        self.pods.expect_no_more(names);
        let (api, parameters) =
            (self.pod_api(), DeleteParams { grace_period_seconds, ..DeleteParams::default() });
        let (api, parameters) = (&api, &parameters);
        let delete = names.iter().map(|name| async move {
            let operation = format!("delete pod {}/{name}", self.namespace);
            persist(&operation, || async { or_gone(api.delete(name, parameters).await) }).await
        });
        try_join_all(delete).await.map(drop)
    }
}

/// What the program of a pod is known by.
fn secret() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::from_source(ErrorKind::Environment, "draw random numbers", error)
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
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
            pod.spec.clone().and_then(|s| s.node_name).unwrap_or_else(|| pod.name())
        ),
    }
}
