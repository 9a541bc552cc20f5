//! A connected cluster, with the options.

use std::sync::Arc;

use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use propagation_core::{Error, ErrorKind};
use serde_json::Value;

use crate::failure::{api, persist};
use crate::kinds::{Kind, Node as NodeObject};
use crate::nodes;
use crate::options::K8sOptions;
use crate::requests::Api;

/// A cluster that is connected to, with what was asked for.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) options: K8sOptions,
    /// Is told what a clean-up waits for.
    pub(crate) tell: Tell,
}

/// What is told in words what goes on.
type Listener = dyn Fn(&str) + Send + Sync;

/// Tells what goes on, where somebody listens.
#[derive(Clone, Default)]
pub(crate) struct Tell(pub(crate) Option<Arc<Listener>>);

impl Tell {
    pub(crate) fn say(&self, words: &str) {
        if let Some(tell) = &self.0 {
            tell(words);
        }
    }
}

impl Cluster {
    /// Connects to the cluster of the kubeconfig, which is only read.
    pub(crate) async fn connect(options: K8sOptions) -> Result<Self, Error> {
        let mut config = config(&options).await?;
        // What may be sent again is, for as long as a restart of the server takes.
        config.default_retry = false;
        let operation = format!("connect to the API server {}", config.cluster_url);
        let client = Client::try_from(config).map_err(|error| api(operation.clone(), error))?;
        client.apiserver_version().await.map_err(|error| api(operation, error))?;
        Ok(Self { client, options, tell: Tell::default() })
    }

    /// The same cluster, another node.
    pub(crate) fn for_node(&self, name: impl Into<String>) -> Self {
        let options = K8sOptions { node: Some(name.into()), ..self.options.clone() };
        Self { options, ..self.clone() }
    }

    /// The names of the nodes with these labels; all nodes without a selector.
    pub(crate) async fn nodes(&self, selector: Option<&str>) -> Result<Vec<String>, Error> {
        let parameters =
            ListParams { label_selector: selector.map(ToOwned::to_owned), ..ListParams::default() };
        let nodes: Api<NodeObject> = Api::all(self.client.clone());
        let list = nodes.list(&parameters).await.map_err(|e| api("list the nodes", e))?;
        let names: Vec<String> = list.iter().map(Kind::name).collect();
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
                Err(error) => refusals.push(format!("{}: {}", node.name(), error.reason())),
            }
        }
        let reason = format!("no node can carry a run ({})", refusals.join("; "));
        Err(Error::new(ErrorKind::Environment, "choose a node", reason)
            .with_fix("name one with --node to see what to do about it"))
    }

    /// Applies an object, server side.
    pub(crate) async fn apply<K: Kind>(&self, space: &str, manifest: &Value) -> Result<(), Error> {
        let api: Api<K> = Api::namespaced(self.client.clone(), space);
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
        let operation = format!("apply {} {space}/{name}", K::KIND.to_lowercase());
        persist(&operation, || api.apply(name, manifest)).await.map(drop)
    }
}

async fn config(options: &K8sOptions) -> Result<Config, Error> {
    let chosen = KubeConfigOptions { context: options.context.clone(), ..Default::default() };
    if let Some(path) = &options.kubeconfig {
        let file = Kubeconfig::read_from(path).map_err(unread)?;
        let config = Config::from_custom_kubeconfig(file, &chosen).await;
        return config.map_err(unread);
    }
    if options.context.is_some() {
        let config = Config::from_kubeconfig(&chosen).await;
        return config.map_err(unread);
    }
    Config::infer().await.map_err(unread)
}

fn unread(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::from_source(ErrorKind::Environment, "read the kubeconfig", error).with_fix(
        "name one with --kubeconfig or $KUBECONFIG (k3s: /etc/rancher/k3s/k3s.yaml), and a \
         context of it with --context",
    )
}
