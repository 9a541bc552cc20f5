//! Commands of fixes: what a shell on the node and a kubelet do.

use super::cause::Fix;
use super::scene::Scene;
use super::text::shell;
use crate::mountinfo::{DeviceId, MountEntry, MountPath};
use crate::observation::Actor;
use crate::plan::{Propagation, Role, Volume, WorkloadSpec};

/// The place of a command that is run on the node.
pub(super) const ON_THE_NODE: &str = "   # on the node";

/// The command that shows a volume's line of mountinfo in its pod.
pub(super) fn verify_in(name: &str, volume: &MountEntry, expected: &str) -> String {
    let at = format!(" {} ", volume.mount_point.to_string_lossy());
    format!(
        "kubectl exec {name} -- grep -F {} /proc/self/mountinfo   # with {expected}",
        shell(&at)
    )
}

/// The command that restarts the container of a workload in its pod.
pub(super) fn restart_container(name: &str) -> String {
    format!("kubectl exec {} -- kill 1", shell(name))
}

/// The command that deletes a pod, which its controller makes again.
pub(super) fn delete_pod(name: &str) -> String {
    format!("kubectl delete pod {}", shell(name))
}

/// Fix that starts a producer again; a process of the node is started there.
pub(super) fn start_again(scene: &Scene<'_>, name: &str, words: String) -> Fix {
    match is_pod(scene, name) {
        true => Fix::command(words, delete_pod(name)),
        false => Fix::words(words),
    }
}

/// Whether a workload is a pod, and no process of the node.
fn is_pod(scene: &Scene<'_>, name: &str) -> bool {
    scene.report.plan.workload(name).is_some_and(|spec| !spec.host)
}

/// Dead FUSE mounts that lie on each other at a path of the node after a step. What lives below them is not counted:
/// to take it off would harm. `known` is dead or hangs whoever has seen it.
pub(super) fn dead_layers(
    scene: &Scene<'_>,
    at: &MountPath,
    step: &str,
    known: Option<DeviceId>,
) -> usize {
    let is_dead = |mount: &&&MountEntry| {
        let device = mount.device;
        mount.is_fuse() && (known == Some(device) || scene.seen_dead(device, u64::MAX).is_some())
    };
    let table = scene.table_in(&Actor::Node, step);
    table.map_or(0, |table| table.stack_at(at).iter().rev().take_while(is_dead).count())
}

/// What brings the mount of a producer back for all: the dead layers go, its pod is made again, and then those that
/// keep what they have start anew. A process of the node is started by whoever runs it.
pub(super) fn bring_back(scene: &Scene<'_>, name: &str, at: &MountPath, layers: usize) -> String {
    let mut lines = Vec::new();
    if layers > 0 {
        let unmount = format!("umount --lazy {}", shell(&at.to_string_lossy()));
        lines.push(vec![unmount; layers].join("; ") + ON_THE_NODE);
    }
    if is_pod(scene, name) {
        lines.push(delete_pod(name));
        lines.extend(keep_what_was_at(scene, at).into_iter().map(|spec| bind_again(scene, spec)));
    }
    lines.join("\n")
}

/// The command after which a consumer has a fresh bind. A bind of a subPath belongs to the pod. A consumer
/// whose start was refused has no container to restart, so its pod is deleted too.
pub(super) fn bind_again(scene: &Scene<'_>, spec: &WorkloadSpec) -> String {
    let actor = Actor::workload(spec.name.clone());
    let runs = scene.report.captures.last().is_none_or(|last| last.table(&actor).is_some());
    match spec.sub_path.is_none() && runs {
        true => restart_container(&spec.name),
        false => delete_pod(&spec.name),
    }
}

/// Consumers that a fresh mount does not reach, of those that are wrong in the end.
pub(super) fn keep_what_they_have<'r>(scene: &Scene<'r>) -> Vec<&'r WorkloadSpec> {
    let producers = scene.report.plan.with_role(Role::Producer);
    let mounts: Vec<MountPath> = producers.map(|spec| scene.on_node(spec)).collect();
    let kept = scene.report.plan.with_role(Role::Consumer).filter(|spec| {
        let is_mount = spec.sub_path.is_some()
            || match &spec.volume {
                Volume::Mountpoint | Volume::File => true,
                Volume::Path(path) => {
                    mounts.iter().any(|at| MountPath::from(path.as_str()).starts_with(at))
                }
                _ => false,
            };
        let actor = Actor::workload(spec.name.clone());
        // Whose volume is the directory below receives what is mounted on it; whoever has no mount keeps none.
        let path = scene.path_of(&actor);
        let table = scene.last_table(&actor).map(|(_, table)| table);
        let bottom = table.and_then(|table| table.stack_at(&path).first().copied());
        let is_mount = is_mount && bottom.is_none_or(MountEntry::is_fuse);
        let has_one = table.is_none_or(|table| table.at(&path).is_some_and(MountEntry::is_fuse));
        let is_wrong = scene.history.of_actor(&actor).any(|spell| spell.lasts());
        !spec.host && is_wrong && (is_mount || has_one && spec.propagation == Propagation::None)
    });
    kept.collect()
}

/// Those of them that are to see the mount at a path of the node.
pub(super) fn keep_what_was_at<'r>(scene: &Scene<'r>, at: &MountPath) -> Vec<&'r WorkloadSpec> {
    let mut kept = keep_what_they_have(scene);
    kept.retain(|spec| scene.wanted_by(spec) == *at);
    kept
}
