//! Recovery: restarts and re-binds.

use std::sync::Arc;

use propagation_core::mountinfo::MountTable;
use propagation_core::node::{Probe, mount_table};
use propagation_core::observation::{Access, Actor};
use propagation_core::plan::{
    Fault, FaultKind, Propagation, Repair, StartOrder, Volume, WorkloadSpec,
};
use propagation_core::program::{Attach, ProgramState, RefusalKind};
use propagation_core::workload::{RestartScope, Until};
use propagation_core::{Error, ErrorKind, Workload};

use super::{consumer, early, late};
use crate::case::cases;
use crate::failure::{Checked, Failure, ensure, ensure_eq};
use crate::lab::DEAD;
use crate::lab::{Lab, Stage, of};
use crate::need::Need;
use propagation_core::{Class, Errno};

cases! {
    a_restarted_producer_serves_the_new_generation,
    a_producer_that_serves_can_be_restarted,
    a_restarted_consumer_binds_anew,
    a_recreated_consumer_binds_anew,
    a_refused_restart_can_be_tried_again,
    re_binding_in_a_consumer_heals_it needs REBIND_CONSUMER,
    re_binding_keeps_the_propagation needs REBIND_CONSUMER,
    reconnecting_lets_later_mounts_arrive needs RECONNECT_CONSUMER,
    re_binding_on_the_host_travels needs REBIND_HOST,
    what_is_not_declared_is_refused,
}

async fn a_restarted_producer_serves_the_new_generation(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    let consumer = stage.start_one(&early()).await?;
    let producer = stage.serve().await?;
    let first = producer.status().await?.mounted_at_us;
    stage.inject(&*producer, Fault::Kill).await?;
    let over = stage.node.now_us();
    stage.serve_again(&*producer, 2).await?;
    let status = producer.status().await?;
    ensure_eq!(status.program, ProgramState::Running, "the program of the second generation");
    ensure!(
        status.mounted_at_us > first && status.mounted_at_us >= Some(over),
        "it mounted at {:?}, and at {first:?} before",
        status.mounted_at_us
    );
    for observation in
        stage.expect(&[(Actor::Node, Class::Ok), (of("early"), Class::Ok)], 2, "new").await?
    {
        ensure_eq!(observation.generation, Some(2), "the generation read by {}", observation.actor);
    }
    let wanted = [(Actor::Node, Class::WrongContent), (of("early"), Class::WrongContent)];
    stage.expect(&wanted, 1, "asked for the old generation").await?;
    stage.until(&*consumer, Until::SeesGeneration(2)).await.map(drop)
}

async fn a_producer_that_serves_can_be_restarted(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    stage.start_one(&early()).await?;
    let producer = stage.serve().await?;
    for generation in [2, 3] {
        stage.serve_again(&*producer, generation).await?;
        let wanted = [(Actor::Node, Class::Ok), (of("early"), Class::Ok)];
        stage.expect(&wanted, generation, "restarted without a fault").await?;
    }
    let path = stage.plan.bridge.fuse_path();
    let table = mount_table(&*stage.node, &Actor::Node).await?;
    let stack = table.stack_at(&path.as_str().into()).len();
    ensure_eq!(stack, 1, "mounts on the mountpoint after two restarts");
    Ok(())
}

/// A consumer that holds a dead mount, and the producer's second generation on the node.
async fn stale(lab: &Lab) -> Result<(Stage, Arc<dyn Workload>, WorkloadSpec), Failure> {
    let mode = Propagation::HostToContainer;
    let spec = consumer("stale", StartOrder::AfterMount, mode, Volume::Mountpoint);
    let stage = Stage::set(lab, lab.plan_of(std::slice::from_ref(&spec))).await?;
    let producer = stage.serve().await?;
    let consumer = stage.start_one(&spec).await?;
    stage.until(&*consumer, Until::SeesGeneration(1)).await?;
    stage.inject(&*producer, Fault::Kill).await?;
    stage.serve_again(&*producer, 2).await?;
    let wanted = [(Actor::Node, Class::Ok), (of("stale"), DEAD)];
    stage.expect(&wanted, 2, "before anything is done for the consumer").await?;
    Ok((stage, consumer, spec))
}

