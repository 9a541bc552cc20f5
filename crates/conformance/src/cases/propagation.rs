//! The question itself: which workloads does the mount reach?

use propagation_core::mountinfo::MountEntry;
use propagation_core::node::Probe;
use propagation_core::observation::Actor;
use propagation_core::plan::{
    Fault, NodeSpec, OTHER_UID, Propagation, StartOrder, Volume, WorkloadSpec,
};
use propagation_core::workload::Until;

use super::{consumer, early, late};
use crate::case::cases;
use crate::failure::{Checked, Failure, ensure, ensure_eq};
use crate::lab::DEAD;
use crate::lab::{Lab, Stage, of};
use propagation_core::Class;

use Propagation::{Bidirectional, HostToContainer};
use StartOrder::{AfterMount, BeforeMount};

cases! {
    the_mount_reaches_the_node,
    slaves_receive_it_whenever_they_started,
    private_volumes_receive_nothing_later,
    volumes_may_be_at_the_mountpoint_or_above_the_bridge,
    groups_are_those_of_the_modes,
    replicas_are_views_of_their_own needs REPLICAS,
    another_user_mounts_through_fusermount3 needs SHAPED_NODE OTHER_UIDS FUSERMOUNT3,
    after_a_clean_replacement,
    after_a_crash_and_a_replacement,
}

async fn the_mount_reaches_the_node(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan()).await?;
    stage.expect(&[(Actor::Node, Class::Absent)], 1, "before the producer starts").await?;
    stage.serve().await?;
    let seen = stage
        .expect(&[(Actor::Node, Class::Ok), (of("producer"), Class::Ok)], 1, "mounted")
        .await?;
    for observation in seen {
        ensure_eq!(observation.generation, Some(1), "the generation read by {}", observation.actor);
        let fuse = observation.mount.is_some_and(|mount| mount.fs_type.starts_with("fuse"));
        ensure!(fuse, "{} read the marker and not from a FUSE mount", observation.actor);
    }
    Ok(())
}

async fn slaves_receive_it_whenever_they_started(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early(), late()])).await?;
    let before = stage.start_one(&early()).await?;
    stage.expect(&[(of("early"), Class::Absent)], 1, "before the mount").await?;
    stage.serve().await?;
    let after = stage.start_one(&late()).await?;
    stage
        .expect(&[(of("early"), Class::Ok), (of("late"), Class::Ok)], 1, "after the mount")
        .await?;
    for consumer in [before, after] {
        stage.until(&*consumer, Until::SeesGeneration(1)).await?;
    }
    Ok(())
}

async fn private_volumes_receive_nothing_later(lab: &Lab) -> Checked {
    let copied = consumer("copied", AfterMount, Propagation::None, Volume::Bridge);
    let stage = Stage::set(lab, lab.plan_of(&[WorkloadSpec::control(), copied.clone()])).await?;
    stage.start_one(&WorkloadSpec::control()).await?;
    let producer = stage.serve().await?;
    stage.start_one(&copied).await?;
    let wanted = [(of("control"), Class::Absent), (of("copied"), Class::Ok)];
    stage.expect(&wanted, 1, "None: before the mount, and after it").await?;
    stage.serve_again(&*producer, 2).await?;
    let wanted = [(of("control"), Class::Absent), (of("copied"), DEAD), (Actor::Node, Class::Ok)];
    stage.expect(&wanted, 2, "None, after the mount was replaced").await?;
    Ok(())
}

async fn volumes_may_be_at_the_mountpoint_or_above_the_bridge(lab: &Lab) -> Checked {
    let specs = [
        consumer("at-early", BeforeMount, HostToContainer, Volume::Mountpoint),
        consumer("above-early", BeforeMount, HostToContainer, Volume::Ancestor),
        consumer("at-late", AfterMount, HostToContainer, Volume::Mountpoint),
        consumer("above-late", AfterMount, HostToContainer, Volume::Ancestor),
    ];
    let stage = Stage::set(lab, lab.plan_of(&specs)).await?;
    let mut consumers = stage.start(&specs[..2]).await?;
    stage.serve().await?;
    consumers.extend(stage.start(&specs[2..]).await?);
    let wanted: Vec<(Actor, Class)> =
        specs.iter().map(|spec| (of(&spec.name), Class::Ok)).collect();
    stage.expect(&wanted, 1, "whichever directory is the volume").await?;
    for consumer in consumers {
        stage.until(&*consumer, Until::SeesGeneration(1)).await?;
    }
    Ok(())
}

/// By mount tables: a slave's mount has the host's group as its master, a peer's is in it, a
/// private one is in none; all are one superblock.
async fn groups_are_those_of_the_modes(lab: &Lab) -> Checked {
    let specs = [
        early(),
        consumer("both", BeforeMount, Bidirectional, Volume::Bridge),
        late(),
        consumer("at-mountpoint", AfterMount, HostToContainer, Volume::Mountpoint),
        consumer("private", AfterMount, Propagation::None, Volume::Bridge),
    ];
    let stage = Stage::set(lab, lab.plan_of(&specs)).await?;
    stage.start(&specs[..2]).await?;
    stage.serve().await?;
    stage.start(&specs[2..]).await?;
    let host = stage.plan.bridge.fuse_path();
    let (_, Some(host)) = stage.fuse_mount(&Actor::Node, &host).await? else {
        return Err(Failure::new("the node's mount table has no mount at the mountpoint"));
    };
    ensure!(host.is_fuse(), "the node's mount is {}", host.fs_type);
    ensure!(host.shared.is_some(), "the node's mount is not shared: {host}");
    for spec in &specs {
        let name = &spec.name;
        let path = spec.paths(&stage.plan.bridge).fuse;
        let (_, Some(mount)) = stage.fuse_mount(&of(name), &path).await? else {
            return Err(Failure::new(format_args!("{name} has no mount at {path}")));
        };
        let wanted = match spec.propagation {
            Propagation::None => (None, None),
            HostToContainer => (None, host.shared),
            Bidirectional => (host.shared, None),
        };
        ensure_eq!(mount.device, host.device, "the superblock of {name}");
        ensure_eq!((mount.shared, mount.master), wanted, "group and master of {name}: {mount}");
    }
    Ok(())
}

