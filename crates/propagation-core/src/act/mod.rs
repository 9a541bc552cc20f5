//! Doing: the one place where workloads are started and ended, faults and repairs are done and programs
//! are run, by steps and by the five phases alike. Each records when it was done, and to whom.

mod fault;
mod repair;

use std::time::Duration;

pub(crate) use fault::inject;
pub(crate) use repair::{make_bridge, repair};

use crate::context::RunContext;
use crate::error::{Error, ErrorKind};
use crate::observation::Actor;
use crate::plan::{Action, Names, Role, Stale, StartOrder, Step, Volume, WorkloadSpec};
use crate::program::{Executed, ProgramState, StartRefused};
use crate::report::{Check, CheckId, Deed};
use crate::workload::{Restart, RestartScope};

/// How the action of a step came out; what `expect: {run: …}` is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Done {
    /// It was done.
    Ok,
    /// It could not be done; that is a finding.
    Failed(String),
    /// A program was run.
    Ran(Executed),
}

/// Does the action of a step. What the environment refuses is a finding; what the node cannot do at
/// all ends the scenario as skipped.
pub(crate) async fn act(context: &mut RunContext<'_>, step: &Step) -> Result<Done, Error> {
    let result = match &step.action {
        Action::Start(names) => start(context, names, step.stale).await,
        Action::Stop(names) => stop(context, names).await,
        Action::Restart(names) => {
            restart(context, names, restart_of(RestartScope::Container, step.stale)).await
        }
        Action::Recreate(names) => {
            restart(context, names, restart_of(RestartScope::Pod, step.stale)).await
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
            Ok(Done::Failed(error.to_string()))
        }
        other => other,
    }
}

fn restart_of(scope: RestartScope, stale: Option<Stale>) -> Restart {
    Restart { scope, stale }
}

/// The specs that names stand for; `all` is every one that fits.
fn specs(
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
    make_bridge(context).await?;
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
    for round in rounds.into_iter().filter(|round| !round.is_empty()) {
        start_together(context, &round, stale).await?;
        let producer = round.iter().find(|spec| spec.role == Role::Producer);
        if let Some(producer) = producer {
            until_mounted(context, &producer.name).await?;
        }
    }
    Ok(Done::Ok)
}

/// Starts workloads at once; a producer among them begins a generation. Returns the refusals.
///
/// # Errors
/// As [`RunContext::start`].
pub(crate) async fn start_together(
    context: &mut RunContext<'_>,
    specs: &[WorkloadSpec],
    stale: Option<Stale>,
) -> Result<Vec<(String, StartRefused)>, Error> {
    if specs.is_empty() {
        return Ok(Vec::new());
    }
    let act = context.begin_act(Deed::Start, specs.iter().map(|spec| spec.name.clone()));
    let producers = specs.iter().filter(|spec| spec.role == Role::Producer);
    let serves = producers.clone().next().is_some();
    for producer in producers {
        context.next_generation_of(producer)?;
    }
    if context.marker().is_err() {
        context.next_generation()?;
    }
    let mut specs = specs.to_vec();
    if let (Some(stale), true) = (stale, serves) {
        for spec in &mut specs {
            let mut fuse = context.plan.fuse_of(spec).clone();
            fuse.stale = stale;
            spec.fuse = Some(fuse);
        }
    }
    let refusals = context.start(&specs).await?;
    context.end_act(act, Vec::new(), &Done::Ok);
    Ok(refusals)
}

/// Waits for a producer to serve or to fail; notes a failure for the expectation `mount_error`.
pub(crate) async fn until_mounted(context: &mut RunContext<'_>, name: &str) -> Result<(), Error> {
    let Some(producer) = context.workload(name).filter(|_| context.runs(name)) else {
        return Ok(());
    };
    context.until_mounted(&*producer).await.map(drop)
}

async fn stop(context: &mut RunContext<'_>, names: &Names) -> Result<Done, Error> {
    let mut words = Vec::new();
    let stopped = specs(context, Some(names), |spec| context.runs(&spec.name));
    let act = context.begin_act(Deed::Stop, stopped.iter().map(|spec| spec.name.clone()));
    for spec in stopped {
        let Some(workload) = context.workload(&spec.name) else { continue };
        match finding(workload.stop().await)? {
            None => context.note_stopped(&spec.name),
            Some(reason) => words.push(format!("{}: {reason}", spec.name)),
        }
    }
    let done = done_or(words);
    context.end_act(act, Vec::new(), &done);
    Ok(done)
}

