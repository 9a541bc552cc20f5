//! The trait [`Backend`]: where nodes come from.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::node::Node;
use crate::plan::Plan;
use crate::run_id::Run;

/// What a node can be asked to do. The phases and the conformance suite go by these, never by the
/// name of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Capabilities {
    /// The plan's [`NodeSpec`](crate::plan::NodeSpec) is honoured.
    pub shape_node: bool,
    /// [`Node::rebind_host`] works.
    pub rebind_host: bool,
    /// [`Workload::attach`](crate::workload::Workload::attach) works.
    pub rebind_consumer: bool,
    /// Accesses can be made as a second user, and programs can run as one.
    pub other_uids: bool,
    /// [`Fault::Stop`](crate::plan::Fault::Stop) works.
    pub stop_fault: bool,
    /// Workloads with more than one replica are started as that many mount views.
    pub replicas: bool,
    /// Mounts, processes and errnos are the kernel's own, not a model's.
    pub real_kernel: bool,
}

/// A kind of place to run experiments in.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Its name in reports: `local`, `k8s`, …
    fn name(&self) -> &str;

    /// Why this backend cannot carry out the plan as it is written; `None` when it can. Said before
    /// anything is touched, so that a scenario is skipped and never silently something else.
    fn refuses(&self, plan: &Plan) -> Option<String>;

    /// Opens a node for the run: connects to a real one, or makes a simulated one as
    /// [`Plan::node`] says. Precondition: the plan is valid. The node carries the run id in all it
    /// makes, so that a later clean-up finds it from nothing else. When the future is dropped,
    /// nothing stays behind.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`](crate::ErrorKind::Environment) when the machine cannot carry a
    /// node, with what is missing and how to get it;
    /// [`ErrorKind::AgentVersion`](crate::ErrorKind::AgentVersion) when the agent is another one.
    async fn open(&self, plan: &Plan, run: &Run) -> Result<Box<dyn Node>, Error>;
}
