//! Layers: mounts on top of mounts, and clean unmounts where a layer was needed.

use std::collections::BTreeSet;

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::{ON_THE_NODE, delete_pod, restart_container};
use super::made_private;
use super::scene::Scene;
use super::text::{SHARED_SUBTREES, line, names, shell, yaml};
use super::volumes::good_volume;
use crate::mountinfo::{MountEntry, MountPath, MountRef, MountTable};
use crate::observation::Actor;
use crate::plan::{Role, Volume, WorkloadSpec};
use crate::report::Deed;

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    causes.extend(lost_master(scene));
    causes.extend(layers(scene));
    causes
}

/// Number of layers at which a stack counts as growing instead of as a single repair on top.
pub(super) const GROWING: usize = 3;

/// Different FUSE filesystems on one mountpoint: dead ones lie under the live one. Taken from the last tables, or
/// from those with the deepest stack where it has been taken off.
fn layers(scene: &Scene<'_>) -> Option<Cause> {
    let captures = &scene.report.captures;
    let last = captures.len().checked_sub(1)?;
    deepest(scene, last).or_else(|| {
        let before = (0..last).filter(|index| most(scene, *index) >= GROWING);
        deepest(scene, before.max_by_key(|index| most(scene, *index))?)
    })
}

/// Number of FUSE mounts stacked at the path of any actor.
fn most(scene: &Scene<'_>, index: usize) -> usize {
    let tables = &scene.report.captures[index].tables;
    let deep = tables.iter().map(|one| {
        let stack = one.table.stack_at(&scene.path_of(&one.actor));
        stack.iter().filter(|mount| mount.is_fuse()).count()
    });
    deep.max().unwrap_or_default()
}

/// The deepest stack of one moment, with all actors that have one.
fn deepest(scene: &Scene<'_>, index: usize) -> Option<Cause> {
    let capture = &scene.report.captures[index];
    let mut worst: Option<(&Actor, Vec<&MountEntry>)> = None;
    let mut actors = Vec::new();
    for one in &capture.tables {
        let mut stack = one.table.stack_at(&scene.path_of(&one.actor));
        stack.retain(|mount| mount.is_fuse());
        // A volume that lies in the mount of another volume is bound there; that bind is no layer.
        if lies_in_another(scene, &one.actor, capture.table(&Actor::Node)) {
            continue;
        }
        let mut devices: Vec<_> = stack.iter().map(|mount| mount.device).collect();
        devices.sort_unstable();
        devices.dedup();
        // Where the topmost of a few is the dead one, layers are not what is wrong.
        let top_is_dead =
            stack.last().is_some_and(|top| scene.seen_dead(top.device, capture.at_us).is_some());
        // Nor where what the node has on top lies under another that is dead: that hides it.
        let on_node = capture.table(&Actor::Node).and_then(|table| table.at(&scene.fuse_path));
        let hides = top_is_dead
            && one.actor != Actor::Node
            && on_node.is_some_and(|mount| {
                let is_it = |one: &&MountEntry| one.device == mount.device;
                stack.iter().any(is_it) && !stack.last().is_some_and(is_it)
            });
        if devices.len() < 2 || hides || top_is_dead && stack.len() < GROWING {
            continue;
        }
        actors.push(one.actor.clone());
        if worst.as_ref().is_none_or(|(_, known)| known.len() < stack.len()) {
            worst = Some((&one.actor, stack));
        }
    }
    let (actor, stack) = worst?;
    let path = shell(&scene.path_of(actor).to_string_lossy());
    let deep = stack.len();
    let since = scene.report.captures.iter().find(|capture| {
        let Some(table) = capture.table(actor) else { return false };
        let there = table.stack_at(&scene.path_of(actor));
        there.iter().filter(|mount| mount.is_fuse()).count() > 1
    });
    let gone = scene.report.captures[index..].iter().find(|capture| {
        let Some(table) = capture.table(actor) else { return false };
        let there = table.stack_at(&scene.path_of(actor));
        there.iter().filter(|mount| mount.is_fuse()).count() < 2
    });
    if let Some(cause) = several_producers(scene, actor, &stack, capture.at_us) {
        return Some(cause);
    }
    Some(Cause {
        id: CauseId::StackedLayers,
        from_step: since.map(|capture| capture.step.clone()),
        until_step: gone.map(|capture| capture.step.clone()),
        title: format!(
            "{deep} FUSE mounts lie on each other at the mountpoint of {actor}: one is added at \
             every recovery, and only the topmost can be used"
        ),
        confidence: Confidence::Likely,
        actors,
        mounts: stack.iter().map(|m| MountRef::new(actor.to_string(), m.mount_id)).collect(),
        evidence: stack.iter().map(|mount| line(actor, mount)).collect(),
        fix: Fix::command(
            "take the dead layers off before each new mount, unless consumers are bound to the \
             mountpoint itself: these receive only what is mounted on top",
            unstack(scene, actor),
        ),
        verify: format!("grep -cF {path} /proc/self/mountinfo   # 1"),
        source: "mount(2); https://github.com/fluid-cloudnative/fluid/issues/5416".into(),
    })
}

