//! The ladder of repairs: who comes back, and with how little help?

use futures_util::future::join_all;

use super::consumer::readers;
use super::reach::beyond;
use super::tally::tally;
use crate::act;
use crate::context::{Done, RunContext};
use crate::error::{Error, ErrorKind};
use crate::node::Look;
use crate::observation::{Actor, Observation};
use crate::plan::{Names, Repair, WorkloadSpec};
use crate::report::{ByItself, Check, CheckId};
use crate::workload::Until;

/// The name of the capture that is taken when waiting has not helped.
const BEFORE_HELP: &str = "recovery, before any help";

/// Climbs the ladder of repairs until every consumer reads the new generation.
pub(super) async fn climb(context: &mut RunContext<'_>, rungs: &[Repair]) -> Result<(), Error> {
    let consumers = &readers(context);
    let names = Names::Several(consumers.iter().map(|spec| spec.name.clone()).collect());
    let mut tried = Vec::new();
    let mut works = None;
    let mut broken_seen = false;
    let restarted_us = context.restarted_at_us();
    context.measurements.fault_to_restart_ms = context
        .fault_at_us()
        .zip(restarted_us)
        .map(|(fault_us, restarted_us)| restarted_us.saturating_sub(fault_us) as f64 / 1e3);
    for &repair in rungs {
        if repair != Repair::Wait && !broken_seen {
            // The help changes the mount tables: what is broken shows only before it.
            context.capture_as(BEFORE_HELP).await?;
            broken_seen = true;
        }
        let began_us = context.node.now_us();
        let in_vain_ms = context.measurements.waited_in_vain_ms;
        if let Err(words) = try_repair(context, repair, &names).await? {
            tried.push(format!("{}: {words}", repair.name()));
            continue;
        }
        let (fresh, words) = all_fresh(context, consumers).await?;
        tried.push(format!("{}: {words}", repair.name()));
        if fresh {
            works = Some(repair);
            note_times(context, consumers, repair, began_us).await?;
            break;
        }
        let waited_ms = context.node.now_us().saturating_sub(began_us) as f64 / 1e3;
        // Looks that hung were a part of it.
        context.measurements.waited_in_vain_ms = in_vain_ms + waited_ms;
        if repair == Repair::Wait {
            context.measurements.by_itself = Some(ByItself::Never { waited_ms });
        }
    }
    context.measurements.smallest_intervention = works;
    let observed = match works {
        Some(Repair::Wait) => "every consumer, with no intervention".to_owned(),
        Some(repair) => format!("never by themselves; after {}", repair.words()),
        None => "never, with no intervention that was tried".to_owned(),
    };
    let check = Check::new(
        CheckId::RecoversByItself,
        works == Some(Repair::Wait),
        "existing consumers read the new nonce by themselves",
        observed,
    );
    context.check(check.with_evidence(tried));
    Ok(())
}

/// Does one repair for the consumers; the inner error says why it could not be done here.
async fn try_repair(
    context: &mut RunContext<'_>,
    repair: Repair,
    names: &Names,
) -> Result<Result<(), String>, Error> {
    if repair == Repair::Wait {
        return Ok(Ok(()));
    }
    match act::repair(context, repair, Some(names), None).await {
        Ok(Done::Failed(failed)) => Ok(Err(failed.words)),
        Ok(Done::Ok | Done::Ran(_)) => {
            let refused = names.as_slice().iter().filter_map(|name| {
                context.refusal(name).map(|refusal| format!("{name}: {refusal}"))
            });
            let refused: Vec<String> = refused.collect();
            Ok(if refused.is_empty() { Ok(()) } else { Err(refused.join("; ")) })
        }
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Whether every consumer reads the new generation: its own program within the deadline, and every replica when
/// looked at. A consumer that the new mount has not reached is not waited for.
async fn all_fresh(
    context: &mut RunContext<'_>,
    consumers: &[WorkloadSpec],
) -> Result<(bool, String), Error> {
    let generation = context.marker()?.generation;
    let deadline = context.plan.recovery_deadline();
    let until = Until::SeesGeneration(generation);
    let beyond = beyond(context, consumers).await?;
    let reached = consumers.iter().filter(|spec| !beyond.contains(&spec.name.as_str()));
    let workloads: Vec<_> = reached.filter_map(|spec| context.workload(&spec.name)).collect();
    let mut noticed = beyond.is_empty();
    for waited in join_all(workloads.iter().map(|one| one.wait(until.clone(), deadline))).await {
        noticed &= match waited {
            Ok(status) => until.is_met_by(&status),
            Err(error) if error.kind() == ErrorKind::Timeout => false,
            Err(error) => return Err(error),
        };
    }
    let actors: Vec<Actor> = consumers.iter().flat_map(|s| context.actors_of(s)).collect();
    let seen = context.observe(&actors, &Look::default()).await?;
    let all: Vec<&Observation> = seen.iter().collect();
    let mut words = tally(&all);
    let fresh = seen.iter().all(|o| o.outcome.is_ok());
    if fresh && !noticed {
        words.push_str(", but not every consumer's own program has noticed");
    }
    Ok((fresh && noticed, words))
}

/// Times to the last consumer's own fresh read: from the producer's restart and from its new mount where nobody helped,
/// otherwise from the beginning of the repair. What the run itself waited before is in none of them.
async fn note_times(
    context: &mut RunContext<'_>,
    consumers: &[WorkloadSpec],
    repair: Repair,
    began_us: u64,
) -> Result<(), Error> {
    let mut last_us = None;
    for spec in consumers {
        if let Some(workload) = context.workload(&spec.name) {
            let seen = workload.status().await?.seen;
            last_us = last_us.max(seen.filter(|s| s.outcome.is_ok()).map(|s| s.at_us));
        }
    }
    let Some(last_us) = last_us else { return Ok(()) };
    let since = |from_us: u64| Some(last_us.saturating_sub(from_us) as f64 / 1e3);
    if repair != Repair::Wait {
        context.measurements.intervention_to_fresh_read_ms = since(began_us);
        return Ok(());
    }
    context.measurements.restart_to_recovery_ms = context.restarted_at_us().and_then(since);
    let mut by_itself = context.measurements.restart_to_recovery_ms;
    if let Some(producer) = context.plan.producer().and_then(|spec| context.workload(&spec.name))
        && let Some(mounted_us) = producer.status().await?.mounted_at_us
    {
        by_itself = since(mounted_us);
        context.measurements.remount_to_fresh_read_ms = by_itself;
    }
    context.measurements.by_itself = by_itself.map(|ms| ByItself::After { ms });
    Ok(())
}
