//! Looks: from which actor, as which user, at what, when.

use propagation_core::ErrorKind;
use propagation_core::marker::Marker;
use propagation_core::node::mount_table;
use propagation_core::node::{Probe, Target};
use propagation_core::observation::{Actor, MountView, Via};
use propagation_core::plan::{OTHER_UID, Propagation, StartOrder, Volume, WorkloadSpec};

use super::{consumer, early, late};
use crate::case::cases;
use crate::failure::{Checked, Failure, ensure, ensure_eq};
use crate::lab::{Lab, Stage, of};
use propagation_core::Class;
use propagation_core::Errno;

cases! {
    observations_keep_the_order_of_actors_and_users needs OTHER_UIDS,
    an_actor_may_be_asked_twice,
    nobody_asked_is_nothing_seen,
    unknown_actors_are_errors,
    the_nonce_decides,
    the_plain_file_shows_where_the_bridge_is,
    times_lie_within_the_run,
    a_view_is_what_the_mount_table_says,
    users_are_let_in_or_kept_out needs OTHER_UIDS,
}

async fn observations_keep_the_order_of_actors_and_users(lab: &Lab) -> Checked {
    let others = [early(), WorkloadSpec::control(), late()];
    let stage = Stage::set(lab, lab.plan_of(&others)).await?;
    stage.start(&others[..2]).await?;
    stage.serve().await?;
    stage.start_one(&late()).await?;
    let actors = [of("late"), Actor::Node, of("control"), of("early")];
    let uids = vec![OTHER_UID, 0];
    let probe = Probe { uids: uids.clone(), step: "in-order".into(), ..stage.probe(1) };
    let seen = stage.node.observe(&actors, &probe).await?;
    let found: Vec<(Actor, u32)> = seen.iter().map(|o| (o.actor.clone(), o.uid)).collect();
    let wanted: Vec<(Actor, u32)> =
        actors.iter().flat_map(|actor| uids.iter().map(move |uid| (actor.clone(), *uid))).collect();
    ensure_eq!(found, wanted, "actors and users");
    let classes: Vec<Class> = seen.iter().map(|o| o.outcome.class()).collect();
    let wanted = [
        Class::Ok,
        Class::Ok,
        Class::Ok,
        Class::Ok,
        Class::Absent,
        Class::Absent,
        Class::Ok,
        Class::Ok,
    ];
    ensure_eq!(classes, wanted, "what they saw");
    for observation in &seen {
        ensure_eq!(observation.step, "in-order", "the step of {observation}");
        ensure_eq!(observation.via, Via::Probe, "the way of {observation}");
    }
    Ok(())
}

async fn an_actor_may_be_asked_twice(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    stage.start_one(&early()).await?;
    stage.serve().await?;
    let wanted = [(of("early"), Class::Ok), (Actor::Node, Class::Ok), (of("early"), Class::Ok)];
    let seen = stage.expect(&wanted, 1, "asked in one call").await?;
    let actors: Vec<Actor> = seen.into_iter().map(|o| o.actor).collect();
    ensure_eq!(actors, [of("early"), Actor::Node, of("early")], "the actors");
    Ok(())
}

async fn nobody_asked_is_nothing_seen(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan()).await?;
    stage.serve().await?;
    let none = stage.node.observe(&[], &stage.probe(1)).await?;
    ensure_eq!(none.len(), 0, "observations of no actor");
    let probe = Probe { uids: Vec::new(), ..stage.probe(1) };
    let none = stage.node.observe(&[Actor::Node], &probe).await?;
    ensure_eq!(none.len(), 0, "observations as no user");
    Ok(())
}

async fn unknown_actors_are_errors(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    stage.start_one(&early()).await?;
    stage.serve().await?;
    let replica = Actor::Workload { name: "early".into(), replica: 7 };
    for unknown in [of("nobody"), replica] {
        for actors in [vec![unknown.clone()], vec![Actor::Node, unknown.clone()]] {
            let Err(error) = stage.node.observe(&actors, &stage.probe(1)).await else {
                return Err(Failure::new(format_args!("somebody looked from {unknown}")));
            };
            ensure_eq!(error.kind(), ErrorKind::InvalidInput, "the error for {unknown}");
        }
        let Err(error) = mount_table(&*stage.node, &unknown).await else {
            return Err(Failure::new(format_args!("{unknown} has a mount table")));
        };
        ensure_eq!(error.kind(), ErrorKind::InvalidInput, "the error for its mount table");
    }
    Ok(())
}

