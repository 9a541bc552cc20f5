//! Opens a node: a namespace, a record of the run, a host agent on the node.

use std::sync::{Arc, Mutex};

use propagation_core::client::{Connection, NodeClient};
use propagation_core::host::HostCall;
use propagation_core::journal::HostChange;
use propagation_core::plan::{Plan, ResolvedPath};
use propagation_core::protocol::Reply;
use propagation_core::report::time::WaitedOn;
use propagation_core::{Error, ErrorKind, Run};

use crate::cluster::Cluster;
use crate::host::{self, Host};
use crate::kinds::{ConfigMap, Kind, Node as NodeObject, ServiceAccount};
use crate::node::{K8sNode, NodeFacts};
use crate::objects::workload::node_trees;
use crate::objects::{Record, service_account};
use crate::pods::Pods;
use crate::reach::{NotConnected, Way, architecture_of, connect, reach};
use crate::shared::Shared;
use crate::tasks::Tasks;
use crate::{clean, namespaces, nodes, operator, programs, sign};

/// Opens a node for a run.
pub(crate) async fn open(cluster: &Cluster, plan: &Plan, run: &Run) -> Result<K8sNode, Error> {
    refuse(plan)?;
    let node = cluster.node().await?;
    let name = node.name();
    check_runtime(&node, plan)?;
    let way = Way::find(&cluster.for_node(&name)).await?;
    let space = namespaces::make(cluster, &run.id).await?;
    let record = Record {
        run: run.id.clone(),
        node: name.clone(),
        bridge: plan.bridge.clone(),
        over_ssh: way.is_ssh(),
        image: cluster.options.image.clone(),
        operator: operator::this_program(),
        sign: Some(sign::now()),
    };
    let opening = Opening { cluster, node: &node, space: &space, record: &record, way: &way };
    let mut on_node = false;
    let opened = opening.open(plan, run, &mut on_node).await;
    match opened {
        Ok(Opened { shared, facts, record, resolved }) => {
            let cluster = cluster.for_node(&name);
            Ok(K8sNode::new(name, cluster, shared, facts, run.clone(), record, resolved))
        }
        Err(error) => {
            let cleanup = match on_node {
                true => clean::remove_record(cluster, &space, &record).await,
                false => clean::remove_objects(cluster, &space, &record).await,
            };
            if !cleanup.could_not.is_empty() {
                tracing::warn!(left = ?cleanup.could_not, "opening a node left something");
            }
            Err(error)
        }
    }
}

/// Refuses a plan that needs more than pods can do.
fn refuse(plan: &Plan) -> Result<(), Error> {
    match crate::can::capabilities().lack(&plan.requires()) {
        None => Ok(()),
        Some(reason) => Err(Error::new(ErrorKind::Unsupported, "open a node", reason)
            .with_fix("leave out what is named, or use the local backend")),
    }
}

/// Refuses user namespaces where the kubelet does not say that its runtime makes them.
fn check_runtime(node: &NodeObject, plan: &Plan) -> Result<(), Error> {
    let status = node.status.as_ref();
    let handlers = status.into_iter().flat_map(|status| status.runtime_handlers.iter().flatten());
    // Pods that name none have the handler without a name.
    let default = handlers.filter(|handler| handler.name.as_ref().is_none_or(String::is_empty));
    let mut known = default.filter_map(|handler| handler.features.as_ref()?.user_namespaces);
    if !plan.workloads.iter().any(|spec| spec.user_namespace) || known.any(|has| has) {
        return Ok(());
    }
    let name = node.name();
    let reason = format!(
        "the kubelet of {name} does not say that its runtime makes user namespaces of pods"
    );
    Err(Error::new(ErrorKind::Unsupported, "open a node", reason).with_fix(
        "use Kubernetes 1.33 or newer with containerd 2.0 or newer, or leave out user_namespace",
    ))
}

/// A node that has been opened.
struct Opened {
    shared: Arc<Shared>,
    facts: Option<NodeFacts>,
    record: Record,
    resolved: Vec<ResolvedPath>,
}

