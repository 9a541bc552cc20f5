//! The mount graph as plain data, as reports carry it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::entry::MountEntry;

/// Names one mount of a [`MountGraph`](super::MountGraph).
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct MountRef {
    /// The label of the namespace, as it was given to
    /// [`MountGraph::build`](super::MountGraph::build).
    pub namespace: String,
    /// The mount in that namespace.
    pub mount_id: u64,
}

impl MountRef {
    /// The mount with this id in the namespace with this label.
    pub fn new(namespace: impl Into<String>, mount_id: u64) -> Self {
        Self { namespace: namespace.into(), mount_id }
    }
}

impl fmt::Display for MountRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.namespace, self.mount_id)
    }
}

/// The plain data of a [`MountGraph`](super::MountGraph), as serde writes it.
///
/// The edges follow from the nodes; reading a graph back makes them anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GraphData {
    /// Every mount of every namespace.
    pub nodes: Vec<GraphNode>,
    /// The edges: which group sends to which receiver.
    pub edges: Vec<GraphEdge>,
}

/// One mount of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GraphNode {
    /// The label of the namespace.
    pub namespace: String,
    /// The mount; its `shared` field is the group that it is a member of.
    #[serde(flatten)]
    pub mount: MountEntry,
}

/// `slave` receives the mounts and unmounts that happen in the group `master`, and sends none back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GraphEdge {
    /// The group that sends.
    pub master: u64,
    /// The receiver.
    pub slave: Slave,
    /// False when groups that no captured namespace shows lie between the two; known by
    /// `propagate_from` then.
    pub seen: bool,
}

/// The receiving end of a [`GraphEdge`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(schemars::JsonSchema)]
pub enum Slave {
    /// All members of a group, and all slaves of it in turn.
    Group(u64),
    /// One mount that is in no group.
    Mount(MountRef),
}