async fn replicas_are_views_of_their_own(lab: &Lab) -> Checked {
    let spec = early().with(|spec| spec.replicas = 3);
    let stage = Stage::set(lab, lab.plan_of(std::slice::from_ref(&spec))).await?;
    stage.start_one(&spec).await?;
    stage.serve().await?;
    let replica = |replica| Actor::Workload { name: "early".into(), replica };
    let wanted = [0, 1, 2].map(|number| (replica(number), Class::Ok));
    stage.expect(&wanted, 1, "three replicas").await?;
    let mut ids: Vec<u64> = Vec::new();
    for (actor, _) in &wanted {
        let (_, mount) = stage.fuse_mount(actor, "/mnt/dfs").await?;
        ids.extend(mount.map(|mount| mount.mount_id));
    }
    let found = ids.len();
    ids.sort_unstable();
    ids.dedup();
    ensure!(found == 3 && ids.len() == 3, "three replicas have the mounts {ids:?}");
    let beyond = stage.node.observe(&[replica(3)], &stage.probe(1)).await;
    ensure!(beyond.is_err(), "a fourth of three replicas saw something");
    Ok(())
}

async fn another_user_mounts_through_fusermount3(lab: &Lab) -> Checked {
    let producer = WorkloadSpec::producer().with(|spec| spec.uid = OTHER_UID);
    for (conf, mounts) in [(Some("user_allow_other\n".to_owned()), true), (None, false)] {
        let node = NodeSpec { container_fuse_conf: conf, ..NodeSpec::default() };
        let plan = lab.plan().with(|plan| {
            plan.node = node;
            plan.workloads = vec![producer.clone()];
        });
        let stage = Stage::set(lab, plan).await?;
        let workload = stage.start_one(&producer).await?;
        let status = workload.wait(Until::Mounted, lab.soon).await?;
        if mounts {
            ensure!(Until::Mounted.is_met_by(&status), "it did not mount: {status:?}");
            let probe = Probe { uids: vec![0, OTHER_UID], ..stage.probe(1) };
            for observation in stage.node.observe(&[Actor::Node], &probe).await? {
                ensure!(observation.outcome.is_ok(), "its mount: {observation}");
            }
        } else {
            let words = status.failure.unwrap_or_default();
            ensure!(words.contains("user_allow_other"), "why it did not mount: {words:?}");
            ensure!(
                Until::Ended.is_met_by(&workload.wait(Until::Ended, lab.soon).await?),
                "it ran on"
            );
            stage.expect(&[(Actor::Node, Class::Absent)], 1, "without a mount").await?;
        }
    }
    Ok(())
}

/// The consumers of the table: by volume, mode and time of their start.
fn of_the_table() -> [WorkloadSpec; 4] {
    [
        consumer("at-early", BeforeMount, HostToContainer, Volume::Mountpoint),
        consumer("at-late", AfterMount, HostToContainer, Volume::Mountpoint),
        consumer("parent", AfterMount, HostToContainer, Volume::Bridge),
        consumer("private", AfterMount, Propagation::None, Volume::Bridge),
    ]
}

async fn after_a_clean_replacement(lab: &Lab) -> Checked {
    replace(lab, Fault::Terminate, [Class::Absent, DEAD, Class::Absent, DEAD]).await
}

async fn after_a_crash_and_a_replacement(lab: &Lab) -> Checked {
    replace(lab, Fault::Kill, [DEAD; 4]).await
}

/// What each has in the gap depends on the fault; what each has afterwards does not.
async fn replace(lab: &Lab, fault: Fault, gap: [Class; 4]) -> Checked {
    const AFTER: [Class; 4] = [Class::Ok, DEAD, Class::Ok, DEAD];
    let specs = of_the_table();
    let stage = Stage::set(lab, lab.plan_of(&specs)).await?;
    stage.start(&specs[..1]).await?;
    let producer = stage.serve().await?;
    stage.start(&specs[1..]).await?;
    let with = |classes: [Class; 4]| -> Vec<(Actor, Class)> {
        specs.iter().map(|spec| of(&spec.name)).zip(classes).collect()
    };
    stage.expect(&with([Class::Ok; 4]), 1, "before the fault").await?;
    stage.inject(&*producer, fault.clone()).await?;
    stage.expect(&with(gap), 1, &format!("in the gap ({fault})")).await?;
    stage.serve_again(&*producer, 2).await?;
    stage.expect(&with(AFTER), 2, "after the replacement").await?;
    // Whoever is stale still holds the old superblock, so the new one has another number.
    let path = stage.plan.bridge.fuse_path();
    let (_, host) = stage.fuse_mount(&Actor::Node, &path).await?;
    let (_, stale) = stage.fuse_mount(&of("at-late"), "/mnt/dfs").await?;
    let device = |mount: &Option<MountEntry>| mount.as_ref().map(|mount| mount.device);
    ensure!(
        device(&host).is_some() && device(&stale).is_some() && device(&host) != device(&stale),
        "the stale mount and the fresh one are {stale:?} and {host:?}"
    );
    Ok(())
}
