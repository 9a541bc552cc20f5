//! Checks of consumers, the key question: do they see the mount?

use std::time::Duration;

use super::reach::beyond;
use super::tally::{NO_SECOND_USER, allow_other_gives, evidence, tally};
use crate::backend::Feature;
use crate::context::RunContext;
use crate::error::{Error, ErrorKind};
use crate::node::Look;
use crate::observation::{Actor, Observation, Outcome};
use crate::plan::{Propagation, Role, StartOrder, WorkloadSpec};
use crate::report::{Check, CheckId};
use crate::workload::Until;

/// Every consumer's own program finds the marker.
pub(super) async fn own_programs(context: &mut RunContext<'_>) -> Result<(), Error> {
    let mut consumers = started(context);
    consumers.retain(|spec| spec.role == Role::Consumer);
    let beyond = beyond(context, &consumers).await?;
    for spec in &consumers {
        match beyond.contains(&spec.name.as_str()) {
            true => context.check(finds_marker(context, spec, false, BEYOND.to_owned())),
            false => own_program(context, spec).await?,
        }
    }
    Ok(())
}

/// Why it is not waited for the program of a consumer.
const BEYOND: &str =
    "the mount is on the node and not in its mount namespace, and comes there no more";

fn finds_marker(
    context: &RunContext<'_>,
    spec: &WorkloadSpec,
    found: bool,
    observed: String,
) -> Check {
    let seconds = context.plan.deadlines.marker_ms as f64 / 1e3;
    let expected = format!("its own program finds the marker within {seconds:.0} s");
    Check::new(CheckId::FindsMarker(spec.name.clone()), found, expected, observed)
}

/// The consumers and controls that have been started.
fn started(context: &RunContext<'_>) -> Vec<WorkloadSpec> {
    let looking = context.plan.workloads.iter().filter(|spec| spec.role != Role::Producer);
    looking.filter(|spec| context.workload(&spec.name).is_some()).cloned().collect()
}

/// The consumer's own program finds the marker.
async fn own_program(context: &mut RunContext<'_>, spec: &WorkloadSpec) -> Result<(), Error> {
    let generation = context.marker()?.generation;
    let Some(workload) = context.workload(&spec.name) else { return Ok(()) };
    let deadline = Duration::from_millis(context.plan.deadlines.marker_ms);
    let until = Until::SeesGeneration(generation);
    let (found, observed) = match workload.wait(until.clone(), deadline).await {
        Ok(status) => {
            let met = until.is_met_by(&status);
            let words = match (&status.seen, met) {
                (Some(seen), true) => {
                    note_latency(context, spec, seen.at_us).await?;
                    format!("its own program read generation {generation}")
                }
                (Some(seen), false) => format!("{}; its program {}", seen.outcome, status.program),
                (None, _) => format!("nothing seen; its program {}", status.program),
            };
            (met, words)
        }
        Err(error) if error.kind() == ErrorKind::Timeout => (false, error.to_string()),
        Err(error) => return Err(error),
    };
    context.check(finds_marker(context, spec, found, observed));
    Ok(())
}

/// Records for earlier consumers the time from the producer's mount to their own first read.
async fn note_latency(
    context: &mut RunContext<'_>,
    spec: &WorkloadSpec,
    seen_at_us: u64,
) -> Result<(), Error> {
    if spec.order != StartOrder::BeforeMount {
        return Ok(());
    }
    let producer = context.plan.producer().and_then(|spec| context.workload(&spec.name));
    if let Some(producer) = producer
        && let Some(mounted_at_us) = producer.status().await?.mounted_at_us
    {
        let latency_ms = seen_at_us.saturating_sub(mounted_at_us) as f64 / 1e3;
        context.measurements.mount_to_visible_ms.push(latency_ms);
    }
    Ok(())
}

/// Every replica of every consumer reads the nonce; no control does.
pub(super) async fn look_as_themselves(context: &mut RunContext<'_>) -> Result<(), Error> {
    let started = started(context);
    let actors: Vec<Actor> = started.iter().flat_map(|spec| context.actors_of(spec)).collect();
    let seen = context.observe(&actors, &Look::default()).await?;
    for spec in &started {
        let own = of_workload(&seen, spec);
        let check = match spec.role {
            Role::Control => control(spec, &own),
            _ => Check::new(
                CheckId::Reads(spec.name.clone()),
                own.iter().all(|o| o.outcome.is_ok()),
                format!("{} ({}) reads the nonce", spec.name, spec.propagation),
                tally(&own),
            )
            .with_evidence(evidence(&own)),
        };
        context.check(check);
    }
    Ok(())
}

