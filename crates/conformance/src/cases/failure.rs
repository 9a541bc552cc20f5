//! Faults: what they do, and what every actor sees then.

use std::time::{Duration, Instant};

use propagation_core::Feature;
use propagation_core::node::Probe;
use propagation_core::observation::{Actor, Outcome};
use propagation_core::plan::{Fault, Propagation, StartOrder, Volume, WorkloadSpec};
use propagation_core::program::ProgramState;
use propagation_core::workload::{RestartScope, Until};

use super::{consumer, early, late};
use crate::case::cases;
use crate::failure::{Checked, Failure, ensure, ensure_eq};
use crate::lab::DEAD;
use crate::lab::{Lab, Stage, of};
use propagation_core::Class;
use propagation_core::Errno;
use propagation_core::Signal;
use propagation_core::program::RefusalKind;

cases! {
    a_killed_producer_is_enotconn_for_all_but_the_control,
    a_terminated_producer_unmounts_and_exits,
    a_stopped_producer_hangs_and_nobody_waits_longer needs STOP_FAULT,
    a_fault_on_what_has_ended_is_refused,
    consumers_can_be_killed_and_terminated,
    consumers_notice_and_go_on_running,
    a_dead_source_keeps_new_consumers_out,
    a_hung_source_keeps_new_consumers_out needs STOP_FAULT,
    held_descriptors_stay_with_the_old_mount,
}

async fn a_killed_producer_is_enotconn_for_all_but_the_control(lab: &Lab) -> Checked {
    let others = [early(), WorkloadSpec::control(), late()];
    let stage = Stage::set(lab, lab.plan_of(&others)).await?;
    stage.start(&others[..2]).await?;
    let producer = stage.serve().await?;
    stage.start_one(&late()).await?;
    stage.inject(&*producer, Fault::Kill).await?;
    let wanted = [
        (Actor::Node, DEAD),
        (of("early"), DEAD),
        (of("late"), DEAD),
        (of("control"), Class::Absent),
    ];
    for observation in stage.expect(&wanted, 1, "after SIGKILL").await? {
        ensure_eq!(observation.generation, None, "the generation that {observation} read");
    }
    let status = stage.until(&*producer, Until::Ended).await?;
    let killed = ProgramState::Signaled { signal: Signal::SIGKILL };
    ensure_eq!(status.program, killed, "the producer's program");
    Ok(())
}

async fn a_terminated_producer_unmounts_and_exits(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    stage.start_one(&early()).await?;
    let producer = stage.serve().await?;
    stage.inject(&*producer, Fault::Terminate).await?;
    let wanted = [(Actor::Node, Class::Absent), (of("early"), Class::Absent)];
    stage.expect(&wanted, 1, "after SIGTERM").await?;
    let status = stage.until(&*producer, Until::Ended).await?;
    ensure_eq!(status.program, ProgramState::Exited { code: 0 }, "the producer's program");
    Ok(())
}

async fn a_stopped_producer_hangs_and_nobody_waits_longer(lab: &Lab) -> Checked {
    /// However many hang: one deadline for the first, one for the others, and as much again.
    const DEADLINES: u32 = 4;
    let probe_deadline = Duration::from_millis(300);
    let others: Vec<WorkloadSpec> =
        (0..6).map(|number| early().with(|spec| spec.name = format!("c{number}"))).collect();
    let mut plan = lab.plan_of(&others);
    plan.workloads.push(WorkloadSpec::control());
    let stage = Stage::set(lab, plan).await?;
    stage.start(&others).await?;
    stage.start_one(&WorkloadSpec::control()).await?;
    let producer = stage.serve().await?;
    stage.inject(&*producer, Fault::Stop).await?;
    ensure_eq!(producer.status().await?.program, ProgramState::Running, "a stopped program");
    let mut actors = vec![Actor::Node];
    actors.extend(others.iter().map(|spec| of(&spec.name)));
    actors.push(of("control"));
    let probe = Probe { deadline: probe_deadline, ..stage.probe(1) };
    let started = Instant::now();
    let seen = stage.node.observe(&actors, &probe).await?;
    let took = started.elapsed();
    ensure!(
        took < probe_deadline * DEADLINES + Duration::from_secs(2),
        "{} hanging actors took {took:?} with a deadline of {probe_deadline:?}",
        actors.len() - 1
    );
    ensure_eq!(seen.len(), actors.len(), "observations");
    for (observation, actor) in seen.iter().zip(&actors) {
        ensure_eq!(observation.actor, *actor, "the order of the actors");
        let fits = match &observation.outcome {
            Outcome::Hang { after_ms } => *after_ms == 300 && *actor != of("control"),
            Outcome::Absent => *actor == of("control"),
            _ => false,
        };
        ensure!(fits, "after SIGSTOP: {observation}");
        let waited = Duration::from_micros(observation.took_us) >= probe_deadline;
        let waits = stage.node.capabilities().has(Feature::RealKernel) && *actor != of("control");
        ensure!(waited || !waits, "given up after {} µs: {observation}", observation.took_us);
    }
    Ok(())
}

