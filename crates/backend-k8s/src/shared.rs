//! What a node and its workloads share.

mod arrival;
mod start;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::future::try_join_all;
use kube::Client;
use kube::api::DeleteParams;
use propagation_core::client::{Arrival, NodeClient, Reported, lock};
use propagation_core::marker::Marker;
use propagation_core::plan::{Looks, WorkloadSpec};
use propagation_core::protocol::{Bind, Call, ContainerSpec, Place, Reply};
use propagation_core::report::time::WaitedOn;
use propagation_core::{Error, RunId};
use tokio::sync::watch;

use crate::failure::{or_gone, persist};
use crate::host::Host;
use crate::kinds::Pod;
use crate::objects::workload::Placement;
use crate::pods::Pods;
use crate::requests::Api;
use crate::sign::Sign;
use crate::tasks::Tasks;

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
