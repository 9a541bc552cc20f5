//! Volumes that are bound to a directory that has been deleted.

use super::cause::{Cause, CauseId, Fix};
use super::commands::{delete_pod, restart_container};
use super::dead::cause;
use super::scene::Scene;
use super::text::{line, names, shell};
use crate::mountinfo::{MountEntry, MountRef};
use crate::observation::{Actor, Outcome};

/// A volume, such as the bind of a subPath, whose directory has been deleted under it.
pub(super) fn rule(scene: &Scene<'_>) -> Option<Cause> {
    let mut found = Vec::new();
    for capture in scene.report.captures.iter().rev() {
        // Where nothing is mounted any more, a deleted directory is fine.
        let of_step = scene.node.iter().rev().find(|seen| seen.step == capture.step);
        if of_step.is_some_and(|seen| matches!(seen.outcome, Outcome::Absent)) {
            continue;
        }
        for one in &capture.tables {
            let path = scene.path_of(&one.actor);
            let covering = one.table.covering(&path);
            // Behind a dead connection every directory looks deleted.
            let alive = |mount: &&MountEntry| {
                !mount.is_fuse() || scene.seen_dead(mount.device, capture.at_us).is_none()
            };
            if let Some(mount) = covering.filter(|m| m.root_deleted).filter(alive) {
                found.push((&one.actor, mount));
            }
        }
        if !found.is_empty() {
            break;
        }
    }
    let (_, first) = found.first()?;
    let at = shell(&first.mount_point.to_string_lossy());
    let of_sub_path = found.iter().any(|(actor, _)| match actor {
        Actor::Workload { name, .. } => {
            scene.spec(name).is_some_and(|spec| spec.sub_path.is_some())
        }
        _ => false,
    });
    let whose: Vec<String> = found.iter().map(|(actor, _)| actor.to_string()).collect();
    Some(Cause {
        actors: found.iter().map(|(actor, _)| (*actor).clone()).collect(),
        mounts: found.iter().map(|(a, m)| MountRef::new(a.to_string(), m.mount_id)).collect(),
        source: "https://kubernetes.io/docs/concepts/storage/volumes/#using-subpath; proc_pid_mountinfo(5)"
            .into(),
        ..cause(
            CauseId::SubPathOnDeadDentry,
            format!(
                "the {} of {} is bound to a directory that has been deleted: what is mounted or made at that path now is \
                 another directory",
                if of_sub_path { "subPath" } else { "volume" },
                names(whose.iter().map(String::as_str))
            ),
            found.iter().map(|(actor, mount)| line(actor, mount)).collect(),
            match of_sub_path {
                true => Fix::command(
                    "use no subPath but the directory above it; until then delete the pod, which is made again (a restart \
                     of its container keeps the same bind)",
                    whose.iter().map(|name| delete_pod(name)).collect::<Vec<_>>().join("\n"),
                ),
                false => Fix::command(
                    "restart the container, which binds the directory that is there now; empty a directory that is a volume \
                     instead of removing it",
                    whose.iter().map(|name| restart_container(name)).collect::<Vec<_>>().join("\n"),
                ),
            },
            format!("grep -F {at} /proc/self/mountinfo   # in the container: without //deleted"),
        )
    })
}
