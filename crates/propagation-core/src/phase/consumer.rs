//! Phase 3, the key question: do consumers see the mount?

use std::time::Duration;

use async_trait::async_trait;

use super::producer::refused;
use super::{Phase, evidence, tally};
use crate::context::RunContext;
use crate::error::{Error, ErrorKind};
use crate::mountinfo::{MountGraph, MountTable};
use crate::node::Target;
use crate::observation::{Actor, Observation, Outcome};
use crate::plan::{Plan, Propagation, Role, StartOrder, WorkloadSpec};
use crate::report::Check;
use crate::workload::Until;

/// Phase 3.
#[derive(Debug, Clone, Copy)]
pub struct Consumer;

#[async_trait]
impl Phase for Consumer {
    fn id(&self) -> &str {
        "consumer"
    }

    fn requires(&self) -> &[&str] {
        &["producer"]
    }

    async fn run(&self, context: &mut RunContext<'_>) -> Result<(), Error> {
        let plan = context.plan;
        let late: Vec<WorkloadSpec> = plan
            .workloads
            .iter()
            .filter(|spec| spec.role != Role::Producer && spec.order == StartOrder::AfterMount)
            .cloned()
            .collect();
        for (name, refusal) in context.start(&late).await? {
            context.check(refused(&name, &refusal));
        }
        let tables = capture_tables(context).await?;
        for spec in plan.with_role(Role::Consumer) {
            if context.workload(&spec.name).is_none() {
                continue;
            }
            own_program(context, spec).await?;
            reads(context, spec).await?;
        }
        slave_of_host(context, &tables);
        for spec in plan.with_role(Role::Control) {
            control(context, spec).await?;
        }
        context.mount_graph = Some(MountGraph::build(tables));
        Ok(())
    }
}

/// Mount tables of the node and of the first replica of every workload.
async fn capture_tables(context: &RunContext<'_>) -> Result<Vec<(String, MountTable)>, Error> {
    let mut tables = vec![("node".to_owned(), context.node.mount_table(&Actor::Node).await?)];
    for workload in context.workloads() {
        let name = &workload.spec().name;
        let table = context.node.mount_table(&Actor::workload(name.clone())).await?;
        tables.push((name.clone(), table));
    }
    Ok(tables)
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
                    "found".to_owned()
                }
                (Some(seen), false) => format!("{}; its program {}", seen.outcome, status.program),
                (None, _) => format!("nothing seen; its program {}", status.program),
            };
            (met, words)
        }
        Err(error) if error.kind() == ErrorKind::Timeout => (false, error.to_string()),
        Err(error) => return Err(error),
    };
    let seconds = deadline.as_secs_f64();
    let check = Check::new(
        format!("finds_marker:{}", spec.name),
        found,
        format!("its own program finds the marker within {seconds:.0} s"),
        observed,
    )
    .with_cause(why_not(spec), fix_for(spec));
    context.check(check);
    Ok(())
}

/// For consumers that were there before: from the producer's mount to their own first read.
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

