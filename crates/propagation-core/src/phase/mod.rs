//! The phases: what is done and checked, in order.

mod breakage;
mod consumer;
mod host;
mod ladder;
mod producer;
mod reach;
mod recovery;
mod steps;
mod tally;

use async_trait::async_trait;

pub use host::check_host;

use crate::context::RunContext;
use crate::error::Error;
use crate::plan::PhaseName;

/// One phase of a run.
///
/// A phase acts through the [`RunContext`] only and records a [`Check`](crate::report::Check) for
/// everything it finds; it calls no other phase. It fails when one of its checks failed.
///
/// ```
/// use propagation_core::prelude::*;
///
/// /// No mount of the node is a slave.
/// struct NoSlaves;
///
/// #[async_trait::async_trait]
/// impl Phase for NoSlaves {
///     fn id(&self) -> &str {
///         "no_slaves"
///     }
///
///     fn requires(&self) -> Vec<&str> {
///         Vec::new()
///     }
///
///     async fn run(&self, context: &mut RunContext<'_>) -> Result<(), Error> {
///         let table = propagation_core::node::mount_table(context.node, &Actor::Node).await?;
///         let slaves = table.entries().iter().filter(|mount| mount.master.is_some()).count();
///         context.check(Check::new("none", slaves == 0, "no slave", format!("{slaves} slaves")));
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait Phase: Send + Sync {
    /// Its name in reports, unique in the run: `host_setup`, …
    fn id(&self) -> &str;

    /// The phases that must have passed before this one makes sense. Otherwise it is skipped.
    fn requires(&self) -> Vec<&str>;

    /// Carries it out.
    ///
    /// Precondition: every phase it requires has passed in this run. Afterwards its findings are in
    /// the context. Not idempotent: a phase is run once. The future may be dropped at any await
    /// when the run is cut short; what it started is then cleaned up by the runner.
    ///
    /// # Errors
    /// When the tool could not do its work, so that nothing can be said. A finding is not an error.
    async fn run(&self, context: &mut RunContext<'_>) -> Result<(), Error>;
}

/// The five phases, in order.
pub fn five() -> Vec<Box<dyn Phase>> {
    PhaseName::ALL.map(named).into()
}

/// One of the five phases.
pub fn named(name: PhaseName) -> Box<dyn Phase> {
    Box::new(Named(name))
}

/// One of the five phases: its steps, one after the other, until one of them ends the phase.
struct Named(PhaseName);

#[async_trait]
impl Phase for Named {
    fn id(&self) -> &str {
        self.0.as_str()
    }

    fn requires(&self) -> Vec<&str> {
        steps::requires(self.0).map(PhaseName::as_str).into_iter().collect()
    }

    async fn run(&self, context: &mut RunContext<'_>) -> Result<(), Error> {
        for step in steps::of(self.0, context.plan) {
            if !step.carry_out(context).await? {
                break;
            }
        }
        Ok(())
    }
}