async fn a_restarted_consumer_binds_anew(lab: &Lab) -> Checked {
    started_anew(lab, RestartScope::Container).await
}

async fn a_recreated_consumer_binds_anew(lab: &Lab) -> Checked {
    started_anew(lab, RestartScope::Pod).await
}

async fn started_anew(lab: &Lab, scope: RestartScope) -> Checked {
    let (stage, consumer, spec) = stale(lab).await?;
    consumer.restart(&stage.marker(2), scope.into()).await??;
    stage.until(&*consumer, Until::SeesGeneration(2)).await?;
    stage.expect(&[(of("stale"), Class::Ok)], 2, "started anew").await?;
    ensure_eq!(consumer.spec(), &spec, "what it was started from");
    let again = consumer.status().await?;
    ensure_eq!(again.program, ProgramState::Running, "its program");
    Ok(())
}

async fn a_refused_restart_can_be_tried_again(lab: &Lab) -> Checked {
    let mode = Propagation::HostToContainer;
    let spec = consumer("at-mountpoint", StartOrder::AfterMount, mode, Volume::Mountpoint);
    let stage = Stage::set(lab, lab.plan_of(std::slice::from_ref(&spec))).await?;
    let producer = stage.serve().await?;
    let consumer = stage.start_one(&spec).await?;
    stage.inject(&*producer, Fault::Kill).await?;
    let Err(refusal) = consumer.restart(&stage.marker(2), RestartScope::Container.into()).await?
    else {
        return Err(Failure::new("it was restarted on a dead source"));
    };
    ensure_eq!(refusal.kind, RefusalKind::DeadSource, "the kind of {refusal}");
    let status = consumer.wait(Until::Ended, lab.soon).await?;
    ensure!(Until::Ended.is_met_by(&status), "it runs although its restart was refused");
    stage.serve_again(&*producer, 2).await?;
    consumer.restart(&stage.marker(2), RestartScope::Container.into()).await??;
    stage.until(&*consumer, Until::SeesGeneration(2)).await?;
    stage.expect(&[(of("at-mountpoint"), Class::Ok)], 2, "tried again").await?;
    Ok(())
}

async fn re_binding_in_a_consumer_heals_it(lab: &Lab) -> Checked {
    let (stage, consumer, _) = stale(lab).await?;
    consumer.attach(Attach::Rebind).await??;
    stage.expect(&[(of("stale"), Class::Ok), (Actor::Node, Class::Ok)], 2, "bound anew").await?;
    let status = stage.until(&*consumer, Until::SeesGeneration(2)).await?;
    ensure_eq!(status.program, ProgramState::Running, "its program, never restarted");
    Ok(())
}

async fn re_binding_keeps_the_propagation(lab: &Lab) -> Checked {
    let (stage, consumer, spec) = stale(lab).await?;
    let actor = of("stale");
    let path = spec.paths(&stage.plan.bridge).mount_point;
    let before = mount_table(&*stage.node, &actor).await?;
    consumer.attach(Attach::Rebind).await??;
    let after = mount_table(&*stage.node, &actor).await?;
    let propagation = |table: &MountTable| {
        table.at(&path.as_str().into()).map(|mount| mount.propagation().to_string())
    };
    ensure_eq!(propagation(&after), propagation(&before), "the propagation after the re-bind");
    Ok(())
}

