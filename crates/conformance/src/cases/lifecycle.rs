//! The node itself, and starting workloads on it.

use std::sync::Arc;

use propagation_core::ErrorKind;
use propagation_core::facts::PathState;
use propagation_core::mountinfo::MountPropagation;
use propagation_core::node::mount_table;
use propagation_core::observation::Actor;
use propagation_core::plan::{
    BridgeState, Covering, Fault, NodeSpec, Propagation, StartOrder, Volume, WorkloadSpec,
};
use propagation_core::workload::Until;

use super::{consumer, early, late};
use crate::case::cases;
use crate::failure::{Checked, Failure, ensure, ensure_eq};
use crate::lab::{Lab, Stage, of};
use propagation_core::Class;

cases! {
    name_and_capabilities_never_change,
    facts_are_stable_and_reading_them_changes_nothing,
    the_node_is_what_the_plan_says needs SHAPED_NODE,
    every_spec_gets_its_result_in_order,
    one_refusal_keeps_nobody_else_from_starting needs SHAPED_NODE,
    a_name_in_use_is_refused,
    a_name_is_free_again_after_its_end,
    a_workload_need_not_be_in_the_plan,
}

async fn name_and_capabilities_never_change(lab: &Lab) -> Checked {
    let plan = lab.plan();
    let node = lab.try_open(&plan).await?;
    ensure!(!lab.backend.name().is_empty(), "the backend has no name");
    ensure!(!node.name().is_empty(), "the node has no name");
    let (name, capabilities) = (node.name().to_owned(), node.capabilities());
    let stage = Stage::on(lab, Arc::clone(&node), plan).await?;
    stage.serve().await?;
    node.facts().await?;
    ensure_eq!(node.capabilities(), capabilities, "capabilities, with a producer running");
    ensure_eq!(node.name(), name, "the name, with a producer running");
    node.close().await;
    ensure_eq!(node.capabilities(), capabilities, "capabilities, after the close");
    Ok(())
}

async fn facts_are_stable_and_reading_them_changes_nothing(lab: &Lab) -> Checked {
    let node = lab.try_open(&lab.plan()).await?;
    let before = mount_table(&*node, &Actor::Node).await?;
    let first = node.facts().await?;
    let second = node.facts().await?;
    ensure_eq!(second, first, "the facts, read twice");
    ensure_eq!(first.bridge, PathState::Missing, "the bridge before anything has made it");
    let after = mount_table(&*node, &Actor::Node).await?;
    ensure_eq!(after, before, "the mount table after reading facts");
    Ok(())
}

async fn the_node_is_what_the_plan_says(lab: &Lab) -> Checked {
    let plan = |node: NodeSpec| lab.plan().with(|plan| plan.node = node);
    for (covering, wanted) in [
        (Covering::Shared, MountPropagation::Shared),
        (Covering::Slave, MountPropagation::Slave),
        (Covering::Private, MountPropagation::Private),
    ] {
        let node = lab.try_open(&plan(NodeSpec { covering, ..NodeSpec::default() })).await?;
        let mount = node.facts().await?.covering_mount;
        let found = mount.map(|mount| mount.propagation());
        ensure_eq!(found, Some(wanted), "the covering mount of a node with {covering:?}");
    }
    for bridge in [BridgeState::Directory, BridgeState::File, BridgeState::Symlink] {
        let spec = NodeSpec { bridge: bridge.clone(), ..NodeSpec::default() };
        let node = lab.try_open(&plan(spec)).await?;
        let found = node.facts().await?.bridge;
        let fits = match bridge {
            BridgeState::Directory => found == PathState::Directory,
            _ => matches!(found, PathState::Other { .. }),
        };
        ensure!(fits, "a bridge that is {bridge:?} shows as {found:?}");
    }
    let conf = |text: &str| NodeSpec {
        container_fuse_conf: Some(text.into()),
        without_host_tools: true,
        ..NodeSpec::default()
    };
    for (text, allows) in [("user_allow_other\n", true), ("#user_allow_other\n", false)] {
        let facts = lab.try_open(&plan(conf(text))).await?.facts().await?;
        ensure_eq!(facts.fuse_conf.user_allow_other, allows, "fuse.conf with {text:?}");
        ensure_eq!(facts.fusermount3, None, "fusermount3 of a node without host programs");
    }
    Ok(())
}

