//! A node of a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use propagation_core::client::WorkloadClient;
use propagation_core::facts::HostFacts;
use propagation_core::journal::HostChange;
use propagation_core::marker::Marker;
use propagation_core::mountinfo::MountTable;
use propagation_core::node::Probe;
use propagation_core::observation::{Access, Actor, Observation};
use propagation_core::plan::WorkloadSpec;
use propagation_core::program::{Executed, Refused, StartRefused};
use propagation_core::protocol::{Call, Place};
use propagation_core::report::time::Wait;
use propagation_core::report::{Cleanup, ClusterAccess, Usage};
use propagation_core::{Capabilities, Error, ErrorKind, Node, Run, Workload};

use crate::clean;
use crate::cluster::Cluster;
use crate::execute::execute;
use crate::finish::{Going, OnNode, finish};
use crate::objects::Record;
use crate::shared::Shared;
use crate::workload::K8sWorkload;

/// What the cluster knows of its node.
#[derive(Debug, Clone)]
pub(crate) struct NodeFacts {
    pub(crate) runtime: String,
    pub(crate) kubelet: String,
}

/// A node of a cluster, opened for a run.
pub(crate) struct K8sNode {
    name: String,
    cluster: Cluster,
    shared: Arc<Shared>,
    facts: Option<NodeFacts>,
    run: Run,
    record: Record,
    closed: AtomicBool,
}

