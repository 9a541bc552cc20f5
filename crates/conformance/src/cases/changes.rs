//! Changes to the host: made once, taken back exactly.

use propagation_core::facts::PathState;
use propagation_core::journal::HostChange;
use propagation_core::node::mount_table;
use propagation_core::node::{Probe, Target};
use propagation_core::observation::Actor;
use propagation_core::plan::{BridgeState, Fault, NodeSpec};

use super::early;
use crate::case::cases;
use crate::failure::{Checked, Failure, ensure, ensure_eq};
use crate::lab::{Lab, Stage};
use propagation_core::Class;

cases! {
    a_change_is_made_once,
    a_change_is_taken_back_once,
    lines_are_added_and_taken_out_exactly,
    what_was_there_before_stays needs SHAPED_NODE,
    a_directory_in_use_is_not_removed,
    dead_mounts_of_the_run_go_with_their_directory,
}

async fn a_change_is_made_once(lab: &Lab) -> Checked {
    let plan = lab.plan();
    let node = lab.try_open(&plan).await?;
    let change = HostChange::MakeDirectory { path: plan.bridge.path.clone(), owner: 0 };
    ensure_eq!(node.apply(&change).await?, true, "the first time, made now");
    ensure_eq!(node.facts().await?.bridge, PathState::Directory, "the bridge");
    ensure_eq!(node.apply(&change).await?, false, "the second time, made now");
    node.undo(&change).await?;
    Ok(())
}

async fn a_change_is_taken_back_once(lab: &Lab) -> Checked {
    let plan = lab.plan();
    let node = lab.try_open(&plan).await?;
    let change = HostChange::MakeDirectory { path: plan.bridge.path.clone(), owner: 0 };
    node.undo(&change).await?;
    for _ in 0..2 {
        node.apply(&change).await?;
        node.undo(&change).await?;
        node.undo(&change).await?;
        ensure_eq!(node.facts().await?.bridge, PathState::Missing, "the bridge, taken back");
    }
    Ok(())
}

async fn lines_are_added_and_taken_out_exactly(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan()).await?;
    let node = &stage.node;
    let path = format!("{}/options.conf", stage.plan.bridge.path);
    let line = |line: &str| HostChange::AddLine { path: path.clone(), line: line.into() };
    let (one, two) = (line("one"), line("two"));
    ensure_eq!(node.apply(&one).await?, true, "a line in a file that is not there, made now");
    ensure_eq!(node.apply(&two).await?, true, "another line, made now");
    ensure_eq!(node.apply(&two).await?, false, "the same line, made now");
    node.undo(&two).await?;
    node.undo(&two).await?;
    ensure_eq!(node.apply(&one).await?, false, "the line that was left, made now");
    ensure_eq!(node.apply(&two).await?, true, "the line that was taken out, made now");
    node.undo(&two).await?;
    node.undo(&one).await?;
    // The file was made, so it went with its last line, and the directories are empty again.
    for change in stage.directories().iter().rev() {
        node.undo(change).await?;
    }
    ensure_eq!(node.facts().await?.bridge, PathState::Missing, "the bridge with the file in it");
    Ok(())
}

async fn what_was_there_before_stays(lab: &Lab) -> Checked {
    let spec = NodeSpec {
        bridge: BridgeState::Directory,
        fuse_conf: Some("user_allow_other\n".into()),
        ..NodeSpec::default()
    };
    let plan = lab.plan().with(|plan| plan.node = spec);
    let node = lab.try_open(&plan).await?;
    let directories = [plan.bridge.path.clone(), plan.bridge.fuse_path()]
        .map(|path| HostChange::MakeDirectory { path, owner: 0 });
    let line =
        HostChange::AddLine { path: "/etc/fuse.conf".into(), line: "user_allow_other".into() };
    for change in directories.iter().chain([&line]) {
        ensure_eq!(node.apply(change).await?, false, "{change}, made now");
    }
    for change in [&line, &directories[1], &directories[0]] {
        node.undo(change).await?;
    }
    ensure_eq!(node.facts().await?.bridge, PathState::Directory, "the bridge of before");
    for change in directories.iter().chain([&line]) {
        ensure_eq!(node.apply(change).await?, false, "{change}, made anew");
    }
    Ok(())
}

async fn a_directory_in_use_is_not_removed(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan()).await?;
    stage.serve().await?;
    for change in stage.directories().iter().rev() {
        let Err(error) = stage.node.undo(change).await else {
            return Err(Failure::new(format_args!("{change}: undone below a producer's mount")));
        };
        ensure!(!error.reason().is_empty(), "an error without a reason: {error:?}");
    }
    stage.expect(&[(Actor::Node, Class::Ok)], 1, "after undoing was refused").await?;
    let probe = Probe { target: Target::Bridge, ..stage.probe(1) };
    for observation in stage.node.observe(&[Actor::Node], &probe).await? {
        ensure!(observation.outcome.is_ok(), "the plain file, after that: {observation}");
    }
    Ok(())
}

async fn dead_mounts_of_the_run_go_with_their_directory(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    let consumer = stage.start_one(&early()).await?;
    let producer = stage.serve().await?;
    stage.inject(&*producer, Fault::Kill).await?;
    producer.stop().await?;
    consumer.stop().await?;
    for change in stage.directories().iter().rev() {
        stage.node.undo(change).await?;
    }
    ensure_eq!(stage.node.facts().await?.bridge, PathState::Missing, "the bridge");
    let table = mount_table(&*stage.node, &Actor::Node).await?;
    let left: Vec<String> = table.fuse_mounts().map(ToString::to_string).collect();
    ensure!(
        !left.iter().any(|line| line.contains(&stage.plan.bridge.path)),
        "dead mounts are left: {left:?}"
    );
    Ok(())
}
