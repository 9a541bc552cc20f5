//! Injecting faults.

use super::workloads::{mountpoints, specs};
use crate::context::{Done, Failures, RunContext};
use crate::error::Error;
use crate::plan::{Fault, Names, Role};
use crate::report::{Check, CheckId, Deed};

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
        let expected = format!("the fault is done: {fault}");
        let check = Check::new(CheckId::Fault, true, expected, fault.to_string());
        context.check(check.with_evidence(proofs));
    }
    Ok(done)
}
