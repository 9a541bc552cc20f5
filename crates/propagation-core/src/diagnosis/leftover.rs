//! Unmounts and removals of directories that are refused because something is in use or mounted still.

use std::collections::BTreeMap;

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::ON_THE_NODE;
use super::scene::Scene;
use super::text::shell;
use crate::mountinfo::{DeviceId, MountPath, MountTable};
use crate::observation::{Access, Actor, Observation};
use crate::plan::{Fault, Repair};
use crate::report::{Act, Check, CheckId, Deed, Status};

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    busy(scene).into_iter().collect()
}

/// A program could not unmount, or could not remove a directory, because it is in use.
fn busy(scene: &Scene<'_>) -> Option<Cause> {
    let said = |check: &Check| {
        let of_program = matches!(check.id, CheckId::Run | CheckId::Done)
            || check.id == CheckId::Expect("run".to_owned());
        of_program
            && ["resource busy", "target is busy"].iter().any(|part| check.observed.contains(part))
    };
    let phases = &scene.report.phases;
    let place = phases.iter().position(|phase| phase.checks.iter().any(said))?;
    let phase = &phases[place];
    let check = phase.checks.iter().find(|check| said(check))?;
    let ran = |step: &str| {
        scene.report.acts.iter().filter(|act| act.step == step).find_map(|act| attempt(scene, act))
    };
    let command = ran(&phase.id).unwrap_or_else(|| phase.id.clone());
    let until = phases[place + 1..].iter().find(|later| {
        ran(&later.id).is_some() && !later.checks.iter().any(said) && later.status == Status::Passed
    });
    let unmounts = command.contains("umount") || command.contains("fusermount");
    let gone = taken_off(scene, place, &command).filter(|_| unmounts);
    let again = mounted_again(scene, place, &command).filter(|_| !unmounts);
    let mut evidence = vec![check.observed.clone()];
    if unmounts {
        evidence.extend(holders(scene, &phase.id));
    }
    let (id, title, fix) = match (unmounts, again) {
        (true, _) => (
            CauseId::UnmountBusy,
            format!("`{command}` is refused: somebody has a file or a directory of the mount open"),
            lazily(scene, place, &command),
        ),
        (false, Some(again)) => {
            let path = shell(&again.path.to_string_lossy());
            evidence.push(format!("{}: nothing is mounted at {path}", again.without));
            evidence.push(format!("{}: something is mounted at {path} again", again.with));
            (
                CauseId::RecoveryRacesUnpublish,
                format!(
                    "`{command}` is refused: after the unmount, and before the directory was removed, {} mounted at {path} \
                     again",
                    again.with
                ),
                Fix::command(
                    "let whoever recovers and whoever unpublishes hold one lock for each path, and let a recovery ask whether \
                     the volume is still wanted; then unmount and remove it once more",
                    format!("umount {path} && rmdir {path}   # on the node"),
                ),
            )
        }
        (false, None) => (
            CauseId::MountLeftBehind,
            format!(
                "`{command}` is refused: something is mounted on that directory or in it still"
            ),
            innermost_first(scene, place, &command),
        ),
    };
    Some(Cause {
        id,
        from_step: Some(phase.id.clone()),
        until_step: gone.or(until.map(|later| later.id.as_str())).map(str::to_owned),
        title,
        confidence: Confidence::Likely,
        actors: vec![Actor::Node],
        mounts: Vec::new(),
        evidence,
        fix,
        verify: "cat /proc/self/mountinfo   # nothing below that directory".into(),
        source: "umount(2), EBUSY; rmdir(2), EBUSY".into(),
    })
}

/// The last path that a command names.
fn path_in(command: &str) -> Option<&str> {
    command.split([' ', '"', '\'', ';', '&']).rfind(|word| word.starts_with('/'))
}

/// What an act runs; an unmount by a fault or a repair in the words of the program.
fn attempt(scene: &Scene<'_>, act: &Act) -> Option<String> {
    let path = shell(&scene.report.plan.bridge.fuse_path());
    match &act.deed {
        Deed::Run { command } => Some(command.join(" ")),
        Deed::Fault { fault: Fault::Unmount } | Deed::Repair { repair: Repair::UnmountMount } => {
            Some(format!("umount {path}"))
        }
        Deed::Fault { fault: Fault::LazyUnmount }
        | Deed::Repair { repair: Repair::LazyUnmountMount } => {
            Some(format!("umount --lazy {path}"))
        }
        _ => None,
    }
}

/// Who held a file of the mount open before a step: the last look of each.
fn holders(scene: &Scene<'_>, step: &str) -> Vec<String> {
    let place = scene.history.place(step);
    let mut last: BTreeMap<&Actor, &Observation> = BTreeMap::new();
    let earlier = |seen: &&Observation| scene.history.place(&seen.step) <= place;
    for seen in scene.report.timeline.iter().filter(|seen| seen.access == Access::Held) {
        if earlier(&seen) {
            last.insert(&seen.actor, seen);
        }
    }
    last.values().map(ToString::to_string).collect()
}