async fn reconnecting_lets_later_mounts_arrive(lab: &Lab) -> Checked {
    let spec = consumer("frozen", StartOrder::AfterMount, Propagation::None, Volume::Bridge);
    let stage = Stage::set(lab, lab.plan_of(std::slice::from_ref(&spec))).await?;
    let producer = stage.serve().await?;
    let consumer = stage.start_one(&spec).await?;
    stage.until(&*consumer, Until::SeesGeneration(1)).await?;
    stage.inject(&*producer, Fault::Kill).await?;
    stage.serve_again(&*producer, 2).await?;
    stage.expect(&[(of("frozen"), DEAD)], 2, "before it is reconnected").await?;
    match consumer.attach(Attach::Reconnect).await? {
        Ok(_) => {}
        Err(why) if why.refusal.is_some_and(|it| it.kind == RefusalKind::Kernel) => {
            return Err(Failure::not_applicable(why));
        }
        Err(why) => return Err(why.into()),
    }
    stage.expect(&[(of("frozen"), Class::Ok)], 2, "reconnected").await?;
    for generation in [3, 4] {
        stage.inject(&*producer, Fault::Kill).await?;
        stage.expect(&[(of("frozen"), DEAD)], generation - 1, "killed again").await?;
        stage.serve_again(&*producer, generation).await?;
        let wanted = [(Actor::Node, Class::Ok), (of("frozen"), Class::Ok)];
        stage.expect(&wanted, generation, "mounted again, with no help").await?;
    }
    let again = consumer.attach(Attach::Reconnect).await?;
    let errno = again.err().and_then(|refused| refused.refusal?.errno);
    ensure_eq!(errno, Some(Errno::EINVAL), "a second time");
    Ok(())
}

async fn re_binding_on_the_host_travels(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early(), late()])).await?;
    stage.start_one(&early()).await?;
    stage.serve().await?;
    stage.start_one(&late()).await?;
    let host = stage.plan.bridge.fuse_path();
    let places =
        [(Actor::Node, host.as_str()), (of("early"), "/mnt/dfs"), (of("late"), "/mnt/dfs")];
    stage.node.rebind_host(&host, false).await??;
    for (actor, path) in &places {
        let table = mount_table(&*stage.node, actor).await?;
        let stack = table.stack_at(&(*path).into());
        ensure_eq!(stack.len(), 2, "mounts of {actor} at {path}");
        ensure_eq!(stack[1].device, stack[0].device, "their superblocks");
    }
    let wanted = places.map(|(actor, _)| (actor, Class::Ok));
    stage.expect(&wanted, 1, "with the mount bound over itself").await?;
    Ok(())
}

async fn what_is_not_declared_is_refused(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    let can = stage.node.capabilities();
    if can.repairs.len() == Repair::ALL.len()
        && can.faults.len() == FaultKind::ALL.len()
        && can.accesses.len() == Access::ALL.len()
    {
        let reason = "the node declares everything that a call could be refused for";
        return Err(Failure::not_applicable(reason));
    }
    let consumer = stage.start_one(&early()).await?;
    let producer = stage.serve().await?;
    let refused = |error: Option<Error>, need: Need| {
        let kind = error.map(|error| error.kind());
        ensure_eq!(kind, Some(ErrorKind::Unsupported), "the answer without {need}");
        Ok::<(), Failure>(())
    };
    let host = stage.plan.bridge.fuse_path();
    for repair in Repair::ALL.into_iter().filter(|repair| !can.repairs.contains(repair)) {
        let answer = match repair {
            Repair::RebindHost => stage.node.rebind_host(&host, false).await.err(),
            Repair::RebindHostDeduplicated => stage.node.rebind_host(&host, true).await.err(),
            Repair::RebindConsumer => consumer.attach(Attach::Rebind).await.err(),
            Repair::ReconnectConsumer => consumer.attach(Attach::Reconnect).await.err(),
            Repair::HandOver => producer.hand_over(&stage.marker(2)).await.err(),
            // These are starts, restarts and unmounts, which every node can be asked for.
            _ => continue,
        };
        refused(answer, Need::Repair(repair))?;
    }
    let of_workloads = |fault: &&FaultKind| !fault.sample().is_on_the_node();
    let undeclared = FaultKind::ALL.iter().filter(|fault| !can.faults.contains(fault));
    for fault in undeclared.filter(of_workloads) {
        refused(producer.inject(&fault.sample()).await.err(), Need::Fault(*fault))?;
    }
    for access in Access::ALL.into_iter().filter(|access| !can.accesses.contains(access)) {
        let probe = Probe { access, ..stage.probe(1) };
        refused(stage.node.observe(&[of("early")], &probe).await.err(), Need::Access(access))?;
    }
    stage
        .expect(&[(Actor::Node, Class::Ok), (of("early"), Class::Ok)], 1, "after the refusals")
        .await?;
    Ok(())
}
