//! Reaches a node over ssh or through a host pod, and brings the agent there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use propagation_core::client::Programs;
use propagation_core::host::Layout;
use propagation_core::{Error, ErrorKind, RunId};

use crate::cluster::Cluster;
use crate::failure::{fix_of_disk, persist_until};
use crate::host::Host;
use crate::kinds::{ConfigMap, Kind, Node as NodeObject, Pod};
use crate::link::Link;
use crate::link::exec::ExecLink;
#[cfg(unix)]
use crate::link::ssh::{SshLink, SshNode};
use crate::objects::Record;
use crate::objects::host::{AgentFrom, arguments, config_maps, host_pod, pod as host_pod_object};
use crate::options::Access;
use crate::requests::Api;
use crate::standing::{Standing, standing};
use crate::told::of_pod;
use crate::{agent, images};

const LOOK: &str =
    "look at its events: kubectl describe pod; or reach the node over ssh (--access ssh)";

/// Time for a kubelet to tell that a pod has ended.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// The way that was chosen to the node.
#[derive(Clone)]
pub(crate) enum Way {
    #[cfg(unix)]
    Ssh(Arc<SshNode>),
    Pod,
}

impl Way {
    /// Chooses: what was asked for, otherwise ssh where it has been told of the node.
    pub(crate) async fn find(cluster: &Cluster) -> Result<Self, Error> {
        let options = &cluster.options;
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

/// A node on which there is a host agent.
pub(crate) struct Reached {
    /// The way to the host agent.
    pub(crate) link: Arc<dyn Link>,
    /// The image for the run's pods.
    pub(crate) image: String,
    /// What its pod was waited for, if it has one.
    pub(crate) waited: Option<Duration>,
}

/// Brings a host agent onto the node.
pub(crate) async fn reach(
    cluster: &Cluster,
    node: &NodeObject,
    space: &str,
    record: &Record,
    way: &Way,
) -> Result<Reached, Error> {
    let options = &cluster.options;
    let architecture = architecture_of(node);
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
            let link = Arc::new(SshLink { node: Arc::clone(over), command });
            Ok(Reached { link, image, waited: None })
        }
        Way::Pod => {
            let client = &cluster.client;
            let from = match &options.image {
                Some(image) => AgentFrom::Image(image.clone()),
                None => {
                    let agent = agent::for_architecture(architecture)?;
                    let shell_image = images::with_shell(node)?;
                    let objects = config_maps(space, run, &agent::compressed(agent)?);
                    for object in &objects {
                        cluster.apply::<ConfigMap>(space, object).await?;
                    }
                    AgentFrom::ConfigMaps { shell_image, parts: objects.len() }
                }
            };
            let name = node.name();
            let pod = host_pod_object(space, run, &name, bridge, &from);
            cluster.apply::<Pod>(space, &pod).await?;
            let waited = wait_for_host_pod(client, space, &host_pod(run), &name).await?;
            let image = match from {
                AgentFrom::Image(image) => image,
                AgentFrom::ConfigMaps { .. } => images::surroundings(node)?,
            };
            // What is executed in the pod is where its process 1 is: in the node's mount namespace.
            let mut command = vec![Layout::on_node(run.as_str()).agent()];
            command.extend(arguments("attach", run, bridge));
            let link = ExecLink {
                client: client.clone(),
                namespace: space.into(),
                pod: host_pod(run),
                command,
            };
            Ok(Reached { link: Arc::new(link), image, waited: Some(waited) })
        }
    }
}

/// The host agent cannot be reached, with the reason.
pub(crate) struct NotConnected {
    pub(crate) error: Error,
    /// Whether it has ended before it served, and so has changed nothing.
    pub(crate) has_ended: bool,
}

impl From<NotConnected> for Error {
    fn from(not: NotConnected) -> Self {
        not.error
    }
}

/// Connects to a host agent. One that cannot serve ends, and the status of its pod says why.
pub(crate) async fn connect(
    cluster: &Cluster,
    space: &str,
    run: &RunId,
    link: Arc<dyn Link>,
    way: &Way,
    programs: Arc<Programs>,
) -> Result<Host, NotConnected> {
    let error = match Host::connect(link, programs).await {
        Ok(host) => return Ok(host),
        Err(error) => error,
    };
    if way.is_ssh() {
        return Err(NotConnected { error, has_ended: false });
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), space);
    let name = host_pod(run);
    let operation = format!("start the host pod {space}/{name}");
    let ended =
        |pod: Option<&Pod>| pod.is_none_or(|pod| matches!(standing(pod), Standing::Over { .. }));
    let ended = persist_until(&operation, &pods, &name, ended);
    match tokio::time::timeout(ENDED_WITHIN, ended).await {
        Ok(Ok(Some(pod))) => {
            Err(NotConnected { error: has_ended(&operation, &pod), has_ended: true })
        }
        _ => Err(NotConnected { error, has_ended: false }),
    }
}

/// A host pod that has ended, in its own words.
fn has_ended(operation: &str, pod: &Pod) -> Error {
    let reason = match standing(pod) {
        Standing::Over { reason: Some(reason) } => reason,
        _ => "it has ended".into(),
    };
    let fix = fix_of_disk(&reason).unwrap_or(LOOK);
    Error::new(ErrorKind::Environment, operation, reason).with_fix(fix)
}

async fn wait_for_host_pod(
    client: &Client,
    space: &str,
    name: &str,
    node: &str,
) -> Result<Duration, Error> {
    const WITHIN: Duration = Duration::from_secs(60);
    let began = Instant::now();
    let pods: Api<Pod> = Api::namespaced(client.clone(), space);
    let operation = format!("start the host pod {space}/{name}");
    let decided =
        |pod: Option<&Pod>| pod.is_some_and(|pod| !matches!(standing(pod), Standing::Pending));
    let waited =
        tokio::time::timeout(WITHIN, persist_until(&operation, &pods, name, decided)).await;
    let failed = |reason: String, fix: &str| {
        Error::new(ErrorKind::Environment, operation.clone(), reason).with_fix(fix)
    };
    let pod = match waited {
        Ok(pod) => pod?,
        Err(_) => {
            let told = of_pod(client, space, name, node).await;
            let reason = told.after(&format!("not in {} s", WITHIN.as_secs()));
            return Err(failed(reason, told.fix.as_deref().unwrap_or(LOOK)));
        }
    };
    match pod.as_ref().map(standing) {
        Some(Standing::Over { .. }) => Err(pod.map_or_else(
            || failed("it was deleted".into(), LOOK),
            |pod| has_ended(&operation, &pod),
        )),
        Some(Standing::Running) => Ok(began.elapsed()),
        Some(Standing::Broken { reason, fix }) => Err(failed(reason, fix)),
        Some(Standing::Refused(refusal)) => Err(failed(refusal.text, LOOK)),
        _ => Err(failed("it was deleted".into(), LOOK)),
    }
}

/// The architecture of a node, as Kubernetes calls it.
pub(crate) fn architecture_of(node: &NodeObject) -> &str {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.map(|info| info.architecture.as_str()).unwrap_or_default()
}