impl K8sNode {
    pub(crate) fn new(
        name: String,
        cluster: Cluster,
        shared: Arc<Shared>,
        facts: Option<NodeFacts>,
        run: Run,
        record: Record,
    ) -> Self {
        Self { name, cluster, shared, facts, run, record, closed: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Node for K8sNode {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        crate::can::capabilities()
    }

    fn now_us(&self) -> u64 {
        self.shared.node.programs.clock().now_us()
    }

    async fn facts(&self) -> Result<HostFacts, Error> {
        let mut facts = self.shared.node.facts().await?;
        if let Some(known) = &self.facts {
            facts.runtime = Some(known.runtime.clone());
            facts.kubelet = Some(known.kubelet.clone());
        }
        Ok(facts)
    }

    async fn apply(&self, change: &HostChange) -> Result<bool, Error> {
        self.shared.node.apply(change).await
    }

    async fn undo(&self, change: &HostChange) -> Result<(), Error> {
        // A container that is being made has its volume's source made again by the runtime.
        let bridge = &self.shared.node.plan.bridge;
        let is_source = |path: &str| path == bridge.path || path == bridge.fuse_path();
        let made_again =
            matches!(change, HostChange::MakeDirectory { path, .. } if is_source(path));
        if made_again && self.shared.tasks.were_abandoned() {
            let reason = "a cancelled call has started pods";
            return Err(Error::new(ErrorKind::Environment, format!("undo {change}"), reason)
                .with_fix("close the node: it ends them first, and undoes all changes then"));
        }
        self.shared.node.call(Call::Undo { change: change.clone() }).await.map(drop)
    }

    async fn start(
        &self,
        specs: &[WorkloadSpec],
        marker: &Marker,
    ) -> Result<Vec<Result<Arc<dyn Workload>, StartRefused>>, Error> {
        self.shared.node.programs.check_names(specs)?;
        // In a task of its own: a caller that does not wait leaves no pod half started.
        let (shared, all, marker) = (Arc::clone(&self.shared), specs.to_vec(), marker.clone());
        let started =
            self.shared.tasks.run(async move { shared.start(&all, &marker).await }).await?;
        let workloads = specs.iter().zip(started).map(|(spec, result)| {
            result.map(|(container, events)| {
                let (shared, node) = (Arc::clone(&self.shared), Arc::clone(&self.shared.node));
                let client = WorkloadClient::new(node, spec.clone(), container, events);
                Arc::new(K8sWorkload::new(shared, client)) as Arc<dyn Workload>
            })
        });
        Ok(workloads.collect())
    }

    async fn observe(&self, actors: &[Actor], probe: &Probe) -> Result<Vec<Observation>, Error> {
        if probe.access == Access::Held {
            let reason = "only a pod's own program holds a descriptor";
            return Err(Error::new(
                ErrorKind::Unsupported,
                "look through held descriptors",
                reason,
            ));
        }
        let observed = self.shared.node.observe(actors, probe).await;
        self.shared.pods.undisturbed(observed).await
    }

    fn take_reports(&self) -> Vec<Observation> {
        self.shared.node.programs.take_reports()
    }

    fn take_waits(&self) -> Vec<Wait> {
        self.shared.node.programs.take_waits()
    }

    fn cluster(&self) -> Option<ClusterAccess> {
        Some(self.cluster.options.access(self.record.over_ssh))
    }

    async fn mount_tables(&self, actors: &[Actor]) -> Result<Vec<Option<MountTable>>, Error> {
        let read = self.shared.node.mount_tables(actors).await;
        self.shared.pods.undisturbed(read).await
    }

    async fn rebind_host(
        &self,
        path: &str,
        deduplicate: bool,
    ) -> Result<Result<(), Refused>, Error> {
        self.shared.node.rebind_host(path, deduplicate).await
    }

    async fn unmount(&self, path: &str, lazy: bool) -> Result<Result<(), Refused>, Error> {
        self.shared.node.unmount(path, lazy).await
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
        actor: &Actor,
        command: &[String],
        deadline: Duration,
    ) -> Result<Result<Executed, Refused>, Error> {
        match self.shared.node.programs.place(actor)? {
            (Place::Container(container, replica), Some(spec)) if !spec.host => {
                let replica = usize::try_from(replica).unwrap_or(usize::MAX);
                let pods = self.shared.pod_names(&spec, container);
                let pod = pods.get(replica).cloned().unwrap_or_default();
                execute(&self.shared, &pod, command, deadline).await.map(Ok)
            }
            _ => self.shared.node.execute(actor, command, deadline).await,
        }
    }

    async fn usage(&self) -> Result<Usage, Error> {
        self.shared.node.usage().await
    }

    async fn close(&self) -> Cleanup {
        let started = Instant::now();
        if self.closed.swap(true, Ordering::SeqCst) {
            return Cleanup::default();
        }
        let shared = &self.shared;
        if self.run.keep {
            let run = &self.run.id;
            let kept = format!(
                "the pods of run {run}: look with `kubectl --namespace {} get pods`, remove with \
                 `propagation clean --backend k8s --run-id {run}`",
                shared.namespace
            );
            let mut cleanup = Cleanup::default();
            cleanup.kept.push(kept);
            return cleanup;
        }
        shared.pods.expect_none();
        let going = Going {
            client: shared.client.clone(),
            namespace: shared.namespace.clone(),
            record: self.record.clone(),
            tell: self.cluster.tell.clone(),
        };
        // In a task of its own: a caller that does not wait leaves nothing half removed.
        let (shared, cluster) = (Arc::clone(shared), self.cluster.clone());
        let finished = tokio::spawn(async move {
            // A pod that is still being asked for would be made behind the back of the clean-up.
            shared.tasks.end().await;
            let host = &shared.node.connection;
            let mut cleanup = Cleanup::default();
            if host.is_open() {
                cleanup = finish(&going, OnNode::Reached(host)).await;
            }
            // A host agent that has gone leaves what it has made; another one takes it back.
            if !host.is_open() && (cleanup.undone.is_empty() || !cleanup.could_not.is_empty()) {
                cleanup = clean::remove_record(&cluster, &going.namespace, &going.record).await;
            }
            cleanup.kubelet_ms = cleanup.kubelet_ms.map(|ms| ms + shared.stopped_in_ms());
            shared.node.programs.end_all();
            shared.node.connection.hang_up();
            cleanup.duration_ms = started.elapsed().as_secs_f64() * 1e3;
            cleanup
        });
        finished.await.unwrap_or_else(|error| {
            Cleanup::failed(format!(
                "clean up: {error}; `propagation clean --backend k8s --run-id {}`",
                self.run.id
            ))
        })
    }
}

/// Something that the node does not declare.
fn undeclared(operation: String) -> Error {
    Error::new(ErrorKind::Unsupported, operation, "this is not done on this node")
        .with_fix("use a simulated node")
}
