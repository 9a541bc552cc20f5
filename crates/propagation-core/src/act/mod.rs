//! Actions: the one place that starts and ends workloads, injects faults, carries out repairs and runs programs,
//! for scenario steps and the five phases alike. Each action records when it was done, and to which workloads.

mod fault;
mod repair;
mod run;
mod volumes;
mod workloads;

use std::time::Duration;

pub(crate) use fault::ended_by_probe;
pub(crate) use repair::{repair, serve_again};
pub(crate) use run::actor;
pub(crate) use workloads::start_together;

use crate::context::{Done, Failed, RunContext};
use crate::error::{Error, ErrorKind};
use crate::plan::{Action, Step};
use crate::report::{Check, CheckId, Deed};
use crate::workload::{Restart, RestartScope};
use fault::inject;
use run::execute;
use volumes::{publish, reopen};
use workloads::{restart, start, stop};

/// Carries out the action of a step. A refusal by the environment is a finding; an action that the node
/// does not support ends the scenario as skipped.
pub(crate) async fn act(context: &mut RunContext<'_>, step: &Step) -> Result<Done, Error> {
    let result = match &step.action {
        Action::Start(names) => start(context, names, step.stale).await,
        Action::Stop(names) => stop(context, names).await,
        Action::Restart(names) => {
            restart(context, names, Restart { scope: RestartScope::Container, stale: step.stale })
                .await
        }
        Action::Recreate(names) => {
            restart(context, names, Restart { scope: RestartScope::Pod, stale: step.stale }).await
        }
        Action::Publish(names) => publish(context, names, Deed::Publish).await,
        Action::Unpublish(names) => publish(context, names, Deed::Unpublish).await,
        Action::Reopen(names) => reopen(context, names).await,
        Action::Fault(fault) => inject(context, fault, step.on.as_ref()).await,
        Action::Repair(how) => repair(context, *how, step.on.as_ref(), step.stale).await,
        Action::Execute { command, inside } => execute(context, command, inside).await,
        Action::Pause(ms) => {
            // The pause is what the scenario asks for.
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            Ok(Done::Ok)
        }
        Action::Phase(_) | Action::Observe | Action::Wait(_) | Action::Repeat { .. } => {
            Ok(Done::Ok)
        }
    };
    match result {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            let reason = format!("{error}");
            context.check(Check::skipped(
                CheckId::Possible,
                "the step can be done here",
                reason.clone(),
            ));
            context.give_up(reason);
            Ok(Done::Failed(Failed { words: error.to_string(), refusal: None }))
        }
        other => other,
    }
}
