//! The nodes that a run is carried out on: one, or several of a cluster.

use propagation_backend_k8s::{Access, K8sBackend, K8sOptions, parse_toleration};
use propagation_core::{Backend, Error, ErrorKind};

use crate::args::BackendName;
use crate::args::cluster::{AccessName, ClusterOptions};
use crate::interrupt::Interruption;

/// Nodes to run on.
pub(crate) struct Targets {
    /// The nodes, by name; one that was not named has none.
    nodes: Vec<(Option<String>, Box<dyn Backend>)>,
    cluster: Option<K8sBackend>,
}

impl Targets {
    /// The nodes that the options name.
    ///
    /// # Errors
    /// When the cluster cannot be reached, or a node is unknown.
    pub(crate) async fn of(backend: BackendName, options: &ClusterOptions) -> Result<Self, Error> {
        if backend == BackendName::Local {
            return Ok(Self { nodes: vec![(None, local()?)], cluster: None });
        }
        let cluster = connect(options).await?;
        if options.is_one_node() {
            let node: Box<dyn Backend> = Box::new(cluster.clone());
            return Ok(Self { nodes: vec![(None, node)], cluster: Some(cluster) });
        }
        let mut names = options.node.clone();
        if names.is_empty() {
            names = cluster.nodes(options.selector.as_deref()).await?;
        }
        names.sort();
        names.dedup();
        let nodes = names.into_iter().map(|name| {
            let node: Box<dyn Backend> = Box::new(cluster.for_node(&name));
            (Some(name), node)
        });
        Ok(Self { nodes: nodes.collect(), cluster: Some(cluster) })
    }

    /// The nodes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (Option<&str>, &dyn Backend)> {
        self.nodes.iter().map(|(name, backend)| (name.as_deref(), &**backend))
    }

    /// Waits for openings that were interrupted: they go on until they can be taken back.
    pub(crate) async fn settle(&self, interruption: &Interruption) {
        if let Some(cluster) = &self.cluster {
            interruption.settle(cluster).await;
        }
    }
}

/// Connects to a cluster.
///
/// # Errors
/// When it cannot be reached.
pub(crate) async fn connect(options: &ClusterOptions) -> Result<K8sBackend, Error> {
    let tolerations = options.tolerate.iter().map(|text| parse_toleration(text));
    #[cfg(unix)]
    let ssh = propagation_backend_k8s::SshOptions {
        config: options.ssh_config.clone(),
        user: options.ssh_user.clone(),
        domain: options.ssh_domain.clone(),
    };
    K8sBackend::connect(K8sOptions {
        kubeconfig: options.kubeconfig.clone(),
        context: options.context.clone(),
        node: options.node.first().cloned(),
        namespace: options.namespace.clone(),
        image: options.image.clone(),
        access: match options.access.unwrap_or_default() {
            AccessName::Found => Access::Found,
            AccessName::Ssh => Access::Ssh,
            AccessName::Pod => Access::Pod,
        },
        #[cfg(unix)]
        ssh,
        import_image: options.import_image,
        tolerations: tolerations.collect::<Result<_, _>>().map_err(bad_toleration)?,
        apply: options.apply,
    })
    .await
}

/// Why `--tolerate` cannot be read.
pub(crate) fn bad_toleration(reason: String) -> Error {
    Error::new(ErrorKind::InvalidInput, "read --tolerate", reason)
}

/// This machine's kernel.
#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere there is none")]
pub(crate) fn local() -> Result<Box<dyn Backend>, Error> {
    Ok(Box::new(propagation_backend_local::LocalBackend::new()))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn local() -> Result<Box<dyn Backend>, Error> {
    Err(crate::runtime::linux_only())
}
