//! Daemons that serve files from another FUSE mount, and lost that mount.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::{ON_THE_NODE, bind_again, delete_pod, keep_what_they_have};
use super::scene::{Scene, first_replicas};
use super::text::{FUSE_CONNECTIONS, line, shell};
use crate::Class;
use crate::errno::Errno;
use crate::mountinfo::{DeviceId, MountEntry, MountPath, MountRef};
use crate::observation::{Actor, Observation, Outcome};
use crate::plan::{Action, Fault, Plan, Role, Step, WorkloadSpec};

/// A daemon on a daemon: what it serves, and what it read from.
struct Stacked<'r> {
    spec: &'r WorkloadSpec,
    own: &'r MountEntry,
    below: &'r MountEntry,
    /// When both were there.
    at_us: u64,
}

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let producers = scene.report.plan.with_role(Role::Producer);
    producers.filter_map(|spec| lower_mount_lost(scene, spec)).collect()
}

/// Superblocks of live daemons whose lower mount was lost.
pub(super) fn devices(scene: &Scene<'_>) -> Vec<DeviceId> {
    let producers = scene.report.plan.with_role(Role::Producer);
    producers
        .filter_map(|spec| stacked(scene, spec))
        .filter(|found| lost(scene, found).is_some())
        .map(|found| found.own.device)
        .collect()
}

/// Whether an observation is of one of them.
pub(super) fn explains(devices: &[DeviceId], seen: &Observation) -> bool {
    seen.mount.as_ref().is_some_and(|mount| devices.contains(&mount.device))
}

fn lower_mount_lost(scene: &Scene<'_>, spec: &WorkloadSpec) -> Option<Cause> {
    let found = stacked(scene, spec)?;
    let (lost_at_us, lost) = lost(scene, &found)?;
    let on_it = |seen: &&Observation| {
        seen.at_us >= lost_at_us
            && seen.mount.as_ref().is_some_and(|mount| mount.device == found.own.device)
            && !matches!(seen.outcome, Outcome::Ok | Outcome::Skipped { .. })
            && ![Errno::EACCES, Errno::EPERM].map(Class::Errno).contains(&seen.outcome.class())
    };
    let failing: Vec<&Observation> = scene.probes().filter(on_it).collect();
    let last = failing.last()?;
    let name = &spec.name;
    let at = &found.below.mount_point;
    Some(Cause {
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
            serve_again(scene, spec),
        ),
        verify: format!("kubectl exec {name} -- ls {at}   # what {name} is to serve"),
        source: FUSE_CONNECTIONS.into(),
    })
}

/// Takes a mount off that serves nothing, and starts its daemon anew, and then those who keep that mount.
fn serve_again(scene: &Scene<'_>, spec: &WorkloadSpec) -> String {
    let at = shell(&spec.path_on_node(&scene.report.plan.bridge));
    let mut lines = vec![format!("umount --lazy {at}{ON_THE_NODE}")];
    if !spec.host {
        lines.push(delete_pod(&spec.name));
        lines.extend(keep_what_they_have(scene).into_iter().map(bind_again));
    }
    lines.join("\n")
}

/// The mount of `spec`, on which nothing was done, with the FUSE mount that its command names.
fn stacked<'r>(scene: &Scene<'r>, spec: &'r WorkloadSpec) -> Option<Stacked<'r>> {
    let plan = &scene.report.plan;
    let command = &plan.fuse_of(spec).command;
    if command.is_empty() || is_hit(plan, &plan.steps, &spec.name) {
        return None;
    }
    let actor = Actor::workload(spec.name.clone());
    let path = scene.path_of(&actor);
    let names = |mount: &MountEntry| {
        let at = &mount.mount_point;
        let words = command.iter().flat_map(|word| word.split([',', ':', '=']));
        let paths = words.filter(|word| word.len() > 1 && word.starts_with('/'));
        let mut paths = paths.map(MountPath::from);
        *at != MountPath::from("/")
            && paths.any(|path| at.starts_with(&path) || path.starts_with(at))
    };
    scene.report.captures.iter().find_map(|capture| {
        let table = capture.table(&actor)?;
        let own = table.at(&path).filter(|mount| mount.is_fuse())?;
        let mut others = table.fuse_mounts();
        let below = others.find(|other| {
            other.device != own.device && other.mount_point != path && names(other)
        })?;
        Some(Stacked { spec, own, below, at_us: capture.at_us })
    })
}

/// When the mount below was first known to be gone or dead, and the evidence.
fn lost(scene: &Scene<'_>, found: &Stacked<'_>) -> Option<(u64, String)> {
    let actor = Actor::workload(found.spec.name.clone());
    if let Some(dead) = scene.seen_dead(found.below.device, found.at_us) {
        return Some((dead.at_us, dead.to_string()));
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

/// Whether an act concerned a workload, so that its mount may be dead itself.
fn is_hit(plan: &Plan, steps: &[Step], name: &str) -> bool {
    let first = plan.producer().map(|spec| spec.name.as_str());
    steps.iter().any(|step| {
        let on_it = match &step.on {
            Some(names) => names.mean(name),
            None => first == Some(name),
        };
        match &step.action {
            // What somebody unmounts on the node is at the bridge.
            Action::Fault(fault) if fault.is_on_the_node() => false,
            Action::Fault(fault) => on_it && *fault != Fault::Continue,
            Action::Stop(names) => names.mean(name),
            Action::Phase(_) => first == Some(name),
            Action::Repeat { steps, .. } => is_hit(plan, steps, name),
            _ => false,
        }
    })
}