async fn every_spec_gets_its_result_in_order(lab: &Lab) -> Checked {
    let specs = [early(), WorkloadSpec::producer(), WorkloadSpec::control(), late()];
    let stage = Stage::set(lab, lab.plan_of(&specs[..1])).await?;
    let started = stage.start(&specs).await?;
    let names: Vec<&str> = started.iter().map(|workload| workload.spec().name.as_str()).collect();
    ensure_eq!(names, ["early", "producer", "control", "late"], "the workloads that started");
    for (workload, spec) in started.iter().zip(&specs) {
        ensure_eq!(workload.spec(), spec, "what {} was started from", spec.name);
    }
    Ok(())
}

async fn one_refusal_keeps_nobody_else_from_starting(lab: &Lab) -> Checked {
    let slave =
        consumer("slave", StartOrder::BeforeMount, Propagation::HostToContainer, Volume::Bridge);
    let specs = [WorkloadSpec::producer(), WorkloadSpec::control(), slave];
    let node = NodeSpec { covering: Covering::Private, ..NodeSpec::default() };
    let stage = Stage::set(lab, lab.plan_of(&specs[1..]).with(|plan| plan.node = node)).await?;
    let started = stage.node.start(&specs, &stage.marker(1)).await?;
    ensure_eq!(started.len(), specs.len(), "results");
    let refusals: Vec<Option<&str>> = started
        .iter()
        .map(|result| result.as_ref().err().map(|refusal| refusal.text.as_str()))
        .collect();
    let [Some(producer), None, Some(slave)] = refusals[..] else {
        return Err(Failure::new(format_args!(
            "below a private mount the runtime refuses all but None: {refusals:?}"
        )));
    };
    let fits = |text: &str, words: &str| text.contains("is mounted on") && text.contains(words);
    ensure!(fits(producer, "but it is not a shared mount"), "the producer's refusal: {producer}");
    ensure!(fits(slave, "not a shared or slave mount"), "the consumer's refusal: {slave}");
    stage.expect(&[(of("control"), Class::Absent)], 1, "the one that was started").await?;
    Ok(())
}

async fn a_name_in_use_is_refused(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early(), late()])).await?;
    stage.start_one(&early()).await?;
    for specs in [vec![late(), early()], vec![late(), late()]] {
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let Err(error) = stage.node.start(&specs, &stage.marker(1)).await else {
            return Err(Failure::new(format_args!("\"early\" runs, and {names:?} were started")));
        };
        ensure_eq!(error.kind(), ErrorKind::InvalidInput, "the error for {names:?}");
    }
    // The call was refused as a whole: nothing of it has started.
    stage.start_one(&late()).await.map(drop)
}

async fn a_name_is_free_again_after_its_end(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    stage.serve().await?;
    let mut before = stage.start_one(&early()).await?;
    for killed in [true, false] {
        if killed {
            stage.inject(&*before, Fault::Kill).await?;
        } else {
            before.stop().await?;
        }
        let again = stage.start_one(&early()).await?;
        stage.until(&*again, Until::SeesGeneration(1)).await?;
        stage.expect(&[(of("early"), Class::Ok)], 1, "another of that name").await?;
        // The handles of the two stand for themselves.
        let old = before.status().await?;
        ensure!(Until::Ended.is_met_by(&old), "the first of that name is {}", old.program);
        before.stop().await?;
        stage.expect(&[(of("early"), Class::Ok)], 1, "after the first was stopped").await?;
        before = again;
    }
    Ok(())
}

async fn a_workload_need_not_be_in_the_plan(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    stage.serve().await?;
    for volume in [Volume::Bridge, Volume::Mountpoint, Volume::Ancestor] {
        let spec =
            consumer("guest", StartOrder::AfterMount, Propagation::HostToContainer, volume.clone());
        let guest = stage.start_one(&spec).await?;
        let when = format!("a workload with volume {volume:?} that is not in the plan");
        stage.expect(&[(of("guest"), Class::Ok)], 1, &when).await?;
        guest.stop().await?;
    }
    Ok(())
}