/// Where what an actor sees at its own path lies on the node.
fn place_of(scene: &Scene<'_>, actor: &Actor) -> MountPath {
    let spec = match actor {
        Actor::Workload { name, .. } => scene.spec(name),
        _ => None,
    };
    match spec {
        Some(spec) if spec.role == Role::Producer => scene.on_node(spec),
        Some(spec) if matches!(spec.volume, Volume::Path(_)) => {
            MountPath::from(scene.paths(spec).source.as_str())
        }
        _ => scene.fuse_path.clone(),
    }
}

/// Whether the node has a single FUSE mount where an actor's volume is a path inside another.
fn lies_in_another(scene: &Scene<'_>, actor: &Actor, node: Option<&MountTable>) -> bool {
    let at = place_of(scene, actor);
    let is_below = at != scene.fuse_path && at.starts_with(&scene.fuse_path);
    let layers =
        node.map_or(0, |table| table.stack_at(&at).iter().filter(|mount| mount.is_fuse()).count());
    is_below && layers < 2
}

/// Takes all layers off, also the one that serves, and makes the pod of the last producer anew.
fn unstack(scene: &Scene<'_>, actor: &Actor) -> String {
    let place = place_of(scene, actor);
    let (at, path) =
        (shell(&format!(" {} ", place.to_string_lossy())), shell(&place.to_string_lossy()));
    let unmount = format!(
        "while grep -qF {at} /proc/self/mountinfo; do umount --lazy {path}; done{ON_THE_NODE}"
    );
    let device = scene.last_table(actor).and_then(|(_, table)| table.at(&scene.path_of(actor)));
    match scene.producer_of(device.map(|mount| mount.device), u64::MAX).filter(|spec| !spec.host) {
        // A bind elsewhere is made again from the mount that lives.
        _ if is_bound_elsewhere(scene, actor) => {
            let fuse = shell(&scene.fuse_path.to_string_lossy());
            let who = actor.to_string();
            format!(
                "{unmount}\nmount --bind {fuse} {path}{ON_THE_NODE}\n{}",
                restart_container(&who)
            )
        }
        Some(spec) => format!("{unmount}\n{}", delete_pod(&spec.name)),
        None => unmount,
    }
}

/// Whether a consumer's volume is a path at which nobody mounts, so that what lies there are binds of the mount.
fn is_bound_elsewhere(scene: &Scene<'_>, actor: &Actor) -> bool {
    let at = place_of(scene, actor);
    let mounts = |spec: &WorkloadSpec| scene.on_node(spec) == at;
    scene.role_of(actor) == Some(Role::Consumer)
        && at != scene.fuse_path
        && !scene.report.plan.with_role(Role::Producer).any(mounts)
}

/// Several producers that mount on one path: what lies below is alive, and hidden.
fn several_producers(
    scene: &Scene<'_>,
    actor: &Actor,
    stack: &[&MountEntry],
    at_us: u64,
) -> Option<Cause> {
    let has_run =
        |spec: &&WorkloadSpec| scene.last_table(&Actor::workload(spec.name.clone())).is_some();
    let producers: Vec<&str> = scene
        .report
        .plan
        .with_role(Role::Producer)
        .filter(|spec| scene.on_node(spec) == place_of(scene, actor) && has_run(spec))
        .map(|spec| spec.name.as_str())
        .collect();
    let (top, below) = stack.split_last()?;
    let is_dead = |mount: &&MountEntry| scene.seen_dead(mount.device, at_us).is_some();
    if producers.len() < 2 || stack.iter().any(is_dead) {
        return None;
    }
    Some(Cause {
        id: CauseId::MountsOfSeveralProducers,
        from_step: None,
        until_step: None,
        title: format!(
            "several producers ({}) mount on one path: for {actor} the mount of device {} hides {} \
             below it",
            names(producers.iter().copied()),
            top.device,
            if below.len() == 1 { "another".into() } else { format!("{} others", below.len()) }
        ),
        confidence: Confidence::Likely,
        actors: vec![actor.clone()],
        mounts: stack.iter().map(|m| MountRef::new(actor.to_string(), m.mount_id)).collect(),
        evidence: stack.iter().map(|mount| line(actor, mount)).collect(),
        fix: own_mountpoint(scene, producers.last().copied().unwrap_or("the last")),
        verify: format!(
            "grep -cF {} /proc/self/mountinfo   # 1",
            shell(&scene.path_of(actor).to_string_lossy())
        ),
        source: "mount(2)".into(),
    })
}

