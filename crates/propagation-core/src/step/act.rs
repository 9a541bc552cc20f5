//! Doing what a step says.

use std::time::Duration;

use super::repair;
use crate::context::RunContext;
use crate::error::{Error, ErrorKind};
use crate::observation::Actor;
use crate::plan::{Action, Fault, Names, Role, Stale, StartOrder, Step, WorkloadSpec};
use crate::program::{Executed, ProgramState};
use crate::report::Check;
use crate::workload::{Restart, RestartScope};

/// How the action of a step came out; what `expect: {run: …}` is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Done {
    /// It was done.
    Ok,
    /// It could not be done; that is a finding.
    Failed(String),
    /// A program was run.
    Ran(Executed),
}

/// Does the action of a step. What the environment refuses is a finding; what the node cannot do at
/// all ends the scenario as skipped.
pub(super) async fn act(context: &mut RunContext<'_>, step: &Step) -> Result<Done, Error> {
    let result = match &step.action {
        Action::Start(names) => start(context, names, step.stale).await,
        Action::Stop(names) => stop(context, names).await,
        Action::Restart(names) => {
            restart(context, names, restart_of(RestartScope::Container, step.stale)).await
        }
        Action::Recreate(names) => {
            restart(context, names, restart_of(RestartScope::Pod, step.stale)).await
        }
        Action::Fault(fault) => inject(context, fault, step.on.as_ref()).await,
        Action::Repair(how) => repair::repair(context, *how, step.on.as_ref(), step.stale).await,
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
            context.check(Check::skipped("possible", "the step can be done here", reason.clone()));
            context.give_up(reason);
            Ok(Done::Failed(error.to_string()))
        }
        other => other,
    }
}

pub(super) fn restart_of(scope: RestartScope, stale: Option<Stale>) -> Restart {
    Restart { scope, stale }
}

/// The specs that names stand for; `all` is every one that fits.
pub(super) fn specs(
    context: &RunContext<'_>,
    names: Option<&Names>,
    fits: impl Fn(&WorkloadSpec) -> bool,
) -> Vec<WorkloadSpec> {
    let workloads = &context.plan.workloads;
    match names {
        Some(names) if !names.is_all() => {
            let named = names.as_slice().iter().filter_map(|name| context.plan.workload(name));
            named.cloned().collect()
        }
        _ => workloads.iter().filter(|spec| fits(spec)).cloned().collect(),
    }
}

/// Starts workloads: those that are named, in that order; `all` in the order that they ask for.
async fn start(
    context: &mut RunContext<'_>,
    names: &Names,
    stale: Option<Stale>,
) -> Result<Done, Error> {
    repair::make_bridge(context).await?;
    let wanted = specs(context, Some(names), |spec| !context.runs(&spec.name));
    let mut rounds: Vec<Vec<WorkloadSpec>> = Vec::new();
    if names.is_all() {
        let (producers, others): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|spec| spec.role == Role::Producer);
        let (before, after) =
            others.into_iter().partition(|spec| spec.order == StartOrder::BeforeMount);
        rounds.push(before);
        rounds.extend(producers.into_iter().map(|producer| vec![producer]));
        rounds.push(after);
    } else {
        rounds.extend(wanted.into_iter().map(|spec| vec![spec]));
    }
    for mut round in rounds.into_iter().filter(|round| !round.is_empty()) {
        let producer = round.iter().find(|spec| spec.role == Role::Producer).cloned();
        if let Some(producer) = &producer {
            context.next_generation_of(producer)?;
        } else if context.marker().is_err() {
            context.next_generation()?;
        }
        if let (Some(stale), Some(_)) = (stale, &producer) {
            for spec in &mut round {
                let mut fuse = context.plan.fuse_of(spec).clone();
                fuse.stale = stale;
                spec.fuse = Some(fuse);
            }
        }
        context.start(&round).await?;
        if let Some(producer) = producer {
            until_mounted(context, &producer.name).await?;
        }
    }
    Ok(Done::Ok)
}

/// Waits for a producer to serve or to fail; notes a failure for the expectation `mount_error`.
pub(super) async fn until_mounted(context: &mut RunContext<'_>, name: &str) -> Result<(), Error> {
    let Some(producer) = context.workload(name).filter(|_| context.runs(name)) else {
        return Ok(());
    };
    context.until_mounted(&*producer).await.map(drop)
}

