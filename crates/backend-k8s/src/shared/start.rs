//! The start of workloads: their directories, their pods, what their programs are told.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use propagation_core::client::Reported;
use propagation_core::host::{HostCall, ProgramId};
use propagation_core::journal::HostChange;
use propagation_core::marker::Marker;
use propagation_core::plan::{Role, WorkloadSpec};
use propagation_core::program::StartRefused;
use propagation_core::protocol::Call;
use propagation_core::{Error, ErrorKind};
use tokio::sync::watch;

use super::{Shared, Started};
use crate::failure::persist;
use crate::objects::workload::{Common, Task, pod};

/// One workload that is being started.
struct Starting {
    container: u32,
    spec: WorkloadSpec,
    pods: Vec<String>,
    events: watch::Receiver<Reported>,
}

impl Shared {
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
}

/// What the program of a pod is known by.
fn secret() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::from_source(ErrorKind::Environment, "draw random numbers", error)
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
