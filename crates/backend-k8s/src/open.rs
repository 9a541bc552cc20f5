//! How a node is opened: a namespace, a record of the run, a host agent on the node.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node as NodeObject, Pod, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};
use propagation_core::client::NodeClient;
use propagation_core::host::Layout;
use propagation_core::journal::HostChange;
use propagation_core::plan::Plan;
use propagation_core::{Error, ErrorKind, Run};

use crate::backend::K8sBackend;
use crate::clean;
use crate::failure::{api, persist};
use crate::host::{Host, programs};
use crate::link::Link;
use crate::link::exec::ExecLink;
use crate::node::K8sNode;
use crate::objects::host::{AgentFrom, arguments, config_maps, host_pod, pod as host_pod_object};
use crate::objects::workload::IN_IMAGE;
use crate::objects::{FIELD_MANAGER, MANAGED_BY, Record, namespace, service_account};
use crate::options::Access;
use crate::pods::{Pods, Standing, standing};
use crate::shared::Shared;
use crate::{agent, images, nodes};

#[cfg(unix)]
use crate::link::ssh::{SshLink, SshNode};

/// Opens a node for a run.
pub(crate) async fn open(backend: &K8sBackend, plan: &Plan, run: &Run) -> Result<K8sNode, Error> {
    if let Some(reason) = crate::refuse::reason(plan) {
        return Err(Error::new(ErrorKind::Unsupported, "open a node", reason)
            .with_fix("leave out what is named, or use --backend local"));
    }
    let node = backend.node().await?;
    let name = node.name_any();
    let way = Way::find(&backend.for_node(&name)).await?;
    let space = make_namespace(backend, run).await?;
    let record = Record {
        run: run.id.clone(),
        node: name.clone(),
        bridge: plan.bridge.clone(),
        over_ssh: way.is_ssh(),
        operator: clean::operator(),
    };
    let opening = Opening { backend, node: &node, space: &space, record: &record, way: &way };
    let mut on_node = false;
    let opened = opening.open(plan, run, &mut on_node).await;
    match opened {
        Ok((shared, facts)) => Ok(K8sNode::new(name, shared, facts, run.clone(), record)),
        Err(error) => {
            let cleanup = match on_node {
                true => clean::remove_record(backend, &space, &record).await,
                false => clean::remove_objects(backend, &space, &record).await,
            };
            if !cleanup.could_not.is_empty() {
                tracing::warn!(left = ?cleanup.could_not, "opening a node left something");
            }
            Err(error)
        }
    }
}

/// The way that was chosen to the node.
#[derive(Clone)]
pub(crate) enum Way {
    #[cfg(unix)]
    Ssh(Arc<SshNode>),
    Pod,
}

impl Way {
    /// Chooses: what was asked for, otherwise ssh where it has been told of the node.
    pub(crate) async fn find(backend: &K8sBackend) -> Result<Self, Error> {
        let options = &backend.options;
        #[cfg(unix)]
        if let (Access::Ssh | Access::Found, Some(node)) = (options.access, &options.node) {
            let asked = options.access == Access::Ssh || options.ssh != Default::default();
            if asked || crate::link::ssh::is_configured(node).await {
                match SshNode::connect(node, &options.ssh).await {
                    Ok(node) => return Ok(Self::Ssh(Arc::new(node))),
                    Err(error) if asked => return Err(error),
                    Err(error) => tracing::info!(%error, "a host pod is used instead of ssh"),
                }
            }
        }
        if options.access == Access::Ssh {
            let reason = "this system has no ssh that could be used";
            return Err(Error::new(ErrorKind::Unsupported, "reach the node over ssh", reason)
                .with_fix("go without: --access pod"));
        }
        Ok(Self::Pod)
    }

    pub(crate) fn is_ssh(&self) -> bool {
        !matches!(self, Self::Pod)
    }
}

struct Opening<'a> {
    backend: &'a K8sBackend,
    node: &'a NodeObject,
    space: &'a str,
    record: &'a Record,
    way: &'a Way,
}