/// Publishes the mount at the paths that are the volumes of workloads, or takes that back.
async fn publish(context: &mut RunContext<'_>, names: &Names, deed: Deed) -> Result<Done, Error> {
    make_bridge(context).await?;
    let path = |spec: &WorkloadSpec| match &spec.volume {
        Volume::Path(path) if !spec.host => Some(path.clone()),
        _ => None,
    };
    let published: Vec<(String, String)> = specs(context, Some(names), |spec| path(spec).is_some())
        .into_iter()
        .filter_map(|spec| Some((path(&spec)?, spec.name)))
        .collect();
    let act = context.begin_act(deed.clone(), published.iter().map(|(_, name)| name.clone()));
    let (mut words, mut proof) = (Vec::new(), Vec::new());
    for (path, name) in published {
        let done = match deed {
            Deed::Unpublish => context.node.unpublish(&path).await,
            _ => context.node.publish(&path).await,
        };
        match finding(done)? {
            None => proof.push(format!("{deed}: {path}")),
            Some(reason) => words.push(format!("{name}: {reason}")),
        }
    }
    let done = done_or(words);
    context.end_act(act, proof, &done);
    Ok(done)
}

/// Lets workloads close what they hold; the look that follows opens it anew.
async fn reopen(context: &mut RunContext<'_>, names: &Names) -> Result<Done, Error> {
    for spec in specs(context, Some(names), |spec| context.runs(&spec.name)) {
        context.let_go(&Actor::workload(spec.name)).await?;
    }
    Ok(Done::Ok)
}

/// Restarts workloads, each to its end before the next. A producer begins a new generation.
async fn restart(context: &mut RunContext<'_>, names: &Names, how: Restart) -> Result<Done, Error> {
    for spec in specs(context, Some(names), |spec| context.workload(&spec.name).is_some()) {
        restart_one(context, &spec, how).await?;
    }
    Ok(Done::Ok)
}

pub(crate) async fn restart_one(
    context: &mut RunContext<'_>,
    spec: &WorkloadSpec,
    how: Restart,
) -> Result<(), Error> {
    let is_producer = spec.role == Role::Producer;
    let recreate = how.scope == RestartScope::Pod;
    let act = context.begin_act(Deed::Restart { recreate }, [spec.name.clone()]);
    restart_now(context, spec, how, is_producer).await?;
    if is_producer {
        until_mounted(context, &spec.name).await?;
    }
    context.end_act(act, Vec::new(), &Done::Ok);
    Ok(())
}

async fn restart_now(
    context: &mut RunContext<'_>,
    spec: &WorkloadSpec,
    how: Restart,
    is_producer: bool,
) -> Result<(), Error> {
    let marker = match is_producer {
        true => context.next_generation_of(spec)?,
        false => context.marker()?.clone(),
    };
    let Some(workload) = context.workload(&spec.name) else {
        // It was refused when it was started first: this is its next try.
        return context.start(std::slice::from_ref(spec)).await.map(drop);
    };
    let refused = workload.restart(&marker, how).await?.err();
    context.note_start(&spec.name, refused);
    Ok(())
}

async fn execute(
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
    let result = context.node.execute(&actor, &command, deadline).await;
    context.end_act(act, Vec::new(), &Done::Ok);
    match result {
        Ok(executed) => {
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
        Err(error) if error.is_finding() => Ok(Done::Failed(error.to_string())),
        Err(error) => Err(error),
    }
}

/// The actor with a name that a scenario uses.
pub(crate) fn actor(name: &str) -> Actor {
    match name {
        "node" => Actor::Node,
        "runtime" => Actor::Runtime,
        name => Actor::workload(name),
    }
}

fn done_or(words: Vec<String>) -> Done {
    if words.is_empty() { Done::Ok } else { Done::Failed(words.join("; ")) }
}

/// Why kernel or runtime refused it, if they did; anything else is an error of the tool.
fn finding(result: Result<(), Error>) -> Result<Option<String>, Error> {
    match result {
        Ok(()) => Ok(None),
        Err(error) if error.is_finding() => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}
