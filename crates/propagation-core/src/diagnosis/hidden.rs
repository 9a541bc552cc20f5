//! Mounts that are there and are hidden: another one lies over them, or over a directory above them.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::scene::{Scene, first_replicas};
use super::text::{line, shell};
use crate::mountinfo::{MountEntry, MountRef};
use crate::observation::{Actor, Observation, Outcome};
use crate::plan::Role;

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

fn covered(scene: &Scene<'_>, found: &[(&Observation, &MountEntry)]) -> Option<Cause> {
    // One on the node propagates to consumers, so it is taken off there.
    let on_node = found.iter().find(|(seen, _)| seen.actor == Actor::Node);
    let (first, over) = *on_node.or(found.first())?;
    let seen: Vec<&Observation> = found.iter().map(|(seen, _)| *seen).collect();
    let at = over.mount_point.to_string_lossy();
    let who = first.actor.to_string();
    let words = format!(
        "take the {} off that lies over it; what is to stay is mounted first, or elsewhere",
        over.fs_type
    );
    let fix = Fix::command(words, format!("umount --lazy {}", shell(&at)));
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