impl Opening<'_> {
    async fn open(
        &self,
        plan: &Plan,
        run: &Run,
        on_node: &mut bool,
    ) -> Result<(Arc<Shared>, Option<NodeFacts>), Error> {
        let client = &self.backend.client;
        make_record(client, self.space, self.record).await?;
        let options = &self.backend.options;
        let (link, image) =
            reach(self.backend, self.node, self.space, self.record, self.way).await?;
        *on_node = true;
        let programs = programs(run.started);
        let connection = Host::connect(link, Arc::clone(&programs)).await?;
        let node = NodeClient { connection, plan: plan.clone(), programs };
        if options.apply {
            let path = "/etc/fuse.conf".into();
            let change = HostChange::AddLine { path, line: "user_allow_other".into() };
            node.apply(&change).await?;
        }
        let shared = Shared {
            client: client.clone(),
            namespace: self.space.to_owned(),
            shares_namespace: options.namespace.is_some(),
            run: run.id.clone(),
            placement: nodes::placement(self.node, &options.tolerations),
            image,
            pods: Pods::watch(client.clone(), self.space, &run.id),
            node: Arc::new(node),
        };
        let facts = node_info(self.node).map(|info| NodeFacts {
            runtime: info.container_runtime_version.clone(),
            kubelet: info.kubelet_version.clone(),
        });
        Ok((Arc::new(shared), facts))
    }
}

/// What the cluster knows of a node.
#[derive(Debug, Clone)]
pub(crate) struct NodeFacts {
    pub(crate) runtime: String,
    pub(crate) kubelet: String,
}

fn node_info(node: &NodeObject) -> Option<&k8s_openapi::api::core::v1::NodeSystemInfo> {
    node.status.as_ref()?.node_info.as_ref()
}

/// Brings a host agent onto the node; the way to it, and the image for the run's pods.
pub(crate) async fn reach(
    backend: &K8sBackend,
    node: &NodeObject,
    space: &str,
    record: &Record,
    way: &Way,
) -> Result<(Arc<dyn Link>, String), Error> {
    let options = &backend.options;
    let architecture = node_info(node).map(|info| info.architecture.as_str()).unwrap_or_default();
    let (run, bridge) = (&record.run, &record.bridge);
    match way {
        #[cfg(unix)]
        Way::Ssh(over) => {
            let agent = agent::for_architecture(architecture)?;
            let image = match (&options.image, options.import_image) {
                (Some(image), _) => image.clone(),
                (None, true) => crate::link::ssh::import(over, agent, architecture).await?,
                (None, false) => images::surroundings(node)?,
            };
            // Last, because what is on the node has to be cleaned from there.
            over.upload_agent(run, agent).await?;
            let mut command = vec![Layout::on_node(run.as_str()).agent()];
            command.extend(arguments("attach", run, bridge));
            command.push("--start".into());
            Ok((Arc::new(SshLink { node: Arc::clone(over), command }), image))
        }
        Way::Pod => {
            let client = &backend.client;
            let from = match &options.image {
                Some(image) => AgentFrom::Image(image.clone()),
                None => {
                    let agent = agent::for_architecture(architecture)?;
                    let shell_image = images::with_shell(node)?;
                    let objects = config_maps(space, run, &agent::compressed(agent)?);
                    for object in &objects {
                        apply(client, space, object).await?;
                    }
                    AgentFrom::ConfigMaps { shell_image, parts: objects.len() }
                }
            };
            let name = node.name_any();
            apply(client, space, &host_pod_object(space, run, &name, bridge, &from)).await?;
            wait_for_host_pod(client, space, &host_pod(run)).await?;
            let program = match &from {
                AgentFrom::Image(_) => IN_IMAGE.to_owned(),
                AgentFrom::ConfigMaps { .. } => Layout::on_node(run.as_str()).agent(),
            };
            let image = match from {
                AgentFrom::Image(image) => image,
                AgentFrom::ConfigMaps { .. } => images::surroundings(node)?,
            };
            let mut command = vec![program];
            command.extend(arguments("attach", run, bridge));
            let link = ExecLink {
                client: client.clone(),
                namespace: space.into(),
                pod: host_pod(run),
                command,
            };
            Ok((Arc::new(link), image))
        }
    }
}