/// Where the symbolic links of the node lead the paths of a plan; those that lead over none are left out.
async fn resolve(host: &Host, plan: &Plan) -> Result<Vec<ResolvedPath>, Error> {
    let asked = plan.node_paths();
    match host.ask(HostCall::Resolve { paths: asked.clone() }).await? {
        Reply::Resolved { paths } => {
            let resolved = asked.into_iter().zip(paths);
            let resolved = resolved.map(|(asked, on_node)| ResolvedPath { asked, on_node });
            Ok(resolved.filter(|path| path.asked != path.on_node).collect())
        }
        other => Err(host.other_version(&format!("it answered {other:?}"))),
    }
}

struct Opening<'a> {
    cluster: &'a Cluster,
    node: &'a NodeObject,
    space: &'a str,
    record: &'a Record,
    way: &'a Way,
}

impl Opening<'_> {
    async fn open(&self, plan: &Plan, run: &Run, on_node: &mut bool) -> Result<Opened, Error> {
        let client = &self.cluster.client;
        make_record(self.cluster, self.space, self.record).await?;
        let reached = reach(self.cluster, self.node, self.space, self.record, self.way).await?;
        let programs = host::programs(run.started);
        if let Some(waited) = reached.waited {
            let now_us = programs.clock().now_us();
            let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
            let since_us = now_us.saturating_sub(waited_us);
            programs.waited(WaitedOn::Kubelet, "host agent", since_us, now_us);
        }
        let (run_id, link) = (&self.record.run, reached.link);
        let connected =
            connect(self.cluster, self.space, run_id, link, self.way, Arc::clone(&programs)).await;
        *on_node = !matches!(&connected, Err(NotConnected { has_ended: true, .. }));
        let connection = connected?;
        let resolved = resolve(&connection, plan).await?;
        let mut plan = plan.clone();
        plan.resolve(&resolved);
        // What a link leads to may be what no kubelet can carry.
        let unfit = plan.problems().into_iter().find(|problem| problem.at.starts_with("bridge"));
        unfit.map_or(Ok(()), |problem| Err(Error::from(problem)))?;
        refuse(&plan)?;
        let record = Record { bridge: plan.bridge.clone(), ..self.record.clone() };
        if record != *self.record {
            // A later clean-up looks there.
            let manifest = record.to_manifest(self.space);
            self.cluster.apply::<ConfigMap>(self.space, &manifest).await?;
        }
        let node = NodeClient { connection, plan, programs };
        if self.cluster.options.apply {
            let path = "/etc/fuse.conf".into();
            let change = HostChange::AddLine { path, line: "user_allow_other".into() };
            node.apply(&change).await?;
        }
        let options = &self.cluster.options;
        let trees = match options.program_image {
            Some(_) => Vec::new(),
            None => {
                programs::check(&node).await?;
                node_trees(architecture_of(self.node))
            }
        };
        let shared = Shared {
            client: client.clone(),
            namespace: self.space.to_owned(),
            node_name: self.record.node.clone(),
            shares_namespace: options.namespace.is_some(),
            run: run.id.clone(),
            placement: nodes::placement(self.node, &options.tolerations),
            image: options.program_image.clone().unwrap_or(reached.image),
            trees,
            pods: Pods::watch(client.clone(), self.space, &run.id),
            _sign: sign::given(client.clone(), self.space, &run.id),
            node: Arc::new(node),
            tasks: Tasks::default(),
            stopping: Mutex::default(),
        };
        Ok(Opened { shared: Arc::new(shared), facts: facts(self.node), record, resolved })
    }
}

/// What the cluster knows of the node.
fn facts(node: &NodeObject) -> Option<NodeFacts> {
    let info = node.status.as_ref()?.node_info.as_ref()?;
    Some(NodeFacts {
        runtime: info.container_runtime_version.clone(),
        kubelet: info.kubelet_version.clone(),
    })
}

async fn make_record(cluster: &Cluster, space: &str, record: &Record) -> Result<(), Error> {
    let (account, object) = (service_account(space), record.to_manifest(space));
    tokio::try_join!(
        cluster.apply::<ConfigMap>(space, &object),
        cluster.apply::<ServiceAccount>(space, &account),
    )?;
    Ok(())
}
