//! Consumers that have unmounted their own copy, which nobody else notices.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::bind_again;
use super::scene::{Scene, first_replicas};
use super::text::{SHARED_SUBTREES, line};
use crate::mountinfo::{MountEntry, MountRef};
use crate::observation::{Actor, Observation, Outcome};
use crate::plan::{Role, WorkloadSpec};
use crate::report::{Act, Deed};

/// An unmount of an actor's own copy.
pub(super) struct OwnUnmount<'r> {
    act: &'r Act,
    command: &'r [String],
    /// What it had before.
    copy: &'r MountEntry,
}

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    scene.report.plan.with_role(Role::Consumer).filter_map(|spec| of(scene, spec)).collect()
}

/// The program in the actor's container that took off what the actor does not see any more, while the node kept it.
pub(super) fn unmount_of<'r>(scene: &Scene<'r>, seen: &Observation) -> Option<OwnUnmount<'r>> {
    let Actor::Workload { name, .. } = &seen.actor else { return None };
    let actor = Actor::workload(name.clone());
    let path = scene.path_of(&actor);
    let captures = &scene.report.captures;
    let mut acts = scene.report.acts.iter().rev().filter(|act| act.from_us <= seen.at_us);
    let found = acts.find_map(|act| {
        let Deed::Run { command } = &act.deed else { return None };
        if !act.on.contains(name) || act.refused.is_some() {
            return None;
        }
        let place = scene.history.place(&act.step);
        let earlier = |step: &str| scene.history.place(step) < place;
        // What was captured before the first step belongs to none.
        let before = captures.iter().rev().find(|one| {
            let known = scene.history.place(&one.step) != usize::MAX;
            earlier(&one.step) || !known && one.at_us < act.from_us
        })?;
        let copy = before.table(&actor)?.at(&path).filter(|mount| mount.is_served())?;
        let mut later =
            captures.iter().filter(|one| one.step == act.step || one.at_us > act.until_us);
        let after = later.clone().next()?;
        // What is mounted over a copy takes nothing off.
        let taken_off = after.table(&actor)?.by_id(copy.mount_id).is_none();
        let node_has = after.table(&Actor::Node)?.iter().any(|one| one.device == copy.device);
        let still_without = later.all(|one| {
            one.at_us > seen.at_us && one.step != seen.step
                || one
                    .table(&actor)
                    .is_none_or(|table| table.at(&path).is_none_or(|mount| !mount.is_served()))
        });
        (taken_off && node_has && still_without).then_some(OwnUnmount { act, command, copy })
    })?;
    // A container that started anew has another table.
    let restarted = scene.report.acts.iter().any(|act| {
        matches!(act.deed, Deed::Start | Deed::Restart { .. })
            && act.on.contains(name)
            && act.from_us > found.act.from_us
            && act.from_us <= seen.at_us
    });
    (!restarted).then_some(found)
}

fn of(scene: &Scene<'_>, spec: &WorkloadSpec) -> Option<Cause> {
    let name = &spec.name;
    let without = scene.probes().filter(|seen| {
        matches!(&seen.actor, Actor::Workload { name: whose, .. } if whose == name)
            && !matches!(seen.outcome, Outcome::Ok | Outcome::Skipped { .. })
            && unmount_of(scene, seen).is_some()
    });
    let seen = scene.history.seen_last_time(without.collect());
    let first = *seen.first()?;
    let OwnUnmount { act, command, copy } = unmount_of(scene, first)?;
    let command = command.join(" ");
    let at = &copy.mount_point;
    let cause = Cause {
        id: CauseId::MountGone,
        from_step: None,
        until_step: None,
        title: format!(
            "`{command}` in {name} took off the copy of the mount that {name} has: the node and all others have the mount \
             still, and what {name} sees at {at} is the directory under it, without any error"
        ),
        confidence: Confidence::Likely,
        actors: first_replicas(&seen),
        mounts: vec![MountRef::new(name.clone(), copy.mount_id)],
        evidence: vec![
            format!("before it, {}", line(name, copy)),
            format!("run in {}, in {name}: {command}", act.step),
            first.to_string(),
        ],
        fix: Fix::command(
            format!(
                "restart {name}, whose volume is bound anew at its start; a copy that was taken off comes back by itself \
                 only with the next mount, and only to a HostToContainer volume"
            ),
            bind_again(scene, spec),
        ),
        verify: format!("kubectl exec {name} -- grep fuse /proc/self/mountinfo   # the mount"),
        source: format!("umount(2); {SHARED_SUBTREES}"),
    };
    Some(scene.history.when(&seen).of(cause))
}