/// The first replica of every consumer reads it as the other users too, or is kept out if there is
/// no allow_other.
pub(super) async fn look_as_others(context: &mut RunContext<'_>) -> Result<(), Error> {
    let started = started(context);
    let asked: Vec<&WorkloadSpec> = started.iter().filter(|s| !s.also_read_as.is_empty()).collect();
    let wanted = allow_other_gives(context.plan.fuse.allow_other);
    let expected =
        |spec: &WorkloadSpec| format!("{} gets {wanted} as uid {:?}", spec.name, spec.also_read_as);
    let id = |spec: &WorkloadSpec| CheckId::ReadsAsOther(spec.name.clone());
    if !context.capabilities().has(Feature::OtherUids) {
        for spec in asked {
            context.check(Check::skipped(id(spec), expected(spec), NO_SECOND_USER));
        }
        return Ok(());
    }
    let mut uids: Vec<u32> = asked.iter().flat_map(|s| s.also_read_as.iter().copied()).collect();
    uids.sort_unstable();
    uids.dedup();
    let actors: Vec<Actor> = asked.iter().map(|spec| Actor::workload(spec.name.clone())).collect();
    let seen = context.observe(&actors, &Look::default().as_users(&uids)).await?;
    for spec in asked {
        let mut own = of_workload(&seen, spec);
        own.retain(|observation| spec.also_read_as.contains(&observation.uid));
        if let Some(Outcome::Skipped { reason }) = own.first().map(|o| &o.outcome) {
            context.check(Check::skipped(id(spec), expected(spec), reason.clone()));
            continue;
        }
        let ok = own.iter().all(|o| o.outcome.class() == wanted);
        let observed = format!("as uid {:?}, {}", spec.also_read_as, tally(&own));
        let check =
            Check::new(id(spec), ok, expected(spec), observed).with_evidence(evidence(&own));
        context.check(check);
    }
    Ok(())
}

fn of_workload<'a>(seen: &'a [Observation], spec: &WorkloadSpec) -> Vec<&'a Observation> {
    seen.iter()
        .filter(|o| matches!(&o.actor, Actor::Workload { name, .. } if *name == spec.name))
        .collect()
}

/// The consumers' copies of the FUSE mount are slaves of the host's peer group, by mountinfo.
pub(super) fn slave_of_host(context: &mut RunContext<'_>) {
    let plan = context.plan;
    let Some(capture) = context.last_capture().cloned() else { return };
    let table = |name: &str| capture.table(&Actor::workload(name));
    let Some(node) = capture.table(&Actor::Node) else { return };
    let host = node.at(&plan.bridge.fuse_path().as_str().into());
    let slaves: Vec<&WorkloadSpec> = plan
        .with_role(Role::Consumer)
        .filter(|s| s.propagation == Propagation::HostToContainer)
        .filter(|s| table(&s.name).is_some())
        .collect();
    if slaves.is_empty() {
        return;
    }
    let mut evidence: Vec<String> = host.iter().map(|mount| format!("node: {mount}")).collect();
    let mut not_slaves = Vec::new();
    for spec in &slaves {
        let mount =
            table(&spec.name).and_then(|t| t.at(&spec.paths(&plan.bridge).fuse.as_str().into()));
        evidence.extend(mount.map(|mount| format!("{}: {mount}", spec.name)));
        let is_slave = matches!((host, mount), (Some(host), Some(mount))
            if host.shared.is_some() && mount.master == host.shared && mount.device == host.device);
        if !is_slave {
            not_slaves.push(spec.name.clone());
        }
    }
    let observed = if not_slaves.is_empty() {
        format!(
            "{} on device {}",
            names(&slaves),
            host.map_or_else(String::new, |m| m.device.to_string())
        )
    } else {
        format!("not: {}", not_slaves.join(", "))
    };
    let check = Check::new(
        CheckId::SlaveOfHost,
        not_slaves.is_empty(),
        "consumers' FUSE mounts are slaves of the host's peer group, on the same device",
        observed,
    )
    .with_evidence(evidence);
    context.check(check);
}

fn control(spec: &WorkloadSpec, seen: &[&Observation]) -> Check {
    Check::new(
        CheckId::Control(spec.name.clone()),
        seen.iter().all(|o| matches!(o.outcome, Outcome::Absent)),
        format!("{} (None, started before the mount) does not see it", spec.name),
        tally(seen),
    )
    .with_evidence(evidence(seen))
}

fn names(specs: &[&WorkloadSpec]) -> String {
    specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The consumers that read the marker at some time in this run.
pub(super) fn readers(context: &RunContext<'_>) -> Vec<WorkloadSpec> {
    let consumers = context.plan.with_role(Role::Consumer);
    let could_read = |spec: &&WorkloadSpec| {
        context.actors_of(spec).iter().any(|actor| context.could_read(actor))
    };
    consumers.filter(could_read).cloned().collect()
}
