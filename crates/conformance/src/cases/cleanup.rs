//! Ends: stopping, closing, cancelling halfway.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use propagation_core::Feature;
use propagation_core::facts::PathState;
use propagation_core::journal::HostChange;
use propagation_core::mountinfo::MountPath;
use propagation_core::node::Probe;
use propagation_core::node::mount_table;
use propagation_core::observation::Actor;
use propagation_core::plan::{Fault, Plan, WorkloadSpec};
use propagation_core::program::ProgramState;
use propagation_core::workload::Until;
use propagation_core::{ErrorKind, Node, Run, RunId, Workload};

use super::{early, late};
use crate::case::cases;
use crate::failure::{Checked, Failure, ensure, ensure_eq};
use crate::lab::DEAD;
use crate::lab::{Lab, Stage, of};
use propagation_core::Class;

cases! {
    stopping_twice_is_stopping_once,
    stopping_a_hung_producer_frees_its_readers needs STOP_FAULT,
    closing_twice_is_closing_once,
    closing_ends_every_workload,
    closing_ends_a_wait,
    dropped_futures_leave_the_node_usable,
    a_large_call_dropped_leaves_the_node_usable,
    a_look_dropped_while_it_hangs_leaves_the_node_usable needs STOP_FAULT,
    a_dropped_opening_leaves_nothing,
    everything_undone_leaves_the_host_as_it_was,
    a_kept_node_stays_and_says_how_to_remove_it needs REMOVER,
}

fn ended(program: &ProgramState) -> bool {
    !matches!(program, ProgramState::Running)
}

async fn stopping_twice_is_stopping_once(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    let consumer = stage.start_one(&early()).await?;
    let producer = stage.serve().await?;
    stage.until(&*consumer, Until::SeesGeneration(1)).await?;
    for workload in [&consumer, &producer] {
        let name = &workload.spec().name;
        workload.stop().await?;
        workload.stop().await?;
        let program = workload.wait(Until::Ended, lab.soon).await?.program;
        ensure!(ended(&program), "{name} was stopped and is {program}");
        let Err(error) = stage.node.observe(&[of(name)], &stage.probe(1)).await else {
            return Err(Failure::new(format_args!("somebody looked from {name}, stopped")));
        };
        ensure_eq!(error.kind(), ErrorKind::InvalidInput, "the error for {name}, stopped");
    }
    stage.expect(&[(Actor::Node, DEAD)], 1, "the mount that was sent to the host").await?;
    ensure!(!consumer.log().await?.is_empty(), "the log went with the workload");
    Ok(())
}

async fn stopping_a_hung_producer_frees_its_readers(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    let consumer = stage.start_one(&early()).await?;
    let producer = stage.serve().await?;
    stage.until(&*consumer, Until::SeesGeneration(1)).await?;
    stage.inject(&*producer, Fault::Stop).await?;
    let probe = Probe { deadline: Duration::from_millis(200), ..stage.probe(1) };
    let seen = stage.node.observe(&[of("early")], &probe).await?;
    let hangs = seen.iter().all(|observation| observation.outcome.class() == Class::Hang);
    ensure!(hangs && !seen.is_empty(), "while the daemon is stopped: {seen:?}");
    producer.stop().await?;
    stage.expect(&[(of("early"), DEAD)], 1, "once the daemon is gone").await?;
    consumer.stop().await?;
    Ok(())
}

async fn closing_twice_is_closing_once(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    stage.start_one(&early()).await?;
    stage.serve().await?;
    let first = stage.node.close().await;
    ensure!(first.could_not.is_empty(), "the first close left something: {first:?}");
    ensure!(!first.undone.is_empty(), "the first close does not say what it undid");
    ensure!(first.kept.is_empty(), "the first close kept something: {first:?}");
    let second = stage.node.close().await;
    ensure!(second.could_not.is_empty(), "the second close complains: {second:?}");
    Ok(())
}

