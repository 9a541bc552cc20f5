//! Daemons that serve files from another FUSE mount, and lost that mount.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::{ON_THE_NODE, bind_again, delete_pod, keep_what_they_have};
use super::scene::{Scene, first_replicas};
use super::text::{FUSE_CONNECTIONS, line, shell};
use crate::Class;
use crate::errno::Errno;
use crate::mountinfo::{DeviceId, MountEntry, MountPath, MountRef};
use crate::observation::{Actor, Observation, Outcome};
use crate::plan::{Fault, Role, WorkloadSpec};
use crate::report::{Act, Deed};

/// A daemon on a daemon: what it serves, and what it read from.
struct Stacked<'r> {
    spec: &'r WorkloadSpec,
    own: &'r MountEntry,
    below: &'r MountEntry,
    /// When both were there.
    at_us: u64,
    /// When something was done to the daemon itself, so that its mount may be dead for that.
    until_us: u64,
}

/// The superblock of a daemon that lives and has lost its lower mount, and the time in which that was so.
pub(super) struct Lost {
    device: DeviceId,
    from_us: u64,
    until_us: u64,
}

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let producers = scene.report.plan.with_role(Role::Producer);
    let causes = producers.filter_map(|spec| {
        let mut causes: Vec<Cause> = stacked(scene, spec)
            .iter()
            .filter_map(|found| lower_mount_lost(scene, found))
            .collect();
        // Of several losses the last one, unless another lasts.
        let lasting = causes.iter().rposition(|cause| !cause.is_over());
        let last = lasting.or(causes.len().checked_sub(1))?;
        Some(causes.swap_remove(last))
    });
    causes.collect()
}

/// Superblocks of live daemons whose lower mount was lost.
pub(super) fn devices(scene: &Scene<'_>) -> Vec<Lost> {
    let producers = scene.report.plan.with_role(Role::Producer);
    let stacked = producers.flat_map(|spec| stacked(scene, spec));
    stacked
        .filter_map(|found| {
            let (from_us, _) = lost(scene, &found)?;
            Some(Lost { device: found.own.device, from_us, until_us: found.until_us })
        })
        .collect()
}

/// Whether an observation is of one of them.
pub(super) fn explains(lost: &[Lost], seen: &Observation) -> bool {
    let Some(mount) = &seen.mount else { return false };
    lost.iter()
        .any(|one| one.device == mount.device && (one.from_us..one.until_us).contains(&seen.at_us))
}

fn lower_mount_lost(scene: &Scene<'_>, found: &Stacked<'_>) -> Option<Cause> {
    let (lost_at_us, lost) = lost(scene, found)?;
    let on_it = |seen: &&Observation| {
        (lost_at_us..found.until_us).contains(&seen.at_us)
            && seen.mount.as_ref().is_some_and(|mount| mount.device == found.own.device)
            && !matches!(seen.outcome, Outcome::Ok | Outcome::Skipped { .. })
            && ![Errno::EACCES, Errno::EPERM].map(Class::Errno).contains(&seen.outcome.class())
    };
    let failing: Vec<&Observation> = scene.probes().filter(on_it).collect();
    let last = failing.last()?;
    let name = &found.spec.name;
    let at = &found.below.mount_point;
    let cause = Cause {
        id: CauseId::LowerMountLost,
        from_step: None,
        until_step: None,
        title: format!(
            "{name} serves what it reads from another FUSE mount ({at}), and lost that under it: it \
             lives, and its own mount gives only what it can still reach"
        ),
        confidence: Confidence::Likely,
        actors: first_replicas(&failing),
        mounts: vec![MountRef::new(name.clone(), found.own.mount_id)],
        evidence: vec![last.to_string(), line(name, found.own), line(name, found.below), lost],
        fix: Fix::command(
            format!(
                "once the mount under it is back, take the mount of {name} off and restart {name}, and let it wait for a \
                 file in that mount before it starts: a daemon that holds its source open keeps the dead one; then restart \
                 those whose volume is that mount itself"
            ),
            serve_again(scene, found),
        ),
        verify: format!("kubectl exec {name} -- ls {at}   # what {name} is to serve"),
        source: FUSE_CONNECTIONS.into(),
    };
    let lasting = |one: &&&Observation| scene.history.lasts(one);
    let lasts: Vec<&Observation> = failing.iter().filter(lasting).copied().collect();
    let counted = if lasts.is_empty() { failing } else { lasts };
    Some(scene.history.when(&counted).of(cause))
}

/// Takes a mount off that serves nothing, and starts its daemon anew, and then those who keep that mount; before it
/// the mount below, where that is dead still.
fn serve_again(scene: &Scene<'_>, found: &Stacked<'_>) -> String {
    let spec = found.spec;
    let at = shell(&spec.path_on_node(&scene.report.plan.bridge));
    let mut lines = vec![format!("umount --lazy {at}{ON_THE_NODE}")];
    let below = producer_below(scene, found).filter(|below| !below.host);
    if let Some(below) = below.filter(|below| is_dead_still(scene, below, found)) {
        let path = shell(&scene.on_node(below).to_string_lossy());
        lines.push(format!("umount --lazy {path}{ON_THE_NODE}"));
        lines.push(delete_pod(&below.name));
    }
    if !spec.host {
        lines.push(delete_pod(&spec.name));
        lines.extend(keep_what_they_have(scene).into_iter().map(|spec| bind_again(scene, spec)));
    }
    lines.join("\n")
}

