//! Checks after a fault has hit the producer: who notices what, and who survives?

use std::time::Duration;

use super::consumer::readers;
use super::producer::refused;
use super::tally::{evidence, tally};
use crate::context::RunContext;
use crate::error::{Error, ErrorKind};
use crate::node::Look;
use crate::observation::{Actor, Observation, Outcome};
use crate::plan::{Plan, Role, StartOrder, WorkloadSpec};
use crate::program::ProgramState;
use crate::report::{Check, CheckId};
use crate::workload::Until;

/// The consumers' own programs notice it.
pub(super) async fn noticed(context: &mut RunContext<'_>) -> Result<(), Error> {
    let consumers = readers(context);
    let deadline = Duration::from_millis(context.plan.deadlines.breakage_ms);
    let fault_at_us = context.fault_at_us().unwrap_or_default();
    let mut words = Vec::new();
    let mut all = true;
    let mut last_us = None;
    for spec in &consumers {
        let Some(workload) = context.workload(&spec.name) else { continue };
        match workload.wait(Until::SeesBreakage, deadline).await {
            Ok(status) => match &status.seen {
                Some(seen) if !seen.outcome.is_ok() && seen.at_us >= fault_at_us => {
                    let after = seen.at_us.saturating_sub(fault_at_us);
                    last_us = last_us.max(Some(after));
                    words.push(format!(
                        "{}: {} after {:.1} ms",
                        spec.name,
                        seen.outcome,
                        after as f64 / 1e3
                    ));
                }
                _ => {
                    all = false;
                    words.push(format!("{}: nothing; its program {}", spec.name, status.program));
                }
            },
            Err(error) if error.kind() == ErrorKind::Timeout => {
                all = false;
                words.push(format!("{}: {error}", spec.name));
            }
            Err(error) => return Err(error),
        }
    }
    context.measurements.fault_to_breakage_ms = last_us.map(|us| us as f64 / 1e3);
    let check = Check::new(
        CheckId::Noticed,
        all,
        "the consumers' own programs notice that the mount is not usable",
        words.join("; "),
    );
    context.check(check);
    Ok(())
}

/// Everybody that could read before cannot now; no access hangs.
pub(super) async fn breakage(context: &mut RunContext<'_>) -> Result<(), Error> {
    let consumers = readers(context);
    let mut actors = vec![Actor::Node];
    actors.extend(consumers.iter().flat_map(|spec| context.actors_of(spec)));
    let controls: Vec<Actor> = context
        .plan
        .with_role(Role::Control)
        .filter(|spec| context.workload(&spec.name).is_some())
        .flat_map(|spec| context.actors_of(spec))
        .collect();
    actors.extend(controls);
    let seen = context.observe(&actors, &Look::default()).await?;
    let losers: Vec<&Observation> = seen.iter().filter(|o| context.could_read(&o.actor)).collect();
    let broken = losers.iter().all(|o| !o.outcome.is_ok());
    let check = Check::new(
        CheckId::BreakageSeen,
        broken && !losers.is_empty(),
        "every actor that could read the marker cannot now: breakage before recovery",
        tally(&losers),
    )
    .with_evidence(evidence(&losers));
    context.check(check);

    let hung: Vec<&Observation> =
        losers.iter().filter(|o| matches!(o.outcome, Outcome::Hang { .. })).copied().collect();
    let check = Check::new(
        CheckId::NoHang,
        hung.is_empty(),
        "accesses fail with an error; none blocks",
        if hung.is_empty() { none_blocks(context) } else { tally(&hung) },
    )
    .with_evidence(evidence(&hung));
    context.check(check);
    Ok(())
}

/// That no access blocks, and since when, where a liveness probe has ended a daemon that did not answer.
fn none_blocks(context: &RunContext<'_>) -> String {
    let (fault_us, ended_us) = (context.fault_at_us(), context.ended_by_probe_at_us());
    match fault_us.zip(ended_us) {
        Some((from, until)) => format!(
            "no access blocks once the producer's liveness probe has ended the daemon, {:.1} ms after the fault",
            until.saturating_sub(from) as f64 / 1e3
        ),
        None => "no access blocks".into(),
    }
}

/// The consumers' processes survive.
pub(super) async fn alive(context: &mut RunContext<'_>) -> Result<(), Error> {
    let mut dead = Vec::new();
    for spec in readers(context) {
        let Some(workload) = context.workload(&spec.name) else { continue };
        let program = workload.status().await?.program;
        if !matches!(program, ProgramState::Running | ProgramState::None) {
            dead.push(format!("{}: {program}", spec.name));
        }
    }
    let observed = if dead.is_empty() { "all run".to_owned() } else { dead.join("; ") };
    let check = Check::new(
        CheckId::ConsumersAlive,
        dead.is_empty(),
        "the consumers' processes go on running",
        observed,
    );
    context.check(check);
    Ok(())
}

/// The name of the consumer that is started while the mount is stale.
const DURING_FAULT: &str = "consumer-during-fault";

/// A consumer that is like the first of the plan, to be started while the mount is stale.
pub(super) fn another_consumer(plan: &Plan) -> Option<WorkloadSpec> {
    let model = plan.with_role(Role::Consumer).next()?;
    Some(model.clone().with(|spec| {
        spec.name = DURING_FAULT.into();
        spec.order = StartOrder::AfterMount;
        spec.replicas = 1;
        spec.also_read_as = Vec::new();
    }))
}

/// Whether the runtime can start another consumer: it looks at the volume's source first.
pub(super) async fn new_consumer(context: &mut RunContext<'_>) -> Result<(), Error> {
    if let Some(refusal) = context.refusal(DURING_FAULT) {
        let mut check = refused(DURING_FAULT, refusal).with_id(CheckId::NewConsumerStarts);
        check.expected = "a consumer that starts now is started".into();
        context.check(check);
        return Ok(());
    }
    let seen = context.observe(&[Actor::workload(DURING_FAULT)], &Look::default()).await?;
    let all: Vec<&Observation> = seen.iter().collect();
    context.check(
        Check::new(
            CheckId::NewConsumerStarts,
            true,
            "a consumer that starts now is started",
            format!("it starts; {}", tally(&all)),
        )
        .with_evidence(evidence(&all)),
    );
    Ok(())
}