async fn the_nonce_decides(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    stage.start_one(&early()).await?;
    stage.serve().await?;
    let actors = [Actor::Node, of("early")];
    let other = Marker { nonce: "of-somebody-else".into(), ..stage.marker(1) };
    for (expect, class) in [
        (stage.marker(1), Class::Ok),
        (other, Class::WrongContent),
        (stage.marker(2), Class::WrongContent),
    ] {
        let wanted = format!("generation {} with nonce {:?}", expect.generation, expect.nonce);
        let probe = Probe { expect: vec![expect], ..stage.probe(1) };
        for observation in stage.node.observe(&actors, &probe).await? {
            let found = observation.outcome.class();
            ensure!(found == class, "{wanted} is expected: {observation}");
            ensure_eq!(observation.generation, Some(1), "the generation that was read");
        }
    }
    Ok(())
}

async fn the_plain_file_shows_where_the_bridge_is(lab: &Lab) -> Checked {
    let others = [
        early(),
        WorkloadSpec::control(),
        consumer("above", StartOrder::BeforeMount, Propagation::HostToContainer, Volume::Ancestor),
    ];
    let stage = Stage::set(lab, lab.plan_of(&others)).await?;
    stage.start(&others).await?;
    stage.serve().await?;
    let actors = [Actor::Node, of("producer"), of("early"), of("control"), of("above")];
    let probe = Probe { target: Target::Bridge, ..stage.probe(1) };
    for observation in stage.node.observe(&actors, &probe).await? {
        let ok = observation.outcome.is_ok() && observation.generation == Some(1);
        ensure!(ok, "the producer's plain file is in the bridge: {observation}");
        let fuse = observation.mount.is_some_and(|mount| mount.fs_type.starts_with("fuse"));
        ensure!(!fuse, "{} sees a FUSE mount at the bridge itself", observation.actor);
    }
    Ok(())
}

async fn times_lie_within_the_run(lab: &Lab) -> Checked {
    let stage = Stage::set(lab, lab.plan_of(&[early()])).await?;
    let consumer = stage.start_one(&early()).await?;
    let producer = stage.serve().await?;
    let status =
        stage.until(&*consumer, propagation_core::workload::Until::SeesGeneration(1)).await?;
    let mut last = 0;
    let reported = [producer.status().await?.mounted_at_us, status.seen.map(|seen| seen.at_us)];
    for at_us in reported.into_iter().flatten() {
        ensure!(at_us <= stage.node.now_us(), "a report of {at_us} µs is from the future");
    }
    for _ in 0..3 {
        let before = stage.node.now_us();
        let seen = stage.look(&[Actor::Node, of("early")], 1).await?;
        let after = stage.node.now_us();
        for observation in seen {
            let (at, took) = (observation.at_us, observation.took_us);
            ensure!(
                before <= at && at <= after,
                "{} looked at {at} µs, and was asked from {before} to {after} µs",
                observation.actor
            );
            ensure!(took <= after - before, "a look of {took} µs in {} µs", after - before);
            ensure!(last <= at, "a look at {at} µs after one at {last} µs");
        }
        last = after;
    }
    Ok(())
}

async fn a_view_is_what_the_mount_table_says(lab: &Lab) -> Checked {
    let at_mountpoint = consumer(
        "at-mountpoint",
        StartOrder::AfterMount,
        Propagation::HostToContainer,
        Volume::Mountpoint,
    );
    let others = [early(), at_mountpoint, WorkloadSpec::control()];
    let stage = Stage::set(lab, lab.plan_of(&others)).await?;
    stage.start(&[early(), WorkloadSpec::control()]).await?;
    stage.serve().await?;
    stage.start_one(&others[1]).await?;
    let host = stage.plan.bridge.fuse_path();
    let places = [
        (Actor::Node, host.as_str(), true),
        (of("early"), "/mnt/dfs", true),
        (of("at-mountpoint"), "/mnt/dfs", true),
        (of("control"), "/mnt/dfs", false),
    ];
    for (actor, path, fuse) in places {
        let observation = stage.look_from(&actor, 1).await?;
        let (_, mount) = stage.fuse_mount(&actor, path).await?;
        ensure_eq!(mount.is_some(), fuse, "a mount of {actor} at {path}");
        ensure_eq!(observation.mount, mount.as_ref().map(MountView::from), "the view of {actor}");
    }
    Ok(())
}

async fn users_are_let_in_or_kept_out(lab: &Lab) -> Checked {
    for (allow_other, class) in [(true, Class::Ok), (false, Class::Errno(Errno::EACCES))] {
        let mut plan = lab.plan_of(&[early()]);
        plan.fuse.allow_other = allow_other;
        let stage = Stage::set(lab, plan).await?;
        stage.start_one(&early()).await?;
        stage.serve().await?;
        let probe = Probe { uids: vec![0, OTHER_UID], ..stage.probe(1) };
        let seen = stage.node.observe(&[Actor::Node, of("early")], &probe).await?;
        ensure_eq!(seen.len(), 4, "observations of two actors as two users");
        for observation in seen {
            let wanted = if observation.uid == 0 { Class::Ok } else { class };
            let found = observation.outcome.class();
            ensure!(found == wanted, "allow_other is {allow_other}: {observation}");
        }
    }
    Ok(())
}