async fn closing_ends_every_workload(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    let consumer = stage.start_one(&early()).await?;
    let producer = stage.serve().await?;
    stage.until(&*consumer, Until::SeesGeneration(1)).await?;
    stage.node.close().await;
    let seen = stage.node.observe(&[of("early")], &stage.probe(1)).await;
    ensure!(seen.is_err(), "somebody looked on a node that is closed: {seen:?}");
    for workload in [&consumer, &producer] {
        let name = &workload.spec().name;
        match workload.status().await {
            Err(_) => {}
            Ok(status) => {
                let program = status.program;
                ensure!(ended(&program), "the node is closed, and {name} is {program}");
            }
        }
        workload.stop().await?;
    }
    Ok(())
}

async fn closing_ends_a_wait(lab: &Lab) -> Checked {
    const NEVER: u64 = 99;
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    let consumer = stage.start_one(&early()).await?;
    let started = Instant::now();
    let (waited, _) =
        tokio::join!(consumer.wait(Until::SeesGeneration(NEVER), lab.soon), stage.node.close());
    ensure!(started.elapsed() < lab.soon, "the wait outlived the node");
    match waited {
        Ok(status) => {
            ensure!(ended(&status.program), "the wait ended with a program that runs");
        }
        Err(error) => {
            ensure_eq!(error.kind(), ErrorKind::Disconnected, "the error of the wait");
        }
    }
    Ok(())
}

/// Polls a future once and drops it.
async fn give_up<T>(future: impl Future<Output = T>) {
    tokio::select! {
        biased;
        _ = future => {}
        () = std::future::ready(()) => {}
    }
}

async fn dropped_futures_leave_the_node_usable(lab: &Lab) -> Checked {
    let others = [early(), late()];
    let stage = Stage::set(lab, lab.plan_of(&others)).await?;
    let node = &stage.node;
    let consumer = stage.start_one(&early()).await?;
    let producer = stage.serve().await?;
    let directory =
        HostChange::MakeDirectory { path: format!("{}/beside", stage.plan.bridge.path), owner: 0 };
    let dropped = late().with(|spec| spec.name = "dropped".into());
    give_up(node.facts()).await;
    give_up(node.apply(&directory)).await;
    give_up(node.undo(&directory)).await;
    give_up(node.observe(&[Actor::Node, of("early")], &stage.probe(1))).await;
    give_up(mount_table(&**node, &of("early"))).await;
    give_up(node.start(std::slice::from_ref(&dropped), &stage.marker(1))).await;
    give_up(consumer.status()).await;
    give_up(consumer.log()).await;
    give_up(consumer.wait(Until::Ended, lab.soon)).await;
    node.undo(&directory).await?;
    node.facts().await?;
    stage.start_one(&late()).await?;
    let wanted = [(Actor::Node, Class::Ok), (of("early"), Class::Ok), (of("late"), Class::Ok)];
    stage.expect(&wanted, 1, "after nine dropped futures").await?;
    give_up(producer.inject(&Fault::Kill)).await;
    give_up(producer.stop()).await;
    producer.stop().await?;
    stage.expect(&[(of("early"), DEAD)], 1, "after a dropped stop").await?;
    stage.serve_again(&*producer, 2).await?;
    stage.expect(&[(of("late"), Class::Ok)], 2, "after a restart").await?;
    Ok(())
}

/// A call that no buffer takes whole is dropped while it is on its way.
async fn a_large_call_dropped_leaves_the_node_usable(lab: &Lab) -> Checked {
    const ACTORS: usize = 20_000;
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    stage.start_one(&early()).await?;
    stage.serve().await?;
    let actors = vec![of("early"); ACTORS];
    give_up(stage.node.observe(&actors, &stage.probe(1))).await;
    stage.node.facts().await?;
    stage
        .expect(&[(Actor::Node, Class::Ok), (of("early"), Class::Ok)], 1, "after a dropped call")
        .await?;
    Ok(())
}