async fn a_fault_on_what_has_ended_is_refused(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan()).await?;
    let producer = stage.serve().await?;
    stage.inject(&*producer, Fault::Kill).await?;
    for fault in [Fault::Kill, Fault::Terminate] {
        let again = producer.inject(&fault).await;
        ensure!(matches!(again, Ok(Err(_))), "{fault} of a producer that is dead: {again:?}");
    }
    producer.stop().await?;
    let again = producer.inject(&Fault::Kill).await;
    ensure!(!matches!(again, Ok(Ok(_))), "a kill of a producer that was stopped: {again:?}");
    Ok(())
}

async fn consumers_can_be_killed_and_terminated(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early(), late()])).await?;
    stage.serve().await?;
    for (spec, fault) in [(early(), Fault::Kill), (late(), Fault::Terminate)] {
        let consumer = stage.start_one(&spec).await?;
        stage.until(&*consumer, Until::SeesGeneration(1)).await?;
        stage.inject(&*consumer, fault.clone()).await?;
        let program = stage.until(&*consumer, Until::Ended).await?.program;
        ensure!(program != ProgramState::None, "after {fault} its program is {program}");
        consumer.restart(&stage.marker(1), RestartScope::Container.into()).await??;
        stage.until(&*consumer, Until::SeesGeneration(1)).await?;
    }
    stage
        .expect(&[(Actor::Node, Class::Ok), (of("late"), Class::Ok)], 1, "after its consumers")
        .await?;
    Ok(())
}

async fn consumers_notice_and_go_on_running(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early(), late()])).await?;
    let mut consumers = stage.start(&[early()]).await?;
    let producer = stage.serve().await?;
    consumers.extend(stage.start(&[late()]).await?);
    for consumer in &consumers {
        stage.until(&**consumer, Until::SeesGeneration(1)).await?;
    }
    let before = stage.node.now_us();
    stage.inject(&*producer, Fault::Kill).await?;
    for consumer in &consumers {
        let status = stage.until(&**consumer, Until::SeesBreakage).await?;
        let name = &consumer.spec().name;
        ensure_eq!(status.program, ProgramState::Running, "the program of {name}");
        let Some(seen) = status.seen else {
            return Err(Failure::new(format_args!("{name} noticed and saw nothing")));
        };
        // An access that is on its way when the connection ends gets the other errno.
        let class = seen.outcome.class();
        let ended = [Errno::ENOTCONN, Errno::ECONNABORTED].map(Class::Errno);
        ensure!(ended.contains(&class), "{name} noticed {class}");
        ensure!(seen.at_us >= before, "{name} noticed it before it happened");
    }
    Ok(())
}

/// The runtime looks at a volume's source before it binds it.
async fn a_dead_source_keeps_new_consumers_out(lab: &Lab) -> Checked {
    let mode = Propagation::HostToContainer;
    let at = consumer("at-mountpoint", StartOrder::AfterMount, mode, Volume::Mountpoint);
    let stage = Stage::set(lab, lab.plan_of(&[at.clone(), late()])).await?;
    let producer = stage.serve().await?;
    stage.inject(&*producer, Fault::Kill).await?;
    let mut started = stage.node.start(&[at, late()], &stage.marker(1)).await?;
    let results = (started.pop(), started.pop());
    let (Some(Ok(_)), Some(Err(refusal))) = results else {
        return Err(Failure::new(
            "the consumer of the bridge has to start, the one of the dead mount must not",
        ));
    };
    ensure_eq!(refusal.kind, RefusalKind::DeadSource, "the kind of {refusal}");
    stage.expect(&[(of("late"), DEAD)], 1, "a consumer that starts meanwhile").await?;
    Ok(())
}

async fn a_hung_source_keeps_new_consumers_out(lab: &Lab) -> Checked {
    let mode = Propagation::HostToContainer;
    let at = consumer("at-mountpoint", StartOrder::AfterMount, mode, Volume::Mountpoint);
    let mut plan = lab.plan_of(&[at.clone(), WorkloadSpec::control()]);
    plan.deadlines.probe_ms = 300;
    let stage = Stage::set(lab, plan).await?;
    let producer = stage.serve().await?;
    stage.inject(&*producer, Fault::Stop).await?;
    let specs = [at, WorkloadSpec::control()];
    let started = stage.node.start(&specs, &stage.marker(1)).await?;
    let refused: Vec<Option<RefusalKind>> =
        started.iter().map(|result| result.as_ref().err().map(|refusal| refusal.kind)).collect();
    ensure_eq!(refused, [Some(RefusalKind::Hangs), None], "what the runtime says of each");
    Ok(())
}

async fn held_descriptors_stay_with_the_old_mount(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    let consumer = stage.start_one(&early()).await?;
    let producer = stage.serve().await?;
    stage.until(&*consumer, Until::SeesGeneration(1)).await?;
    stage.inject(&*producer, Fault::Kill).await?;
    stage.until(&*consumer, Until::SeesBreakage).await?;
    stage.serve_again(&*producer, 2).await?;
    let status = stage.until(&*consumer, Until::SeesGeneration(2)).await?;
    // ENOTCONN, or ECONNABORTED for a descriptor that was being opened when the daemon died.
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Errno { .. });
    let held = status.held;
    ensure!(held.as_ref().is_some_and(failed), "the descriptor of before gives {held:?}");
    let actor = Actor::HeldDescriptor { name: "early".into() };
    let mut reports = stage.node.take_reports();
    reports.retain(|report| report.actor == actor);
    ensure!(reports.iter().any(|report| failed(&report.outcome)), "its reports: {reports:?}");
    Ok(())
}