/// Fix that gives a producer a mountpoint of its own.
pub(super) fn own_mountpoint(scene: &Scene<'_>, name: &str) -> Fix {
    Fix::yaml(
        format!(
            "give every producer a mountpoint of its own, such as {name} this one, or run one of them at a time"
        ),
        format!(
            "volumes:\n  - name: fuse\n    hostPath:\n      path: {}\n      type: DirectoryOrCreate\n",
            yaml(&format!("{}-{name}", scene.report.plan.bridge.path))
        ),
    )
}

/// Whether an actor read two filesystems one after the other at its path before it was cut off, without a start in
/// between: the second was mounted on top of the first.
pub(super) fn has_reached(scene: &Scene<'_>, actor: &Actor) -> bool {
    let restarted = scene.report.acts.iter().any(|act| {
        matches!(act.deed, Deed::Restart { .. })
            && act.on.iter().any(|name| *actor == Actor::workload(name.clone()))
    });
    let cut_off = scene.stranded.iter().find(|stranded| stranded.actors().contains(actor));
    let until_us = cut_off.map_or(0, |stranded| stranded.sample().at_us);
    let read = scene
        .probes()
        .filter(|seen| seen.actor == *actor && seen.outcome.is_ok() && seen.at_us < until_us);
    let devices: BTreeSet<_> = read.filter_map(|seen| scene.device_of(seen)).collect();
    !restarted && devices.len() > 1
}

/// Consumers bound to the mountpoint were slaves of the stale mount, which is gone: only a mount on
/// top of it would have reached them.
fn lost_master(scene: &Scene<'_>) -> Option<Cause> {
    let mut evidence = Vec::new();
    let mut actors = Vec::new();
    let mut mounts = Vec::new();
    for stranded in &scene.stranded {
        let seen = stranded.sample();
        // What is mounted on a file lies on that file, and never on its directory. A volume that was made private is not
        // connected to anything.
        if stranded.spec.volume == Volume::File || made_private::of(scene, seen).is_some() {
            continue;
        }
        let Some(now) = seen.mount.as_ref().filter(|now| now.master.is_none()) else { continue };
        // It had a master before, and the kernel no longer shows one: the last peer of it is gone.
        let had_master = scene.probes().find_map(|before| {
            let mount = before.mount.as_ref().filter(|mount| mount.device == now.device)?;
            (before.actor == seen.actor && mount.master.is_some()).then_some(before)
        });
        let Some(before) = had_master else { continue };
        evidence.push(format!("before the repair, {before}"));
        evidence.push(format!("after it, {seen}: its master is gone"));
        evidence.push(stranded.node.to_string());
        actors.extend(stranded.actors());
        let table = scene.table_for(seen);
        let mount = table.and_then(|table| table.at(&scene.path_of(&seen.actor)));
        mounts.extend(mount.map(|mount| MountRef::new(stranded.name, mount.mount_id)));
    }
    let first = actors.first()?.to_string();
    let stranded = scene.stranded.iter().find(|one| one.actors().contains(&actors[0]))?;
    // The start of a container whose volume is the dead mount itself is refused, so that it cannot mount on top.
    let mut producers = scene.report.plan.with_role(Role::Producer);
    let is_refused = producers.any(|spec| {
        let source = MountPath::from(scene.paths(spec).source.as_str());
        !spec.host && scene.on_node(spec) == stranded.at && source == stranded.at
    });
    let until_then = match is_refused {
        true => format!("until then restart whoever is bound to {} itself", stranded.at),
        false => format!(
            "as long as consumers are bound to {} itself, let the producer mount on top of it",
            stranded.at
        ),
    };
    Some(Cause {
        id: CauseId::CleanUnmountWhereStackNeeded,
        from_step: None,
        until_step: None,
        title: format!(
            "the stale mount was unmounted on the node before the new one was made: {first} was \
             connected to the stale one only, and a mount on top of it would have reached it"
        ),
        confidence: Confidence::Likely,
        actors,
        mounts,
        evidence,
        fix: Fix::yaml(
            format!("bind the directory above the mountpoint, with HostToContainer; {until_then}"),
            good_volume(scene, stranded),
        ),
        verify: format!("kubectl exec {first} -- grep fuse /proc/self/mountinfo   # with master:N"),
        source: SHARED_SUBTREES.into(),
    })
}
