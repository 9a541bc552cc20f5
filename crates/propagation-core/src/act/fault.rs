//! Injecting faults.

use super::workloads::{mountpoints, restart_one, specs};
use crate::context::{Done, Failures, RunContext};
use crate::error::Error;
use crate::node::{Probe, Target};
use crate::observation::{Access, Actor, Outcome};
use crate::plan::{Fault, Names, PhaseName, Repair, Role, WorkloadSpec};
use crate::report::{Act, Check, CheckId, Deed};
use crate::workload::RestartScope;

/// Injects a fault into workloads, or into the node's mount table where these workloads have their mount; by default
/// for the first producer. Its beginning is recorded before the request, so that no consequence is dated before it.
pub(crate) async fn inject(
    context: &mut RunContext<'_>,
    fault: &Fault,
    on: Option<&Names>,
) -> Result<Done, Error> {
    let first = context.plan.producer().map(|spec| Names::One(spec.name.clone()));
    let names = on.cloned().or(first);
    let targets = match fault.is_on_the_node() {
        true => Vec::new(),
        false => specs(context, names.as_ref(), |spec| spec.role == Role::Producer),
    };
    let act = context.begin_act(
        Deed::Fault { fault: fault.clone() },
        targets.iter().map(|spec| spec.name.clone()),
    );
    let mut failures = Failures::default();
    let mut proofs = Vec::new();
    if fault.is_on_the_node() {
        for path in mountpoints(context, names.as_ref()) {
            let unmounted = context.node.unmount(&path, *fault == Fault::LazyUnmount).await?;
            let proof = |()| format!("the topmost mount at {path} is off the node");
            proofs.extend(failures.take(None, unmounted).map(proof));
        }
    }
    for spec in &targets {
        let runs = context.runs(&spec.name);
        let Some(workload) = context.workload(&spec.name).filter(|_| runs) else {
            failures.note(format!("{} does not run", spec.name));
            continue;
        };
        proofs.extend(failures.take(Some(&spec.name), workload.inject(fault).await?));
    }
    let done = failures.into();
    context.end_act(act, proofs.clone(), &done);
    if done == Done::Ok {
        let words = context.plan.words_of(fault);
        let expected = format!("the fault is done: {words}");
        let check = Check::new(CheckId::Fault, true, expected, words);
        context.check(check.with_evidence(proofs));
        probe_producers(context).await?;
    }
    Ok(done)
}

/// Beginning of the evidence of a liveness probe that has ended a container.
const PROBE: &str = "its liveness probe";

/// Whether the liveness probe of a producer has ended its container.
pub(crate) fn ended_by_probe(act: &Act) -> bool {
    act.refused.is_none()
        && act.deed == Deed::Repair { repair: Repair::LivenessProbe }
        && act.proof.iter().any(|line| line.starts_with(PROBE))
}

/// The liveness probes of producers look once after a fault, without waiting for their period. As the kubelet does, a
/// probe that gets an error or no answer has its container ended; in a scenario it is restarted at once, and in the
/// five phases by `recovery`.
async fn probe_producers(context: &mut RunContext<'_>) -> Result<(), Error> {
    let probed = context.plan.workloads.iter().filter(|spec| spec.liveness_probe);
    let probed: Vec<WorkloadSpec> =
        probed.filter(|spec| context.runs(&spec.name)).cloned().collect();
    let ended = context.ended(&probed).await?;
    let five = PhaseName::ALL.iter().any(|phase| phase.as_str() == context.step());
    for spec in probed.iter().filter(|spec| !ended.contains(&spec.name)) {
        let act =
            context.begin_act(Deed::Repair { repair: Repair::LivenessProbe }, [spec.name.clone()]);
        let probe = Probe {
            target: Target::Fuse,
            access: Access::List,
            expect: Vec::new(),
            uids: vec![context.plan.uid_of(&Actor::workload(spec.name.clone()))],
            deadline: context.plan.probe_deadline(),
            step: context.step().to_owned(),
        };
        let seen = context.node.observe(&[Actor::workload(spec.name.clone())], &probe).await?;
        let failed = seen
            .iter()
            .find(|one| matches!(one.outcome, Outcome::Hang { .. } | Outcome::Errno { .. }));
        let proof = failed.map(|one| format!("{PROBE}: {one}"));
        let mut failures = Failures::default();
        match (failed, context.workload(&spec.name)) {
            (Some(_), Some(workload)) if five => {
                failures.take(Some(&spec.name), workload.inject(&Fault::Kill).await?);
            }
            (Some(_), Some(_)) => {
                restart_one(context, spec, RestartScope::Container.into()).await?;
            }
            _ => {}
        }
        context.end_act(act, proof.into_iter().collect(), &failures.into());
    }
    Ok(())
}
