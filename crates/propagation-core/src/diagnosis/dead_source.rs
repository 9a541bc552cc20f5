//! What is done about a dead mount that a start looked at first: the producer's own mount, a bind of it, or the kubelet's
//! bind of a subPath.

use super::cause::Fix;
use super::commands::{self, ON_THE_NODE};
use super::scene::Scene;
use super::text::{names, shell};
use crate::mountinfo::{MountEntry, MountPath};
use crate::observation::Actor;
use crate::plan::{Role, WorkloadSpec};
use crate::report::{Failure, FailureOf};

/// The source that a start failed to look at, with the mount of the node on which it lies.
pub(super) fn of<'r>(scene: &Scene<'r>, failure: &Failure) -> (MountPath, Option<&'r MountEntry>) {
    let spec = scene.spec(&failure.workload);
    let refused = scene.refused_volume(failure).filter(|_| failure.of == FailureOf::Start);
    let source = match (&refused, spec) {
        (Some(volume), _) => MountPath::from(volume.source.as_str()),
        (None, Some(spec)) => scene.wanted_by(spec),
        (None, None) => scene.fuse_path.clone(),
    };
    let table = scene.table_in(&Actor::Node, &failure.step);
    // The kubelet's own bind of a subPath is named after the pod.
    let of_pod = |mount: &&MountEntry| {
        mount.is_fuse()
            && mount.mount_point.to_string_lossy().ends_with(&format!("/{}", failure.workload))
    };
    let has_part = spec.is_some_and(|spec| spec.sub_path.is_some());
    if refused.is_some_and(|volume| volume.is_main && has_part)
        && let Some(bind) = table.and_then(|table| table.iter().find(of_pod))
    {
        return (bind.mount_point.clone(), Some(bind));
    }
    let covering = table.and_then(|table| table.covering(&source)).filter(|mount| mount.is_fuse());
    (source, covering)
}

/// Fix for a dead mount at a path of the node that blocks starts in a step.
pub(super) fn fix(
    scene: &Scene<'_>,
    at: &MountPath,
    dead: Option<&MountEntry>,
    blocked: &[&str],
    step: &str,
) -> Fix {
    let path = shell(&at.to_string_lossy());
    let who = names(blocked.iter().copied());
    let mut producers = scene.report.plan.with_role(Role::Producer);
    if *at == scene.fuse_path || producers.any(|spec| scene.on_node(spec) == *at) {
        let above = match is_refused_itself(scene, at, blocked) {
            true => "",
            false => "; to be safe from it, use the directory above the mountpoint as the volume",
        };
        return Fix::command(
            format!(
                "take the dead mount off the node, let the producer mount again, then start {who}{above}"
            ),
            take_off(scene, &path, dead, blocked),
        );
    }
    let first = mount_first(scene, dead, blocked, step);
    let parts: Vec<&WorkloadSpec> = blocked
        .iter()
        .filter_map(|name| scene.spec(name).filter(|spec| spec.sub_path.is_some()))
        .collect();
    let of_pod = |spec: &&WorkloadSpec| path.ends_with(&format!("/{}", spec.name));
    let (words, then) = match parts.iter().any(of_pod) {
        true => {
            let pods: Vec<String> =
                parts.iter().map(|spec| commands::delete_pod(&spec.name)).collect();
            let words = format!(
                "the dead bind ({path}) is the kubelet's own of a subPath, which a pod keeps as long as it lives: delete the \
                 pod of {who}, which is made again with a bind of what is mounted then"
            );
            (words, pods.join("\n"))
        }
        false => {
            let from = bound_from(scene, dead, blocked);
            let words = format!(
                "take the dead bind off ({path}, not the mount at {from}), bind what is mounted now, then start {who}"
            );
            (words, format!("umount --lazy {path}; mount --bind {from} {path}{ON_THE_NODE}"))
        }
    };
    match first {
        Some(first) => Fix::command(
            format!("bring the mount back on the node first; then {words}"),
            format!("{first}\n{then}"),
        ),
        None => Fix::command(words, then),
    }
}

/// Whether who is blocked is the producer that mounts there itself.
fn is_refused_itself(scene: &Scene<'_>, at: &MountPath, blocked: &[&str]) -> bool {
    let producers = scene.report.plan.with_role(Role::Producer);
    let mut there = producers.filter(|spec| scene.on_node(spec) == *at);
    there.any(|spec| blocked.contains(&spec.name.as_str()))
}

/// Path on the node of the mount of which a dead mount is a copy.
fn place_of(scene: &Scene<'_>, dead: &MountEntry) -> MountPath {
    let maker = scene.maker_of(dead.device, u64::MAX);
    maker.map_or_else(|| scene.fuse_path.clone(), |spec| scene.on_node(spec))
}

/// What a dead bind was made of: the mount of its producer, or the same part of it.
fn bound_from(scene: &Scene<'_>, dead: Option<&MountEntry>, blocked: &[&str]) -> String {
    let from = match (dead, blocked.first().and_then(|name| scene.spec(name))) {
        (Some(dead), _) => place_of(scene, dead).join(&dead.root),
        (None, Some(spec)) => scene.wanted_by(spec),
        (None, None) => scene.fuse_path.clone(),
    };
    shell(&from.to_string_lossy())
}

/// What makes the producer mount again, where what it has on the node is dead too, or gone.
fn mount_first(
    scene: &Scene<'_>,
    dead: Option<&MountEntry>,
    blocked: &[&str],
    step: &str,
) -> Option<String> {
    let dead = dead?;
    let at = place_of(scene, dead);
    let there = scene.table_in(&Actor::Node, step)?.at(&at).filter(|mount| mount.is_fuse());
    match there {
        Some(mount) if mount.device == dead.device => {
            Some(take_off(scene, &shell(&at.to_string_lossy()), Some(dead), blocked))
        }
        Some(_) => None,
        None => {
            let producer = scene.maker_of(dead.device, u64::MAX)?;
            let is_pod = !producer.host && !blocked.contains(&producer.name.as_str());
            is_pod.then(|| commands::delete_pod(&producer.name))
        }
    }
}

/// Takes a dead mount off the node, and makes the pod of its producer anew, unless it is itself what is blocked: that
/// one is tried again by the kubelet.
pub(super) fn take_off(
    scene: &Scene<'_>,
    path: &str,
    dead: Option<&MountEntry>,
    blocked: &[&str],
) -> String {
    let unmount = format!("umount --lazy {path}{ON_THE_NODE}");
    let producer = scene.producer_of(dead.map(|mount| mount.device), u64::MAX);
    match producer.filter(|spec| !spec.host && !blocked.contains(&spec.name.as_str())) {
        Some(spec) => format!("{unmount}\n{}", commands::delete_pod(&spec.name)),
        None => unmount,
    }
}
