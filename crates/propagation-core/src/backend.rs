//! The trait [`Backend`]: where nodes come from.

use crate::error::Error;
use crate::node::Node;
use crate::plan::Plan;
use crate::run_id::Run;
use async_trait::async_trait;
pub use propagation_model::capabilities::{Capabilities, Feature, Need, Requirement};

/// A kind of place to run experiments in.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Its name in reports: `local`, `k8s`, …
    fn name(&self) -> &str;

    /// What its nodes can be asked to do. A node may have less, where the machine does.
    fn capabilities(&self) -> Capabilities;

    /// What the machine lacks for the plan, of what the backend could do with it: a program that is not
    /// installed, a right; `None` when nothing is known to be missing.
    fn missing(&self, plan: &Plan) -> Option<String>;

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

/// Why a backend does not carry out a plan as it is written; `None` when it does. Said before anything is
/// touched, so that a scenario is skipped and never silently something else.
pub fn refusal(backend: &dyn Backend, plan: &Plan) -> Option<String> {
    backend.capabilities().lack(&plan.requires()).or_else(|| backend.missing(plan))
}
