//! Phase 5: the producer serves again. Who comes back, and with how little help?

use std::time::Duration;

use async_trait::async_trait;

use super::consumer::readers;
use super::producer::{mounted, refused};
use super::{Phase, evidence, tally};
use crate::context::RunContext;
use crate::error::{Error, ErrorKind};
use crate::observation::{Actor, Observation};
use crate::plan::{Intervention, WorkloadSpec};
use crate::report::Check;
use crate::workload::{RestartScope, Until, Workload};

/// Phase 5.
#[derive(Debug, Clone, Copy)]
pub struct Recovery;

#[async_trait]
impl Phase for Recovery {
    fn id(&self) -> &str {
        "recovery"
    }

    fn requires(&self) -> &[&str] {
        &["consumer"]
    }

    async fn run(&self, context: &mut RunContext<'_>) -> Result<(), Error> {
        let consumers = readers(context, context.plan);
        if context.fault_at_us.is_none() {
            context.check(Check::skipped(
                "producer_restarts",
                "a new generation",
                "no fault was done",
            ));
            return Ok(());
        }
        if !restart_producer(context).await? || !node_is_fresh(context).await? {
            return Ok(());
        }
        climb(context, &consumers).await?;
        held_descriptors(context, &consumers).await
    }
}

async fn restart_producer(context: &mut RunContext<'_>) -> Result<bool, Error> {
    let marker = context.next_generation()?;
    let Some(producer) = context.plan.producer().and_then(|spec| context.workload(&spec.name))
    else {
        return Ok(false);
    };
    let refused_now = producer.restart(&marker, RestartScope::Container.into()).await?.err();
    context.note_start(&producer.spec().name, refused_now.clone());
    if let Some(refusal) = refused_now {
        let check = refused("producer", &refusal);
        context.check(Check { id: "producer_restarts".into(), ..check });
        return Ok(false);
    }
    mounted(context).await
}

async fn node_is_fresh(context: &mut RunContext<'_>) -> Result<bool, Error> {
    let seen = context.look(&[Actor::Node]).await?;
    let all: Vec<&Observation> = seen.iter().collect();
    let fresh = seen.iter().all(|o| o.outcome.is_ok());
    let check = Check::new("node_fresh", fresh, "the node reads the new nonce", tally(&all))
        .with_evidence(evidence(&all))
        .with_cause(
            "the new mount did not reach the node, or landed under the stale one",
            "unmount the stale layers (umount --lazy) before the producer mounts again",
        );
    context.check(check);
    Ok(fresh)
}

/// The name of the capture that is taken when waiting has not helped.
const BEFORE_HELP: &str = "recovery, before any help";

/// Tries the interventions in order until every consumer reads the new generation.
async fn climb(context: &mut RunContext<'_>, consumers: &[WorkloadSpec]) -> Result<(), Error> {
    let mut tried = Vec::new();
    let mut works = None;
    let mut broken_seen = false;
    for intervention in context.plan.recovery.clone() {
        if intervention != Intervention::Wait && !broken_seen {
            // The help changes the mount tables: what is broken shows only before it.
            context.capture_as(BEFORE_HELP).await?;
            broken_seen = true;
        }
        if let Err(words) = intervene(context, intervention, consumers).await? {
            tried.push(format!("{intervention}: {words}"));
            continue;
        }
        let (fresh, words) = all_fresh(context, consumers).await?;
        tried.push(format!("{intervention}: {words}"));
        if fresh {
            works = Some(intervention);
            break;
        }
    }
    if works.is_some() {
        note_times(context, consumers).await?;
    }
    context.measurements.smallest_intervention = works;
    let observed = match works {
        Some(Intervention::Wait) => "every consumer, with no intervention".to_owned(),
        Some(intervention) => format!("only after {intervention}"),
        None => "not with any intervention that was tried".to_owned(),
    };
    let fix = match works {
        Some(intervention) => format!("the smallest intervention that works is {intervention}"),
        None => "recreate the consumers' pods, then look at the mount graph".to_owned(),
    };
    let check = Check::new(
        "recovers_by_itself",
        works == Some(Intervention::Wait),
        "existing consumers read the new nonce by themselves",
        observed,
    )
    .with_evidence(tried)
    .with_cause(
        "the fresh mount was not made on anything that the consumers' mounts are slaves of: a \
         volume that is the mountpoint itself keeps the dead superblock, one that is the \
         directory above it receives the new mount",
        fix,
    );
    context.check(check);
    Ok(())
}

