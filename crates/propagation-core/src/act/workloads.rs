//! Starting, ending and restarting workloads.

use crate::context::{Done, RunContext};
use crate::error::Error;
use crate::facts::PathState;
use crate::plan::{Names, Role, Stale, StartOrder, WorkloadSpec};
use crate::program::StartRefused;
use crate::report::Deed;
use crate::workload::{Restart, RestartScope};

/// Reads the node's facts and makes the directories that the workloads share, once.
pub(crate) async fn make_bridge(context: &mut RunContext<'_>) -> Result<(), Error> {
    if context.facts.is_some() {
        return Ok(());
    }
    let facts = context.node.facts().await?;
    let missing = matches!(facts.bridge, PathState::Missing);
    context.facts = Some(facts);
    if missing { context.make_bridge().await } else { Ok(()) }
}

/// Specifications of the named workloads; `all` selects every one that fits.
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

/// Paths on the node of the mounts that the named workloads make or have: of every producer for `all`.
pub(super) fn mountpoints(context: &RunContext<'_>, names: Option<&Names>) -> Vec<String> {
    let named = specs(context, names, |spec| spec.role == Role::Producer);
    let mut paths: Vec<String> = Vec::new();
    for spec in &named {
        let path = spec.path_on_node(&context.plan.bridge);
        // What a consumer has of a mount lies inside it.
        let path = context.plan.mountpoint_over(&path).unwrap_or(path);
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// Starts the named workloads in the given order; `all` starts them by their key `order`.
pub(super) async fn start(
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

pub(super) async fn stop(context: &mut RunContext<'_>, names: &Names) -> Result<Done, Error> {
    let stopped = specs(context, Some(names), |spec| context.runs(&spec.name));
    let act = context.begin_act(Deed::Stop, stopped.iter().map(|spec| spec.name.clone()));
    for spec in stopped {
        let Some(workload) = context.workload(&spec.name) else { continue };
        workload.stop().await?;
        context.note_stopped(&spec.name);
    }
    context.end_act(act, Vec::new(), &Done::Ok);
    Ok(Done::Ok)
}

/// Restarts workloads one after the other. A producer begins a new generation.
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

pub(super) async fn restart_now(
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
