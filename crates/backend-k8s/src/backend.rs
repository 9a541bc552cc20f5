//! The backend: a cluster, and the nodes of it.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Namespace, Node as NodeObject};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use propagation_core::{Backend, Error, ErrorKind, Node, Plan, Run};
use tokio::sync::{RwLock, oneshot};

use crate::failure::{api, or_gone};
use crate::objects::namespace;
use crate::options::K8sOptions;
use crate::{nodes, open};

/// Opens nodes of a cluster.
#[derive(Clone)]
pub struct K8sBackend {
    pub(crate) client: Client,
    pub(crate) options: K8sOptions,
    /// Held for reading by what opens a node.
    opening: Arc<RwLock<()>>,
}

impl std::fmt::Debug for K8sBackend {
    /// Without the client: it holds credentials.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("K8sBackend").field("options", &self.options).finish_non_exhaustive()
    }
}

impl K8sBackend {
    /// Connects to the cluster of the kubeconfig, which is only read.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] when there is no kubeconfig, no such context, or the API server
    /// cannot be reached or refuses the credentials.
    pub async fn connect(options: K8sOptions) -> Result<Self, Error> {
        let mut config = config(&options).await?;
        // What may be sent again is, for as long as a restart of the server takes.
        config.default_retry = false;
        let operation = format!("connect to the API server {}", config.cluster_url);
        let client = Client::try_from(config).map_err(|error| api(operation.clone(), error))?;
        client.apiserver_version().await.map_err(|error| api(operation, error))?;
        Ok(Self::with_client(client, options))
    }

    /// A backend on a client that is there; touches nothing.
    pub fn with_client(client: Client, options: K8sOptions) -> Self {
        Self { client, options, opening: Arc::default() }
    }

    /// Waits until no node is being opened that nobody waits for any more: such a one is opened to
    /// the end and closed, which goes on in the runtime. For who ends that after a cancelled run.
    pub async fn settle(&self) {
        drop(self.opening.write().await);
    }

    /// The same cluster, another node.
    #[must_use]
    pub fn for_node(&self, name: impl Into<String>) -> Self {
        let options = K8sOptions { node: Some(name.into()), ..self.options.clone() };
        Self { options, ..self.clone() }
    }

    /// Makes a namespace that several runs can share with [`K8sOptions::namespace`]; they leave it.
    /// Idempotent.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when somebody else has made one of that name.
    pub async fn make_namespace(&self, name: &str) -> Result<(), Error> {
        let spaces: Api<Namespace> = Api::all(self.client.clone());
        let operation = format!("make namespace {name}");
        let there = spaces.get_opt(name).await.map_err(|error| api(operation.clone(), error))?;
        if let Some(there) = there {
            return open::check_ours(&there);
        }
        let object = namespace(name, None);
        let made = spaces.create(&PostParams::default(), &object).await;
        made.map(drop).map_err(|error| api(operation, error))
    }

    /// Begins to delete a namespace that this program has made.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when somebody else has made it.
    pub async fn delete_namespace(&self, name: &str) -> Result<(), Error> {
        let spaces: Api<Namespace> = Api::all(self.client.clone());
        let operation = format!("delete namespace {name}");
        let there = spaces.get_opt(name).await.map_err(|error| api(operation.clone(), error))?;
        let Some(there) = there else { return Ok(()) };
        open::check_ours(&there)?;
        let deleted = spaces.delete(name, &DeleteParams::default()).await;
        or_gone(deleted).map_err(|error| api(operation, error))
    }

    /// The names of the nodes with these labels, all of them when there is no selector.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] when the cluster does not tell, or has none.
    pub async fn nodes(&self, selector: Option<&str>) -> Result<Vec<String>, Error> {
        let parameters =
            ListParams { label_selector: selector.map(ToOwned::to_owned), ..ListParams::default() };
        let nodes: Api<NodeObject> = Api::all(self.client.clone());
        let list = nodes.list(&parameters).await.map_err(|e| api("list the nodes", e))?;
        let names: Vec<String> = list.iter().map(ResourceExt::name_any).collect();
        if names.is_empty() {
            let words = selector.map_or_else(String::new, |text| format!(" with {text:?}"));
            let reason = format!("the cluster has none{words}");
            return Err(Error::new(ErrorKind::Environment, "choose nodes", reason)
                .with_fix("list them with their labels: kubectl get nodes --show-labels"));
        }
        Ok(names)
    }

    /// The node that was asked for, or the first that can carry a run.
    pub(crate) async fn node(&self) -> Result<NodeObject, Error> {
        let all: Api<NodeObject> = Api::all(self.client.clone());
        if let Some(name) = &self.options.node {
            let node = all.get(name).await;
            let node = node.map_err(|error| api(format!("use node {name}"), error))?;
            nodes::check(&node, &self.options.tolerations)?;
            return Ok(node);
        }
        let list = all.list(&ListParams::default()).await;
        let list = list.map_err(|error| api("list the nodes", error))?;
        let mut refusals = Vec::new();
        for node in list {
            match nodes::check(&node, &self.options.tolerations) {
                Ok(()) => return Ok(node),
                Err(error) => refusals.push(format!("{}: {}", node.name_any(), error.reason())),
            }
        }
        let reason = format!("none can carry a run ({})", refusals.join("; "));
        Err(Error::new(ErrorKind::Environment, "choose a node", reason)
            .with_fix("name one with --node to see what to do about it"))
    }
}

#[async_trait]
impl Backend for K8sBackend {
    fn name(&self) -> &str {
        "k8s"
    }

    fn refuses(&self, plan: &Plan) -> Option<String> {
        crate::refuse::reason(plan)
    }

    async fn open(&self, plan: &Plan, run: &Run) -> Result<Box<dyn Node>, Error> {
        // In a task of its own: when the caller goes away the node is opened to the end and closed,
        // so that nothing stays behind.
        let (backend, plan, run) = (self.clone(), plan.clone(), run.clone());
        let (sender, receiver) = oneshot::channel();
        let opening = Arc::clone(&self.opening).read_owned().await;
        tokio::spawn(async move {
            let _opening = opening;
            if let Err(Ok(node)) = sender.send(open::open(&backend, &plan, &run).await) {
                node.close().await;
            }
        });
        let opened = receiver.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Internal, "open a node", "the task that does it ended"))
        });
        opened.map(|node| Box::new(node) as Box<dyn Node>)
    }
}

async fn config(options: &K8sOptions) -> Result<Config, Error> {
    let failed = |reason: String| {
        Error::new(ErrorKind::Environment, "read the kubeconfig", reason).with_fix(
            "name one with --kubeconfig or $KUBECONFIG (k3s: /etc/rancher/k3s/k3s.yaml), and a \
             context of it with --context",
        )
    };
    let chosen = KubeConfigOptions { context: options.context.clone(), ..Default::default() };
    if let Some(path) = &options.kubeconfig {
        let file = Kubeconfig::read_from(path).map_err(|error| failed(error.to_string()))?;
        let config = Config::from_custom_kubeconfig(file, &chosen).await;
        return config.map_err(|error| failed(error.to_string()));
    }
    if options.context.is_some() {
        let config = Config::from_kubeconfig(&chosen).await;
        return config.map_err(|error| failed(error.to_string()));
    }
    Config::infer().await.map_err(|error| failed(error.to_string()))
}
