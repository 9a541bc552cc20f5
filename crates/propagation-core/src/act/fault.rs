//! Doing a fault.

use super::{Done, done_or, finding, specs};
use crate::context::RunContext;
use crate::error::Error;
use crate::plan::{Fault, Names, Role};
use crate::report::{Check, CheckId, Deed};

/// Does a fault: to the node's mount table or to workloads, by default to the first producer. When it
/// began is recorded before it is asked for, so that nothing that follows from it lies before it.
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
    let mut words = Vec::new();
    let mut proofs = Vec::new();
    if fault.is_on_the_node() {
        match finding(context.node.unmount(*fault == Fault::LazyUnmount).await)? {
            None => proofs.push("the topmost mount at the mountpoint is off the node".to_owned()),
            Some(refused) => words.push(refused),
        }
    }
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
    let done = done_or(words);
    context.end_act(act, proofs.clone(), &done);
    if done == Done::Ok {
        let expected = format!("the fault is done: {fault}");
        let check = Check::new(CheckId::Fault, true, expected, fault.to_string());
        context.check(check.with_evidence(proofs));
    }
    Ok(done)
}
