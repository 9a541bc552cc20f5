//! The trait [`Backend`]: where nodes come from.

use crate::error::Error;
use crate::node::Node;
use crate::plan::Plan;
use crate::run_id::Run;
use async_trait::async_trait;
pub use propagation_model::capabilities::{Capabilities, Feature, Need, Requirement};

/// An environment that provides nodes for experiments.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Its name in reports: `local`, `k8s`, …
    fn name(&self) -> &str;

    /// What its nodes can be asked to do. A node may support less, where the machine does.
    fn capabilities(&self) -> Capabilities;

    /// What the machine lacks for a plan that the backend supports, such as a program that is not installed or a
    /// privilege; `None` when nothing is known to be missing.
    fn missing(&self, plan: &Plan) -> Option<String>;

    /// Opens a node for the run: connects to a real one, or makes a simulated one as [`Plan::node`]
    /// says. Precondition: the plan is valid. The node puts the run id into everything it makes, so
    /// that a later clean-up finds it by the run id alone. When the future is dropped, nothing stays
    /// behind.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`](crate::ErrorKind::Environment) when the machine cannot carry a node,
    /// with what is missing and how to get it;
    /// [`ErrorKind::AgentVersion`](crate::ErrorKind::AgentVersion) when the agent is of another
    /// version.
    async fn open(&self, plan: &Plan, run: &Run) -> Result<Box<dyn Node>, Error>;
}

/// Reason why a backend cannot carry out a plan as it is written; `None` when it can. It is known before anything
/// is touched, so that a scenario is skipped instead of silently altered.
pub fn refusal(backend: &dyn Backend, plan: &Plan) -> Option<String> {
    backend.capabilities().lack(&plan.requires()).or_else(|| backend.missing(plan))
}