/// Every replica reads the nonce, as root and as the other users.
async fn reads(context: &mut RunContext<'_>, spec: &WorkloadSpec) -> Result<(), Error> {
    let actors = context.actors_of(spec);
    let seen = context.observe(&actors, Target::Fuse, &[0]).await?;
    let as_root: Vec<&Observation> = seen.iter().collect();
    let check = Check::new(
        format!("reads:{}", spec.name),
        as_root.iter().all(|o| o.outcome.is_ok()),
        format!("{} ({}) reads the nonce", spec.name, spec.propagation),
        tally(&as_root),
    )
    .with_evidence(evidence(&as_root))
    .with_cause(why_not(spec), fix_for(spec));
    context.check(check);

    if spec.also_read_as.is_empty() {
        return Ok(());
    }
    let id = format!("reads_as_other:{}", spec.name);
    let wanted = if context.plan.allow_other { "ok" } else { "EACCES" };
    let expected = format!("{} gets {wanted} as uid {:?}", spec.name, spec.also_read_as);
    if !context.capabilities().other_uids {
        context.check(Check::skipped(
            id,
            expected,
            "there is no second user in this node's user namespace: newuidmap and a range in \
             /etc/subuid would give one",
        ));
        return Ok(());
    }
    let seen = context.observe(&actors[..1], Target::Fuse, &spec.also_read_as).await?;
    let as_other: Vec<&Observation> = seen.iter().collect();
    context.check(
        Check::new(
            id,
            as_other.iter().all(|o| o.outcome.class() == wanted),
            expected,
            tally(&as_other),
        )
        .with_evidence(evidence(&as_other))
        .with_cause(
            "the FUSE mount lets only the mounting user in",
            "mount with -o allow_other (and user_allow_other in fuse.conf when not root)",
        ),
    );
    Ok(())
}

/// The consumers' copies of the FUSE mount are slaves of the host's peer group, by mountinfo.
fn slave_of_host(context: &mut RunContext<'_>, tables: &[(String, MountTable)]) {
    let plan = context.plan;
    let table = |name: &str| tables.iter().find(|(label, _)| label == name).map(|(_, t)| t);
    let Some(node) = table("node") else { return };
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
        "they are".to_owned()
    } else {
        format!("not: {}", not_slaves.join(", "))
    };
    let check = Check::new(
        "slave_of_host",
        not_slaves.is_empty(),
        "consumers' FUSE mounts are slaves of the host's peer group, on the same device",
        observed,
    )
    .with_evidence(evidence)
    .with_cause(
        "the consumer's mount is not connected to the host's: a later mount will not reach it",
        "use mountPropagation: HostToContainer on the consumer",
    );
    context.check(check);
}

async fn control(context: &mut RunContext<'_>, spec: &WorkloadSpec) -> Result<(), Error> {
    if context.workload(&spec.name).is_none() {
        return Ok(());
    }
    let actors = context.actors_of(spec);
    let seen = context.observe(&actors, Target::Fuse, &[0]).await?;
    let all: Vec<&Observation> = seen.iter().collect();
    let blind = seen.iter().all(|o| matches!(o.outcome, Outcome::Absent));
    let check = Check::new(
        format!("control:{}", spec.name),
        blind,
        format!("{} (None, started before the mount) does not see it", spec.name),
        tally(&all),
    )
    .with_evidence(evidence(&all))
    .with_cause(
        "a private mount view received the mount: the containers are not isolated from the host",
        "look for a runtime that leaves / shared in its containers",
    );
    context.check(check);
    Ok(())
}

fn why_not(spec: &WorkloadSpec) -> &'static str {
    match (spec.propagation, spec.order) {
        (Propagation::None, StartOrder::BeforeMount) => {
            "the consumer's volume is private (None): a mount made after its start cannot reach it"
        }
        (Propagation::None, StartOrder::AfterMount) => {
            "the consumer started after the mount and does not hold a copy of it"
        }
        _ => {
            "the consumer's volume is a slave and still does not receive the mount: its master is \
             not the host mount on which the producer's mount landed"
        }
    }
}

fn fix_for(spec: &WorkloadSpec) -> &'static str {
    match spec.propagation {
        Propagation::None => "set mountPropagation: HostToContainer on the consumer's volume",
        _ => {
            "compare the peer groups in the mount graph; the runtime must bind from the namespace \
             in which the mount shows"
        }
    }
}

/// The consumers of a plan that read the marker at some time in this run.
pub(super) fn readers(context: &RunContext<'_>, plan: &Plan) -> Vec<WorkloadSpec> {
    plan.with_role(Role::Consumer)
        .filter(|spec| context.actors_of(spec).iter().any(|actor| context.could_read(actor)))
        .cloned()
        .collect()
}
