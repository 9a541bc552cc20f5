//! Repairs: what operators, CSI drivers and kubelets do about a dead mount.

use super::workloads::{mountpoints, restart_one, specs, until_mounted};
use crate::context::{Done, Failures, RunContext};
use crate::error::{Error, ErrorKind};
use crate::node::Look;
use crate::observation::{Actor, Observation};
use crate::plan::{Names, Repair, Role, Stale, WorkloadSpec};
use crate::program::{Attach, ProgramState};
use crate::report::{Check, CheckId, Deed};
use crate::workload::{Restart, RestartScope};

pub(crate) async fn repair(
    context: &mut RunContext<'_>,
    how: Repair,
    on: Option<&Names>,
    stale: Option<Stale>,
) -> Result<Done, Error> {
    if !context.capabilities().repairs.contains(&how) {
        let reason = "it cannot be done on this node";
        return Err(Error::new(ErrorKind::Unsupported, how.to_string(), reason));
    }
    let act = context.begin_act(
        Deed::Repair { repair: how },
        on.filter(|names| !names.is_all()).map_or(&[][..], Names::as_slice).iter().cloned(),
    );
    let mut proof = Vec::new();
    let done = match how {
        Repair::Wait => Ok(Done::Ok),
        Repair::UnmountMount | Repair::LazyUnmountMount => {
            let mut failures = Failures::default();
            for path in mountpoints(context, or_first(context, on).as_ref()) {
                let lazy = how == Repair::LazyUnmountMount;
                failures.take(None, context.node.unmount(&path, lazy).await?);
            }
            start_producers(context, on, stale).await?;
            Ok(failures.into())
        }
        Repair::MountOnTop => start_producers(context, on, Some(Stale::Stack)).await,
        Repair::Remount => start_producers(context, on, stale).await,
        Repair::RebindHost | Repair::RebindHostDeduplicated => {
            let mut failures = Failures::default();
            for path in mountpoints(context, or_first(context, on).as_ref()) {
                let deduplicate = how == Repair::RebindHostDeduplicated;
                failures.take(None, context.node.rebind_host(&path, deduplicate).await?);
            }
            Ok(failures.into())
        }
        Repair::RebindConsumer => attach_consumers(context, Attach::Rebind, on, &mut proof).await,
        Repair::ReconnectConsumer => {
            attach_consumers(context, Attach::Reconnect, on, &mut proof).await
        }
        Repair::HandOver => hand_over(context, on).await,
        Repair::LivenessProbe => probe_and_restart(context, on).await,
        Repair::RestartConsumer => restart_consumers(context, on, RestartScope::Container).await,
        Repair::RecreateConsumer => restart_consumers(context, on, RestartScope::Pod).await,
    }?;
    context.end_act(act, proof, &done);
    if done == Done::Ok {
        let words = how.to_string();
        let expected = format!("the repair is done: {words}");
        context.check(Check::new(CheckId::Repair, true, expected, words));
    }
    Ok(done)
}

/// The workloads that a repair of producers is for, by default the first producer.
fn or_first(context: &RunContext<'_>, on: Option<&Names>) -> Option<Names> {
    let first = || context.plan.producer().map(|spec| Names::One(spec.name.clone()));
    on.cloned().or_else(first)
}

/// Starts producers again: the daemon alone under a supervisor that lives, the container otherwise.
async fn start_producers(
    context: &mut RunContext<'_>,
    on: Option<&Names>,
    stale: Option<Stale>,
) -> Result<Done, Error> {
    let names = or_first(context, on);
    for spec in specs(context, names.as_ref(), |spec| spec.role == Role::Producer) {
        let workload = context.workload(&spec.name).filter(|_| context.runs(&spec.name));
        let lives = match workload.filter(|_| context.plan.is_supervised(&spec)) {
            Some(workload) => workload.status().await?.program == ProgramState::Running,
            None => false,
        };
        let scope = if lives { RestartScope::Daemon } else { RestartScope::Container };
        restart_one(context, &spec, Restart { scope, stale }).await?;
    }
    Ok(Done::Ok)
}

