//! Mounts that are there and are hidden: another one lies over them, or over a directory above them.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::{ON_THE_NODE, bind_again};
use super::scene::{Scene, first_replicas};
use super::text::{line, names, shell};
use crate::mountinfo::{MountEntry, MountRef};
use crate::observation::{Actor, Observation, Outcome};
use crate::plan::{Role, WorkloadSpec};

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let concerned = |actor: &Actor| match scene.role_of(actor) {
        Some(role) => role == Role::Consumer,
        None => *actor == Actor::Node,
    };
    let spells = scene.history.spells.iter().filter(|spell| concerned(spell.actor));
    let hidden: Vec<_> = spells
        .filter_map(|spell| {
            let seen = *spell.seen.last()?;
            Some((spell.lasts(), seen, hider(scene, seen)?))
        })
        .collect();
    let lasts = hidden.iter().any(|(lasts, ..)| *lasts);
    let found: Vec<(&Observation, &MountEntry)> =
        hidden.iter().filter(|one| one.0 == lasts).map(|(_, seen, over)| (*seen, *over)).collect();
    covered(scene, &found).into_iter().collect()
}

/// The mount that hides an actor's FUSE mount from it.
pub(super) fn hider<'r>(scene: &Scene<'r>, seen: &Observation) -> Option<&'r MountEntry> {
    if !matches!(
        seen.outcome,
        Outcome::Absent | Outcome::Empty | Outcome::Lower | Outcome::WrongContent { .. }
    ) {
        return None;
    }
    let table = scene.table_for(seen)?;
    let path = scene.path_of(&seen.actor);
    let there = table.iter().any(|mount| mount.is_fuse() && mount.mount_point == path);
    let over = table.covering(&path).filter(|mount| there && !mount.is_fuse())?;
    // What is covered was there first, so its own parent is not the one that covers it.
    let below = table.iter().find(|mount| mount.is_fuse() && mount.mount_point == path)?;
    (below.parent_id != over.mount_id).then_some(over)
}

/// Consumers that started while the mount was hidden, and so are bound to what hides it.
fn bound_to<'r>(scene: &Scene<'r>, over: &MountEntry) -> Vec<&'r WorkloadSpec> {
    let consumers = scene.report.plan.with_role(Role::Consumer).filter(|spec| !spec.host);
    let bound = consumers.filter(|spec| {
        let actor = Actor::workload(spec.name.clone());
        let path = scene.path_of(&actor);
        let table = scene.last_table(&actor).map(|(_, table)| table);
        let has_it = table.is_some_and(|table| {
            let none = !table.iter().any(|mount| mount.is_fuse() && mount.mount_point == path);
            none && table.covering(&path).is_some_and(|mount| mount.device == over.device)
        });
        // Nobody sees the mount then, so that no spell tells of it.
        let last = scene.probes().filter(|seen| seen.actor == actor).last();
        has_it && last.is_some_and(|seen| !seen.outcome.is_ok())
    });
    bound.collect()
}

fn covered(scene: &Scene<'_>, found: &[(&Observation, &MountEntry)]) -> Option<Cause> {
    // One on the node propagates to consumers, so it is taken off there.
    let on_node = found.iter().find(|(seen, _)| seen.actor == Actor::Node);
    let (first, over) = *on_node.or(found.first())?;
    let seen: Vec<&Observation> = found.iter().map(|(seen, _)| *seen).collect();
    let at = over.mount_point.to_string_lossy();
    let who = first.actor.to_string();
    let bound = bound_to(scene, over);
    let then = match bound.is_empty() {
        true => String::new(),
        false => {
            let who = names(bound.iter().map(|spec| spec.name.as_str()));
            format!("; then restart {who}, which started with what lies over it")
        }
    };
    let words = format!(
        "take the {} off that lies over it{then}; what is to stay is mounted first, or elsewhere",
        over.fs_type
    );
    let unmount = match first.actor {
        Actor::Node => format!("umount --lazy {}{ON_THE_NODE}", shell(&at)),
        _ => format!("umount --lazy {}", shell(&at)),
    };
    let restarts = bound.iter().map(|spec| bind_again(scene, spec));
    let lines: Vec<String> = std::iter::once(unmount).chain(restarts).collect();
    let fix = Fix::command(words, lines.join("\n"));
    let mut evidence: Vec<String> = vec![first.to_string(), line(&who, over)];
    let path = scene.path_of(&first.actor);
    let table = scene.table_for(first)?;
    let below = table.iter().find(|mount| mount.is_fuse() && mount.mount_point == path);
    evidence.extend(below.map(|mount| line(&who, mount)));
    let cause = Cause {
        id: CauseId::MountHidden,
        from_step: None,
        until_step: None,
        title: format!(
            "a {} mounted at {at} of {who} lies over the FUSE mount and hides it: the daemon lives, its mount is in \
             the table, and a path leads to what is on top",
            over.fs_type
        ),
        confidence: Confidence::Likely,
        actors: first_replicas(&seen),
        mounts: vec![MountRef::new(who.clone(), over.mount_id)],
        evidence,
        fix: match &first.actor {
            Actor::Workload { name, .. } => fix.inside(name.clone()),
            _ => fix,
        },
        verify: format!(
            "findmnt --target {}   # the FUSE mount, for {who}",
            shell(&path.to_string_lossy())
        ),
        source: "mount(2); mount_namespaces(7)".into(),
    };
    Some(scene.history.when(&seen).of(cause))
}