async fn a_look_dropped_while_it_hangs_leaves_the_node_usable(lab: &Lab) -> Checked {
    let others = [early(), WorkloadSpec::control()];
    let stage = Stage::set(lab, lab.plan_of(&others)).await?;
    stage.start(&others).await?;
    let producer = stage.serve().await?;
    stage.inject(&*producer, Fault::Stop).await?;
    let (actors, probe) = ([Actor::Node, of("early")], stage.probe(1));
    let look = stage.node.observe(&actors, &probe);
    // Whether it hangs on or has its answer at once is the backend's: it is dropped either way.
    let _ = tokio::time::timeout(Duration::from_millis(50), look).await;
    stage.expect(&[(of("control"), Class::Absent)], 1, "while another look hangs").await?;
    producer.stop().await?;
    stage.expect(&[(of("early"), DEAD)], 1, "once the daemon is gone").await?;
    Ok(())
}

async fn a_dropped_opening_leaves_nothing(lab: &Lab) -> Checked {
    let run = Run::new(RunId::generate()?);
    let plan = lab.plan();
    give_up(lab.backend.open(&plan, &run)).await;
    lab.note(run.id);
    // The same machine carries another node at once.
    lab.try_open(&plan).await?.facts().await?;
    Ok(())
}

async fn everything_undone_leaves_the_host_as_it_was(lab: &Lab) -> Checked {
    let plan = lab.plan_of(&[early(), WorkloadSpec::control()]);
    let node = lab.try_open(&plan).await?;
    let (facts, table) = (node.facts().await?, mount_table(&*node, &Actor::Node).await?);
    let stage = Stage::on(lab, Arc::clone(&node), plan).await?;
    let mut workloads = stage.start(&[early(), WorkloadSpec::control()]).await?;
    workloads.insert(0, stage.serve().await?);
    stage.inject(&*workloads[0], Fault::Terminate).await?;
    stop_all(&workloads).await?;
    for change in stage.directories().iter().rev() {
        node.undo(change).await?;
    }
    ensure_eq!(node.facts().await?.bridge, PathState::Missing, "the bridge");
    ensure_eq!(node.facts().await?, facts, "the facts");
    let after = mount_table(&*node, &Actor::Node).await?;
    if node.capabilities().has(Feature::ShapedNode) {
        ensure_eq!(after, table, "the mount table of a node that is the run's own");
    }
    // On any other the mounts of others come and go meanwhile.
    let bridge = MountPath::from(stage.plan.bridge.path.as_str());
    let left = after.iter().filter(|mount| mount.mount_point.starts_with(&bridge));
    let left: Vec<_> = left.collect();
    ensure!(left.is_empty(), "mounts at the bridge: {left:?}");
    Ok(())
}

async fn stop_all(workloads: &[Arc<dyn Workload>]) -> Checked {
    for workload in workloads {
        workload.stop().await?;
    }
    Ok(())
}

async fn a_kept_node_stays_and_says_how_to_remove_it(lab: &Lab) -> Checked {
    let Some(remover) = &lab.remover else {
        return Err(Failure::new("a case that needs a remover was started without"));
    };
    let plan = lab.plan_of(&[early()]);
    let (node, run) = lab.open_kept(&plan).await?;
    let checked = kept(lab, node, plan).await;
    remover(run).await.map_err(Failure::new)?;
    checked
}

async fn kept(lab: &Lab, node: Arc<dyn Node>, plan: Plan) -> Checked {
    let stage = Stage::on(lab, node, plan).await?;
    stage.start_one(&early()).await?;
    stage.serve().await?;
    let cleanup = stage.node.close().await;
    ensure!(!cleanup.kept.is_empty(), "it does not say what it kept: {cleanup:?}");
    ensure!(cleanup.could_not.is_empty(), "closing complains: {cleanup:?}");
    stage
        .expect(&[(Actor::Node, Class::Ok), (of("early"), Class::Ok)], 1, "on a node that is kept")
        .await?;
    Ok(())
}
