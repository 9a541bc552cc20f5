//! Checks after the producer has been restarted, before any other repair.

use std::time::Duration;

use super::consumer::readers;
use super::producer::{record_mounted, refused};
use super::tally::{evidence, tally};
use crate::context::RunContext;
use crate::error::Error;
use crate::node::Look;
use crate::observation::{Actor, Observation};
use crate::report::{Check, CheckId};
use crate::workload::Workload;

/// Whether a fault was done, from which there is something to recover.
pub(super) fn something_broke(context: &mut RunContext<'_>) -> bool {
    let broke = context.fault_at_us().is_some();
    if !broke {
        let (id, expected) = (CheckId::ProducerRestarts, "a new generation");
        context.check(Check::skipped(id, expected, "no fault was done"));
    }
    broke
}

/// The restarted producer serves.
pub(super) fn serves_again(context: &mut RunContext<'_>) -> bool {
    let Some(spec) = context.plan.producer() else { return false };
    if let Some(refusal) = context.refusal(&spec.name) {
        let check = refused(&spec.name, refusal).with_id(CheckId::ProducerRestarts);
        context.check(check);
        return false;
    }
    let failure = context.mount_failure(&spec.name).map(ToOwned::to_owned);
    record_mounted(context, failure)
}

/// The node reads the new generation.
pub(super) async fn node_is_fresh(context: &mut RunContext<'_>) -> Result<bool, Error> {
    let seen = fresh_look(context).await?;
    let all: Vec<&Observation> = seen.iter().collect();
    let fresh = seen.iter().all(|o| o.outcome.is_ok());
    let check = Check::new(CheckId::NodeFresh, fresh, "the node reads the new nonce", tally(&all))
        .with_evidence(evidence(&all));
    context.check(check);
    Ok(fresh)
}

/// What the node sees. A client of a server connects again at its own pace: the node looks until it has, or the deadline of
/// the recovery has passed.
async fn fresh_look(context: &mut RunContext<'_>) -> Result<Vec<Observation>, Error> {
    /// Pause between two looks at a client that has not connected again.
    const AGAIN: Duration = Duration::from_millis(250);
    let wait_us = match context.plan.served_by() {
        Some(_) => u64::try_from(context.plan.recovery_deadline().as_micros()).unwrap_or(u64::MAX),
        None => 0,
    };
    let until_us = context.node.now_us().saturating_add(wait_us);
    loop {
        let seen = context.observe(&[Actor::Node], &Look::default()).await?;
        if seen.iter().all(|o| o.outcome.is_ok()) || context.node.now_us() >= until_us {
            return Ok(seen);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Descriptors opened before the fault: reported apart, because they never follow a new mount.
pub(super) async fn held_descriptors(context: &mut RunContext<'_>) -> Result<(), Error> {
    let consumers = readers(context);
    let mut words = Vec::new();
    let mut workloads: Vec<std::sync::Arc<dyn Workload>> = Vec::new();
    workloads.extend(consumers.iter().filter_map(|spec| context.workload(&spec.name)));
    for workload in workloads {
        if let Some(held) = workload.status().await?.held {
            words.push(format!("{}: {held}", workload.spec().name));
        }
    }
    let expected = match context.plan.served_by() {
        Some(_) => {
            "reported apart: a descriptor opened before the fault is of the session with the server that died"
        }
        None => "reported apart: a descriptor opened before the fault stays with the old mount",
    };
    if words.is_empty() {
        context.check(Check::skipped(CheckId::HeldDescriptors, expected, "no consumer held one"));
    } else {
        context.check(Check::new(CheckId::HeldDescriptors, true, expected, words.join("; ")));
    }
    Ok(())
}
