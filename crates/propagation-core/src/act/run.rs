//! Running a program in an actor's mount namespace.

use std::time::Duration;

use super::workloads::make_bridge;
use crate::context::{Done, Failures, RunContext};
use crate::error::Error;
use crate::observation::Actor;
use crate::program::ProgramState;
use crate::report::{Check, CheckId, Deed};

pub(super) async fn execute(
    context: &mut RunContext<'_>,
    command: &[String],
    inside: &str,
) -> Result<Done, Error> {
    make_bridge(context).await?;
    let actor = actor(inside);
    let plan = context.plan;
    let (fuse, bridge) = match plan.workload(inside) {
        Some(spec) => {
            let paths = spec.paths(&plan.bridge);
            let bridge = paths.bridge.unwrap_or_else(|| paths.destination.clone());
            (paths.fuse, bridge)
        }
        None => (plan.bridge.fuse_path(), plan.bridge.path.clone()),
    };
    let marker = format!("{fuse}/{}", crate::marker::MARKER_FILE);
    let fill = |word: &String| {
        word.replace("{mountpoint}", &fuse)
            .replace("{bridge}", &bridge)
            .replace("{marker}", &marker)
    };
    let command: Vec<String> = command.iter().map(fill).collect();
    let deadline = Duration::from_millis(plan.deadlines.start_ms);
    let act = context.begin_act(
        Deed::Run { command: command.clone() },
        (actor != Actor::Node).then(|| inside.to_owned()),
    );
    let mut failures = Failures::default();
    let executed = context.node.execute(&actor, &command, deadline).await;
    let executed = if executed.is_err() && is_gone(context, inside).await? {
        failures.note(format!("{inside} does not run: its container has ended"));
        None
    } else {
        failures.take(None, executed?)
    };
    let done = executed.map_or_else(|| failures.into(), Done::Ran);
    context.end_act(act, Vec::new(), &done);
    match done {
        Done::Ran(executed) => {
            let state = executed.state.as_ref().map_or_else(
                || format!("killed after {} ms", deadline.as_millis()),
                ProgramState::to_string,
            );
            let words = format!("{}: {state}", command.join(" "));
            let lines = executed.output.lines().map(ToOwned::to_owned);
            context.check(
                Check::new(CheckId::Run, true, "the program is run", words).with_evidence(lines),
            );
            Ok(Done::Ran(executed))
        }
        refused => Ok(refused),
    }
}

/// Whether a program cannot be run in an actor because its container has ended, or was never made.
async fn is_gone(context: &RunContext<'_>, inside: &str) -> Result<bool, Error> {
    let Some(spec) = context.plan.workload(inside) else { return Ok(false) };
    if !context.runs(inside) {
        return Ok(true);
    }
    Ok(!context.ended(std::slice::from_ref(spec)).await?.is_empty())
}

/// Actor with this name in a scenario.
pub(crate) fn actor(name: &str) -> Actor {
    match name {
        "node" => Actor::Node,
        "runtime" => Actor::Runtime,
        name => Actor::workload(name),
    }
}