/// Whether the mount below lies on the node in the end, and is the one that was lost.
fn is_dead_still(scene: &Scene<'_>, below: &WorkloadSpec, found: &Stacked<'_>) -> bool {
    let table = scene.last_table(&Actor::Node).map(|(_, table)| table);
    let there = table.and_then(|table| table.at(&scene.on_node(below)));
    there.is_some_and(|mount| mount.device == found.below.device)
        && !scene.is_succeeded(below, found.at_us)
}

/// The producer that served the mount below at that time; the number of its device may be another's later.
fn producer_below<'r>(scene: &Scene<'r>, found: &Stacked<'_>) -> Option<&'r WorkloadSpec> {
    let mut producers = scene.report.plan.with_role(Role::Producer);
    producers.find(|producer| {
        let actor = Actor::workload(producer.name.clone());
        let path = scene.path_of(&actor);
        let captures = scene.report.captures.iter().rev();
        let mut tables =
            captures.filter(|one| one.at_us <= found.at_us).filter_map(|one| one.table(&actor));
        let had = tables.next().is_some_and(|table| {
            table.stack_at(&path).iter().any(|mount| mount.device == found.below.device)
        });
        had && producer.name != found.spec.name
    })
}

/// The mounts of `spec` with the FUSE mounts that its command names, for each pair the first time.
fn stacked<'r>(scene: &Scene<'r>, spec: &'r WorkloadSpec) -> Vec<Stacked<'r>> {
    let command = &scene.report.plan.fuse_of(spec).command;
    let actor = Actor::workload(spec.name.clone());
    let path = scene.path_of(&actor);
    let names = |mount: &MountEntry| {
        let at = &mount.mount_point;
        let words = command.iter().flat_map(|word| word.split([',', ':', '=', ' ', '"', '\'']));
        let paths = words.filter(|word| word.len() > 1 && word.starts_with('/'));
        let mut paths = paths.map(MountPath::from);
        *at != MountPath::from("/")
            && paths.any(|path| at.starts_with(&path) || path.starts_with(at))
    };
    let mut all: Vec<Stacked<'r>> = Vec::new();
    for capture in &scene.report.captures {
        let Some(table) = capture.table(&actor) else { continue };
        let Some(own) = table.at(&path).filter(|mount| mount.is_fuse()) else { continue };
        let mut others = table.fuse_mounts();
        let below = others
            .find(|other| other.device != own.device && other.mount_point != path && names(other));
        let Some(below) = below else { continue };
        let known = |one: &Stacked<'_>| {
            (one.own.device, one.below.device) == (own.device, below.device)
                && capture.at_us < one.until_us
        };
        // A mount whose own daemon was ended shows nothing of the daemon below.
        if all.iter().any(known) || scene.last_act(spec, capture.at_us).is_some_and(hits) {
            continue;
        }
        let hit = scene.acts_on(spec).find(|act| act.from_us > capture.at_us && hits(act));
        let until_us = hit.map_or(u64::MAX, |act| act.from_us);
        all.push(Stacked { spec, own, below, at_us: capture.at_us, until_us });
    }
    all
}

/// When the mount below was first known to be gone or dead, and the evidence.
fn lost(scene: &Scene<'_>, found: &Stacked<'_>) -> Option<(u64, String)> {
    let actor = Actor::workload(found.spec.name.clone());
    if let Some(dead) = scene.seen_dead(found.below.device, found.at_us) {
        return Some((dead.at_us, dead.to_string()));
    }
    if let Some(ended) = ended_below(scene, found) {
        return Some(ended);
    }
    let at = &found.below.mount_point;
    let mut known_us = 0;
    scene.report.captures.iter().find_map(|capture| {
        let since_us = std::mem::replace(&mut known_us, capture.at_us);
        let table = capture.table(&actor)?;
        // Before the daemon had its own mount it may not have been there either.
        table.at(&scene.path_of(&actor)).filter(|own| own.device == found.own.device)?;
        let now = table.at(at).filter(|mount| mount.is_fuse());
        let words = now.map_or_else(
            || "no FUSE mount lies there".into(),
            |mount| format!("device {} lies there instead", mount.device),
        );
        let changed = now.is_none_or(|mount| mount.device != found.below.device);
        // It was so when the table before had been taken, and some time later no more.
        changed.then(|| (since_us, format!("{actor}: {at} in {}: {words}", capture.step)))
    })
}

/// When the daemon below was ended, and the evidence; a keeper goes on with its connection.
fn ended_below(scene: &Scene<'_>, found: &Stacked<'_>) -> Option<(u64, String)> {
    let producer = producer_below(scene, found)?;
    if scene.report.plan.fuse_of(producer).keeper {
        return None;
    }
    let ends = |act: &&Act| match &act.deed {
        Deed::Fault { fault } => fault.ends_the_daemon() || *fault == Fault::Abort,
        Deed::Stop => true,
        _ => false,
    };
    let act = scene.acts_on(producer).filter(|act| act.from_us > found.at_us).find(ends)?;
    let name = &producer.name;
    let words = act.proof.first().map_or_else(|| "ended".to_owned(), Clone::clone);
    Some((act.from_us, format!("{}, to {name}: {words}", act.step)))
}

/// Whether an act may make the mount of the daemon that it concerns a dead one.
fn hits(act: &Act) -> bool {
    match &act.deed {
        Deed::Fault { fault } => *fault != Fault::Continue,
        Deed::Stop => true,
        _ => false,
    }
}