/// Does one intervention; the inner error says why it could not be done here.
async fn intervene(
    context: &mut RunContext<'_>,
    intervention: Intervention,
    consumers: &[WorkloadSpec],
) -> Result<Result<(), String>, Error> {
    let capabilities = context.capabilities();
    match intervention {
        Intervention::Wait => Ok(Ok(())),
        Intervention::RebindHost if !capabilities.rebind_host => {
            Ok(Err("not possible here".into()))
        }
        Intervention::RebindHost => possible(context.node.rebind_host(false).await),
        Intervention::RebindConsumer if !capabilities.rebind_consumer => {
            Ok(Err("not possible here".into()))
        }
        Intervention::RebindConsumer => {
            for spec in consumers {
                if let Some(workload) = context.workload(&spec.name)
                    && let Err(words) = possible(workload.rebind().await)?
                {
                    return Ok(Err(format!("{}: {words}", spec.name)));
                }
            }
            Ok(Ok(()))
        }
        Intervention::RestartConsumer | Intervention::RecreateConsumer => {
            let marker = context.marker()?.clone();
            let scope = match intervention {
                Intervention::RecreateConsumer => RestartScope::Pod,
                _ => RestartScope::Container,
            };
            for spec in consumers {
                let Some(workload) = context.workload(&spec.name) else { continue };
                if let Err(refusal) = workload.restart(&marker, scope.into()).await? {
                    return Ok(Err(format!("{}: {refusal}", spec.name)));
                }
            }
            Ok(Ok(()))
        }
    }
}

/// A finding, or what this node cannot do, in words; anything else is an error of the tool.
fn possible(result: Result<(), Error>) -> Result<Result<(), String>, Error> {
    match result {
        Ok(()) => Ok(Ok(())),
        Err(error) if error.is_finding() || error.kind() == ErrorKind::Unsupported => {
            Ok(Err(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

/// Whether every consumer reads the new generation: its own program within the deadline, and every
/// replica when looked at.
async fn all_fresh(
    context: &mut RunContext<'_>,
    consumers: &[WorkloadSpec],
) -> Result<(bool, String), Error> {
    let generation = context.marker()?.generation;
    let deadline = Duration::from_millis(context.plan.deadlines.recovery_ms);
    let mut noticed = true;
    for spec in consumers {
        let Some(workload) = context.workload(&spec.name) else { continue };
        let until = Until::SeesGeneration(generation);
        noticed &= match workload.wait(until.clone(), deadline).await {
            Ok(status) => until.is_met_by(&status),
            Err(error) if error.kind() == ErrorKind::Timeout => false,
            Err(error) => return Err(error),
        };
    }
    let actors: Vec<Actor> = consumers.iter().flat_map(|s| context.actors_of(s)).collect();
    let seen = context.look(&actors).await?;
    let all: Vec<&Observation> = seen.iter().collect();
    let mut words = tally(&all);
    let fresh = seen.iter().all(|o| o.outcome.is_ok());
    if fresh && !noticed {
        words.push_str(", but not every consumer's own program has noticed");
    }
    Ok((fresh && noticed, words))
}

/// Times from the fault and from the new mount to the last consumer's own fresh read.
async fn note_times(context: &mut RunContext<'_>, consumers: &[WorkloadSpec]) -> Result<(), Error> {
    let mut last_us = None;
    for spec in consumers {
        if let Some(workload) = context.workload(&spec.name) {
            let seen = workload.status().await?.seen;
            last_us = last_us.max(seen.filter(|s| s.outcome.is_ok()).map(|s| s.at_us));
        }
    }
    let (Some(last_us), Some(fault_us)) = (last_us, context.fault_at_us) else { return Ok(()) };
    context.measurements.fault_to_recovery_ms = Some(last_us.saturating_sub(fault_us) as f64 / 1e3);
    if let Some(producer) = context.plan.producer().and_then(|spec| context.workload(&spec.name))
        && let Some(mounted_us) = producer.status().await?.mounted_at_us
    {
        context.measurements.remount_to_fresh_read_ms =
            Some(last_us.saturating_sub(mounted_us) as f64 / 1e3);
    }
    Ok(())
}

/// Descriptors opened before the fault: reported apart, because they never follow a new mount.
async fn held_descriptors(
    context: &mut RunContext<'_>,
    consumers: &[WorkloadSpec],
) -> Result<(), Error> {
    let mut words = Vec::new();
    let mut workloads: Vec<std::sync::Arc<dyn Workload>> = Vec::new();
    workloads.extend(consumers.iter().filter_map(|spec| context.workload(&spec.name)));
    for workload in workloads {
        if let Some(held) = workload.status().await?.held {
            words.push(format!("{}: {held}", workload.spec().name));
        }
    }
    let expected = "reported apart: a descriptor opened before the fault stays with the old mount";
    if words.is_empty() {
        context.check(Check::skipped("held_descriptors", expected, "no consumer held one"));
    } else {
        context.check(Check::new("held_descriptors", true, expected, words.join("; ")));
    }
    Ok(())
}