async fn stop(context: &mut RunContext<'_>, names: &Names) -> Result<Done, Error> {
    let mut words = Vec::new();
    for spec in specs(context, Some(names), |spec| context.runs(&spec.name)) {
        let Some(workload) = context.workload(&spec.name) else { continue };
        match workload.stop().await {
            Ok(()) => context.note_stopped(&spec.name),
            Err(error) if error.is_finding() => words.push(format!("{}: {error}", spec.name)),
            Err(error) => return Err(error),
        }
    }
    Ok(done_or(words))
}

/// Restarts workloads, each to its end before the next. A producer begins a new generation.
pub(super) async fn restart(
    context: &mut RunContext<'_>,
    names: &Names,
    how: Restart,
) -> Result<Done, Error> {
    for spec in specs(context, Some(names), |spec| context.workload(&spec.name).is_some()) {
        restart_one(context, &spec, how).await?;
    }
    Ok(Done::Ok)
}

pub(super) async fn restart_one(
    context: &mut RunContext<'_>,
    spec: &WorkloadSpec,
    how: Restart,
) -> Result<(), Error> {
    let is_producer = spec.role == Role::Producer;
    let marker = match is_producer {
        true => context.next_generation_of(spec)?,
        false => context.marker()?.clone(),
    };
    let Some(workload) = context.workload(&spec.name) else {
        // It was refused when it was started first: this is its next try.
        context.start(std::slice::from_ref(spec)).await?;
        return match is_producer {
            true => until_mounted(context, &spec.name).await,
            false => Ok(()),
        };
    };
    let refused = workload.restart(&marker, how).await?.err();
    context.note_start(&spec.name, refused);
    if is_producer {
        until_mounted(context, &spec.name).await?;
    }
    Ok(())
}

async fn inject(
    context: &mut RunContext<'_>,
    fault: &Fault,
    on: Option<&Names>,
) -> Result<Done, Error> {
    let first = context.plan.producer().map(|spec| Names::One(spec.name.clone()));
    let names = on.cloned().or(first);
    let targets = specs(context, names.as_ref(), |spec| spec.role == Role::Producer);
    context.fault_at_us = Some(context.node.now_us());
    let mut words = Vec::new();
    let mut proofs = Vec::new();
    if fault.is_on_the_node() {
        match context.node.unmount(*fault == Fault::LazyUnmount).await {
            Ok(()) => proofs.push("the topmost mount at the mountpoint is off the node".to_owned()),
            Err(error) if error.is_finding() => words.push(error.to_string()),
            Err(error) => return Err(error),
        }
    } else {
        for spec in &targets {
            let Some(workload) = context.workload(&spec.name) else {
                words.push(format!("{} does not run", spec.name));
                continue;
            };
            match workload.inject(fault).await {
                Ok(proof) => proofs.push(proof),
                Err(error) if error.is_finding() => words.push(format!("{}: {error}", spec.name)),
                Err(error) => return Err(error),
            }
        }
    }
    let observed = if words.is_empty() { fault.to_string() } else { words.join("; ") };
    if words.is_empty() {
        let check = Check::new("fault", true, format!("the fault is done: {fault}"), observed);
        context.check(check.with_evidence(proofs));
    }
    Ok(done_or(words))
}

async fn execute(
    context: &mut RunContext<'_>,
    command: &[String],
    inside: &str,
) -> Result<Done, Error> {
    repair::make_bridge(context).await?;
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
    match context.node.execute(&actor, &command, deadline).await {
        Ok(executed) => {
            let state = executed.state.as_ref().map_or_else(
                || format!("killed after {} ms", deadline.as_millis()),
                ProgramState::to_string,
            );
            let words = format!("{}: {state}", command.join(" "));
            let lines = executed.output.lines().map(ToOwned::to_owned);
            context
                .check(Check::new("run", true, "the program is run", words).with_evidence(lines));
            Ok(Done::Ran(executed))
        }
        Err(error) if error.is_finding() => Ok(Done::Failed(error.to_string())),
        Err(error) => Err(error),
    }
}

/// The actor with a name that a scenario uses.
pub(super) fn actor(name: &str) -> Actor {
    match name {
        "node" => Actor::Node,
        "runtime" => Actor::Runtime,
        name => Actor::workload(name),
    }
}

pub(super) fn done_or(words: Vec<String>) -> Done {
    if words.is_empty() { Done::Ok } else { Done::Failed(words.join("; ")) }
}