async fn wait_for_host_pod(client: &Client, space: &str, name: &str) -> Result<(), Error> {
    const WITHIN: std::time::Duration = std::time::Duration::from_secs(60);
    let pods: Api<Pod> = Api::namespaced(client.clone(), space);
    let operation = format!("start the host pod {space}/{name}");
    let decided =
        |pod: Option<&Pod>| pod.is_some_and(|pod| !matches!(standing(pod), Standing::Pending));
    let waited = tokio::time::timeout(WITHIN, await_condition(pods, name, decided)).await;
    let failed = |reason: String, fix: &str| {
        Error::new(ErrorKind::Environment, operation.clone(), reason).with_fix(fix)
    };
    const LOOK: &str = "look at its events: kubectl describe pod; or reach the node over ssh \
                        (--access ssh)";
    let pod = match waited {
        Ok(Ok(pod)) => pod,
        Ok(Err(error)) => return Err(failed(error.to_string(), LOOK)),
        Err(_) => return Err(failed(format!("not in {} s", WITHIN.as_secs()), LOOK)),
    };
    match pod.as_ref().map(standing) {
        Some(Standing::Running) => Ok(()),
        Some(Standing::Broken { reason, fix }) => Err(failed(reason, fix)),
        Some(Standing::Refused(refusal)) => Err(failed(refusal.text, LOOK)),
        Some(Standing::Over { reason }) => {
            Err(failed(reason.unwrap_or_else(|| "it has ended".into()), LOOK))
        }
        _ => Err(failed("it was deleted".into(), LOOK)),
    }
}

/// The namespace of the run, made for it when it is not there.
async fn make_namespace(backend: &K8sBackend, run: &Run) -> Result<String, Error> {
    let spaces: Api<Namespace> = Api::all(backend.client.clone());
    let name = backend.options.namespace.clone();
    let name = name.unwrap_or_else(|| format!("fuse-test-{}", run.id));
    if backend.options.namespace.is_some() {
        let there = spaces.get_opt(&name).await;
        let there = there.map_err(|error| api(format!("look at namespace {name}"), error))?;
        if let Some(there) = there {
            check_ours(&there)?;
            return Ok(name);
        }
    }
    let object = namespace(&name, Some((&run.id, &clean::operator())));
    let made = spaces.create(&PostParams::default(), &object).await;
    made.map_err(|error| api(format!("make namespace {name}"), error))?;
    Ok(name)
}

/// A namespace that somebody else has made is not touched.
pub(crate) fn check_ours(namespace: &Namespace) -> Result<(), Error> {
    let name = namespace.name_any();
    let label = namespace.labels().get(MANAGED_BY).map(String::as_str);
    if label != Some(FIELD_MANAGER) {
        let reason =
            format!("this program has not made it: it has no label {MANAGED_BY}={FIELD_MANAGER}");
        return Err(Error::new(ErrorKind::InvalidInput, format!("use namespace {name}"), reason)
            .with_fix(format!(
                "leave out --namespace, or name one that is not there; or allow it: kubectl label \
                 namespace {name} {MANAGED_BY}={FIELD_MANAGER}"
            )));
    }
    if namespace.metadata.deletion_timestamp.is_some() {
        let reason = "it is being deleted";
        return Err(Error::new(ErrorKind::Environment, format!("use namespace {name}"), reason)
            .with_fix("wait until it is gone, or name another with --namespace"));
    }
    Ok(())
}

async fn make_record(client: &Client, space: &str, record: &Record) -> Result<(), Error> {
    let (account, object) = (service_account(space), record.to_object(space));
    tokio::try_join!(
        apply(client, space, &object),
        apply::<ServiceAccount>(client, space, &account),
    )?;
    Ok(())
}

/// Applies an object, server side.
pub(crate) async fn apply<K>(client: &Client, space: &str, object: &K) -> Result<(), Error>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), space);
    let name = object.meta().name.clone().unwrap_or_default();
    let operation = format!("apply {} {space}/{name}", K::kind(&()).to_lowercase());
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(object);
    persist(&operation, || api.patch(&name, &parameters, &patch)).await.map(drop)
}