/// Starts the first producer again: the daemon or server alone where a supervisor has outlived it.
pub(crate) async fn serve_again(context: &mut RunContext<'_>) -> Result<(), Error> {
    start_producers(context, None, None).await.map(drop)
}

/// Running consumers among the named workloads.
fn consumers(context: &RunContext<'_>, on: Option<&Names>) -> Vec<WorkloadSpec> {
    let runs = |spec: &WorkloadSpec| spec.role == Role::Consumer && context.runs(&spec.name);
    specs(context, on, runs)
}

/// Gives running consumers the node's mount.
async fn attach_consumers(
    context: &mut RunContext<'_>,
    how: Attach,
    on: Option<&Names>,
    proof: &mut Vec<String>,
) -> Result<Done, Error> {
    let mut failures = Failures::default();
    let consumers = consumers(context, on);
    let ended = context.ended(&consumers).await?;
    for spec in consumers {
        let runs = context.runs(&spec.name) && !ended.contains(&spec.name);
        let Some(workload) = context.workload(&spec.name).filter(|_| runs) else {
            // All are those that are there.
            if on.is_some_and(|names| !names.is_all()) {
                failures.note(format!("{} does not run", spec.name));
            }
            continue;
        };
        let attached = failures.take(Some(&spec.name), workload.attach(how).await?);
        proof.extend(attached.map(|attached| format!("{}: {attached}", spec.name)));
    }
    Ok(failures.into())
}

async fn hand_over(context: &mut RunContext<'_>, on: Option<&Names>) -> Result<Done, Error> {
    let keeps =
        |spec: &WorkloadSpec| spec.role == Role::Producer && context.plan.fuse_of(spec).keeper;
    let mut failures = Failures::default();
    for spec in specs(context, on, keeps) {
        // One that was never started has nothing to hand over, and begins no generation.
        if !context.runs(&spec.name) {
            if on.is_some() {
                failures.note(format!("{} does not run", spec.name));
            }
            continue;
        }
        let marker = context.next_generation_in_place(&spec)?;
        let Some(workload) = context.workload(&spec.name) else { continue };
        let handed = failures.take(Some(&spec.name), workload.hand_over(&marker).await?);
        if handed.is_none() {
            context.withdraw(&marker);
            continue;
        }
        until_mounted(context, &spec.name).await?;
    }
    Ok(failures.into())
}

/// Restarts the containers that have ended or whose liveness probe fails, as a kubelet does.
async fn probe_and_restart(
    context: &mut RunContext<'_>,
    on: Option<&Names>,
) -> Result<Done, Error> {
    let consumers: Vec<WorkloadSpec> = match on {
        // A producer is restarted by its own probe.
        Some(names) if !names.is_all() => {
            let runs = |spec: &WorkloadSpec| context.runs(&spec.name);
            specs(context, on, |_| true).into_iter().filter(runs).collect()
        }
        _ => consumers(context, on),
    };
    let ended = context.ended(&consumers).await?;
    let there = consumers.iter().filter(|spec| !ended.contains(&spec.name));
    let actors: Vec<Actor> = there.map(|spec| Actor::workload(spec.name.clone())).collect();
    let seen = context.observe(&actors, &Look::default()).await?;
    let failing = |seen: &&Observation| !seen.outcome.is_ok();
    let failing: Vec<Actor> = seen.iter().filter(failing).map(|o| o.actor.clone()).collect();
    let restarted = consumers.iter().filter(|spec| {
        ended.contains(&spec.name) || failing.contains(&Actor::workload(spec.name.clone()))
    });
    let mut words = Vec::new();
    for spec in restarted {
        restart_one(context, spec, RestartScope::Container.into()).await?;
        words.push(spec.name.clone());
    }
    let observed = if words.is_empty() { "none".into() } else { words.join(", ") };
    let expected = "containers whose liveness probe fails are restarted";
    context.check(Check::new(CheckId::Restarted, true, expected, observed));
    Ok(Done::Ok)
}

async fn restart_consumers(
    context: &mut RunContext<'_>,
    on: Option<&Names>,
    scope: RestartScope,
) -> Result<Done, Error> {
    for spec in consumers(context, on) {
        restart_one(context, &spec, scope.into()).await?;
    }
    Ok(Done::Ok)
}