/// The mount of the node at a path before a step.
fn mount_before(scene: &Scene<'_>, place: usize, path: &MountPath) -> Option<DeviceId> {
    let captures = scene.report.captures.iter().rev();
    let mut before = captures.filter(|one| scene.history.place(&one.step) < place);
    let table = before.find_map(|one| one.table(&Actor::Node))?;
    Some(table.at(path)?.device)
}

/// The step in which what was to be taken off from the node is gone.
fn taken_off<'r>(scene: &Scene<'r>, place: usize, command: &str) -> Option<&'r str> {
    let path = path_in(command).map(MountPath::from)?;
    let device = mount_before(scene, place, &path)?;
    let lies = |table: &MountTable| table.stack_at(&path).iter().any(|one| one.device == device);
    let since = scene.report.captures.iter().filter(|one| {
        let at = scene.history.place(&one.step);
        at != usize::MAX && at >= place
    });
    let mut gone = since.filter(|one| one.table(&Actor::Node).is_some_and(|table| !lies(table)));
    gone.next().map(|one| one.step.as_str())
}

/// Fix for an unmount that was refused. Where another mount lies on top of it by now, that one would go first, and no
/// command is printed. Where it was taken off since, the command is for the next time.
fn lazily(scene: &Scene<'_>, place: usize, command: &str) -> Fix {
    let next = "let the next such unmount be a lazy one, or end whoever uses the mount first (fuser -vm names them)";
    if let Some(path) = path_in(command)
        && taken_off(scene, place, command).is_some()
    {
        return Fix::command(next, format!("umount --lazy {}{ON_THE_NODE}", shell(path)));
    }
    let path = path_in(command).map(MountPath::from);
    let before = path.as_ref().and_then(|path| mount_before(scene, place, path));
    let table = scene.last_table(&Actor::Node).map(|(_, table)| table);
    let now = path.and_then(|path| Some(table?.at(&path)?.device));
    if now != before {
        let covered = "another mount lies on top of it by now, and would go first";
        return Fix::words(format!("{covered}; {next}"));
    }
    let words = "end whoever uses the mount (fuser -vm names them), or unmount lazily, which takes it off at once and ends \
                 it with its last user";
    match path_in(command) {
        Some(path) => Fix::command(words, format!("umount --lazy {}{ON_THE_NODE}", shell(path))),
        None => Fix::words(words),
    }
}

/// Fix for a directory with mounts on it or in it.
fn innermost_first(scene: &Scene<'_>, place: usize, command: &str) -> Fix {
    let words = "unmount first what lies there, the innermost first, then remove the directory";
    let path = path_in(command).map(MountPath::from);
    let captures = scene.report.captures.iter();
    let before = captures.rev().filter(|one| scene.history.place(&one.step) < place);
    let table = before.filter_map(|one| one.table(&Actor::Node)).next();
    let (Some(path), Some(table)) = (path, table) else { return Fix::words(words) };
    let inside = table.iter().filter(|mount| mount.mount_point.starts_with(&path));
    let mut points: Vec<String> =
        inside.map(|mount| shell(&mount.mount_point.to_string_lossy())).collect();
    // What lies deeper has the longer path.
    points.sort_by_key(|point| std::cmp::Reverse(point.len()));
    let unmounts: Vec<String> = points.iter().map(|point| format!("umount {point}")).collect();
    match unmounts.is_empty() {
        true => Fix::words(words),
        false => {
            let path = shell(&path.to_string_lossy());
            let text = format!("{} && rmdir {path}{ON_THE_NODE}", unmounts.join(" && "));
            Fix::command(words, text)
        }
    }
}

/// A path at which a mount was taken off, and made again.
struct Again<'r> {
    path: &'r MountPath,
    /// The step after which nothing was mounted.
    without: &'r str,
    /// The step after which something was again.
    with: &'r str,
}

/// A path in a command on which something lies that had been taken off before.
fn mounted_again<'r>(scene: &Scene<'r>, place: usize, command: &str) -> Option<Again<'r>> {
    let before: Vec<(&str, &MountTable)> = scene
        .report
        .captures
        .iter()
        .filter(|one| scene.history.place(&one.step) < place)
        .filter_map(|one| Some((one.step.as_str(), one.table(&Actor::Node)?)))
        .collect();
    let (_, last) = before.last()?;
    let named = last.iter().map(|mount| &mount.mount_point).filter(|path| {
        let path = path.to_string_lossy();
        path.len() > 1 && command.split([' ', '"', '\'', ';']).any(|word| word == path)
    });
    named.into_iter().find_map(|path| {
        let there = |one: &(&str, &MountTable)| one.1.at(path).is_some();
        let gone = before.iter().rposition(|one| !there(one))?;
        let had = before[..gone].iter().any(there);
        let (without, with) = (before[gone].0, before.get(gone + 1)?.0);
        // A producer that starts again recovers nothing that somebody is about to remove.
        let recovers = scene.report.acts.iter().any(|act| {
            act.step == with
                && matches!(act.deed, Deed::Run { .. } | Deed::Publish | Deed::Repair { .. })
        });
        (had && recovers).then_some(Again { path, without, with })
    })
}
