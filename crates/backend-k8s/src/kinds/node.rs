//! A node, as far as it is read.

use serde::Deserialize;

use super::{Condition, Metadata};

/// A node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) metadata: Metadata,
    pub(crate) spec: Option<NodeSpec>,
    pub(crate) status: Option<NodeStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeSpec {
    pub(crate) unschedulable: Option<bool>,
    pub(crate) taints: Option<Vec<Taint>>,
}

/// What keeps pods away that do not tolerate it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Taint {
    pub(crate) key: String,
    pub(crate) value: Option<String>,
    pub(crate) effect: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NodeStatus {
    pub(crate) conditions: Option<Vec<Condition>>,
    pub(crate) images: Option<Vec<Image>>,
    pub(crate) node_info: Option<NodeInfo>,
    pub(crate) runtime_handlers: Option<Vec<RuntimeHandler>>,
}

/// A runtime that containers of the node can have.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RuntimeHandler {
    /// Empty for the default one.
    pub(crate) name: Option<String>,
    pub(crate) features: Option<RuntimeFeatures>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RuntimeFeatures {
    pub(crate) user_namespaces: Option<bool>,
}

/// An image that the node has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Image {
    pub(crate) names: Option<Vec<String>>,
    pub(crate) size_bytes: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NodeInfo {
    /// As Kubernetes calls it.
    pub(crate) architecture: String,
    pub(crate) container_runtime_version: String,
    pub(crate) kubelet_version: String,
}
