//! The backend: a cluster, and the nodes of it.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use kube::Client;
use propagation_core::report::Cleanup;
use propagation_core::{Backend, Capabilities, Error, ErrorKind, Node, Plan, Run};
use tokio::sync::{RwLock, oneshot};

use crate::clean::{self, Leftover, Leftovers};
use crate::cluster::Cluster;
use crate::options::K8sOptions;
use crate::{namespaces, open};

/// Opens nodes of a cluster.
#[derive(Clone)]
pub struct K8sBackend {
    cluster: Cluster,
    /// Held for reading by what opens a node.
    opening: Arc<RwLock<()>>,
}

impl std::fmt::Debug for K8sBackend {
    /// Without the client: it holds credentials.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("K8sBackend")
            .field("options", &self.cluster.options)
            .finish_non_exhaustive()
    }
}

// What waits for the cluster is boxed: the client is generic, and is compiled in this crate alone.
impl K8sBackend {
    /// Connects to the cluster of the kubeconfig, which is only read.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] when the kubeconfig or its context does not exist, or the API server
    /// cannot be reached or refuses the credentials.
    pub fn connect(options: K8sOptions) -> BoxFuture<'static, Result<Self, Error>> {
        Box::pin(async {
            let cluster = Cluster::connect(options).await?;
            Ok(Self { cluster, opening: Arc::default() })
        })
    }

    /// A backend on a client that is there; touches nothing.
    pub fn with_client(client: Client, options: K8sOptions) -> Self {
        Self { cluster: Cluster { client, options }, opening: Arc::default() }
    }

    /// Waits for the nodes of cancelled runs: a node that was being opened is opened to the end and closed, in
    /// the async runtime. Call it before that runtime ends.
    pub async fn settle(&self) {
        drop(self.opening.write().await);
    }

    /// The same cluster, another node.
    #[must_use]
    pub fn for_node(&self, name: impl Into<String>) -> Self {
        Self { cluster: self.cluster.for_node(name), ..self.clone() }
    }

    /// Makes a namespace that several runs can share with [`K8sOptions::namespace`]; they leave it.
    /// Idempotent.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when another program has made one of that name.
    pub fn make_namespace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(namespaces::make_named(&self.cluster.client, name, None))
    }

    /// Begins to delete a namespace that this program has made.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when another program has made it.
    pub fn delete_namespace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(namespaces::delete(&self.cluster.client, name))
    }

    /// The names of the nodes with these labels; all nodes without a selector.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] when the cluster does not answer, or has no such node.
    pub fn nodes<'a>(
        &'a self,
        selector: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<String>, Error>> {
        Box::pin(self.cluster.nodes(selector))
    }

    /// The runs with objects in the cluster, also runs that are still going on.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] when the cluster does not answer.
    pub fn leftovers(&self) -> BoxFuture<'_, Result<Vec<Leftover>, Error>> {
        Box::pin(clean::leftovers(&self.cluster))
    }

    /// The same, and the runs of which only a node has something: looks at these nodes, or at all, over ssh
    /// where it is configured and otherwise through pods.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] when the cluster does not answer.
    pub fn search<'a>(&'a self, nodes: &'a [String]) -> BoxFuture<'a, Result<Leftovers, Error>> {
        Box::pin(clean::search(&self.cluster, nodes))
    }

    /// Removes what the cluster has of a run whose node cannot be cleaned; lists what stays there. Idempotent.
    pub fn give_up<'a>(&'a self, leftover: &'a Leftover) -> BoxFuture<'a, Cleanup> {
        Box::pin(clean::give_up(&self.cluster, leftover))
    }

    /// Removes the remains of a run: its pods, its mounts and changes on its node, its namespace. Idempotent.
    /// Lists what could not be undone, with what to do about it.
    pub fn remove<'a>(&'a self, leftover: &'a Leftover) -> BoxFuture<'a, Cleanup> {
        Box::pin(clean::remove(&self.cluster, leftover))
    }
}

#[async_trait]
impl Backend for K8sBackend {
    fn name(&self) -> &str {
        "k8s"
    }

    fn capabilities(&self) -> Capabilities {
        crate::can::capabilities()
    }

    fn missing(&self, _plan: &Plan) -> Option<String> {
        // What the cluster lacks is said when a node is opened.
        None
    }

    async fn open(&self, plan: &Plan, run: &Run) -> Result<Box<dyn Node>, Error> {
        // In a task of its own: when the caller goes away the node is opened to the end and closed,
        // so that nothing stays behind.
        let (cluster, plan, run) = (self.cluster.clone(), plan.clone(), run.clone());
        let (sender, receiver) = oneshot::channel();
        let opening = Arc::clone(&self.opening).read_owned().await;
        tokio::spawn(async move {
            let _opening = opening;
            if let Err(Ok(node)) = sender.send(open::open(&cluster, &plan, &run).await) {
                node.close().await;
            }
        });
        let opened = receiver.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Internal, "open a node", "the task that does it ended"))
        });
        opened.map(|node| Box::new(node) as Box<dyn Node>)
    }
}
