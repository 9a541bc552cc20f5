//! Daemons that decide by the groups of their callers, and know other groups than the containers have.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::restart_container;
use super::scene::{Scene, first_replicas};
use super::text::{line, names, shell};
use crate::errno::Errno;
use crate::observation::{Observation, Outcome};
use crate::plan::WorkloadSpec;

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    unknown(scene).into_iter().collect()
}

/// Whether somebody with supplementary groups is turned away by a daemon that serves others: a request of FUSE
/// carries one group of the caller only.
pub(super) fn explains(scene: &Scene<'_>, seen: &Observation) -> bool {
    let Some(mount) = scene.table_for(seen).and_then(|table| table.at(&scene.path_of(&seen.actor)))
    else {
        return false;
    };
    let options = |wanted: &str| mount.super_options.split(',').any(|option| option == wanted);
    let turned_away = match &seen.outcome {
        Outcome::Empty => true,
        Outcome::WrongContent { .. } => seen.generation.is_none(),
        Outcome::Errno { errno, .. } => {
            // With `default_permissions` the kernel compares modes, and knows all groups.
            let by_the_kernel = options("default_permissions");
            [Errno::EACCES, Errno::EPERM, Errno::ENOENT].contains(errno) && !by_the_kernel
        }
        _ => false,
    };
    let Some(spec) = member(scene, seen).filter(|_| turned_away) else { return false };
    let producer = scene.producer_of(Some(mount.device), seen.at_us);
    let external = producer.is_some_and(|spec| !scene.report.plan.fuse_of(spec).command.is_empty());
    let others = scene.asked().any(|one| {
        one.step == seen.step
            && one.uid != spec.uid
            && one.outcome.is_ok()
            && scene.device_of(one) == Some(mount.device)
    });
    mount.is_fuse() && options("allow_other") && external && others
}

/// The workload of an actor that looks with supplementary groups.
fn member<'r>(scene: &Scene<'r>, seen: &Observation) -> Option<&'r WorkloadSpec> {
    let crate::observation::Actor::Workload { name, .. } = &seen.actor else { return None };
    scene.spec(name).filter(|spec| !spec.groups.is_empty() && seen.uid == spec.uid && spec.uid != 0)
}

/// Adds a user and its groups to the database where a daemon runs.
fn database(producer: &str, member: &WorkloadSpec) -> String {
    let WorkloadSpec { uid, groups, .. } = member;
    let groups: Vec<String> =
        groups.iter().map(|group| format!("echo g{group}:x:{group}:$u >> /etc/group")).collect();
    // The first entry of a uid names it.
    format!(
        "kubectl exec {0} -- sh -c 'u=$(id -un {uid} 2> /dev/null) || {{ u=u{uid}; echo $u:x:{uid}:{uid}::/:/bin/false >> \
         /etc/passwd; }}; {1}'\n{2}",
        shell(producer),
        groups.join("; "),
        restart_container(producer)
    )
}

fn unknown(scene: &Scene<'_>) -> Option<Cause> {
    let denied: Vec<&Observation> = scene.probes().filter(|seen| explains(scene, seen)).collect();
    let first = *denied.first()?;
    let spec = member(scene, first)?;
    let mount = scene.table_for(first)?.at(&scene.path_of(&first.actor))?;
    let producer = scene.producer_of(Some(mount.device), first.at_us)?;
    let groups: Vec<String> = spec.groups.iter().map(ToString::to_string).collect();
    let actors = first_replicas(&denied);
    let who: Vec<String> = actors.iter().map(ToString::to_string).collect();
    let who = names(who.iter().map(String::as_str));
    let mut evidence: Vec<String> = denied.iter().take(4).map(ToString::to_string).collect();
    evidence.push(format!("{} has the supplementary groups {}", spec.name, groups.join(", ")));
    evidence.push(line(&first.actor, mount));
    let cause = Cause {
        id: CauseId::CallerGroupsUnknown,
        from_step: None,
        until_step: None,
        title: format!(
            "the daemon of {} decides by the groups of its callers, and looks them up by uid in its own group database: \
             the groups that only the container gives {who} ({}) count for nothing",
            producer.name,
            groups.join(", ")
        ),
        confidence: Confidence::Likely,
        actors,
        mounts: Vec::new(),
        evidence,
        fix: Fix::command(
            format!(
                "give the daemon of {} a group database with these groups (the files of /etc in its container), and restart \
                 it, because it remembers what it has looked up; or use the group as the primary one of {who} (runAsGroup), \
                 or give the files wider modes",
                producer.name
            ),
            database(&producer.name, spec),
        ),
        verify: format!("getent group {}   # where the daemon runs", groups.join(" ")),
        source: "https://docs.kernel.org/filesystems/fuse.html; https://github.com/trapexit/mergerfs/issues/457".into(),
    };
    Some(scene.history.when(&denied).of(cause))
}
