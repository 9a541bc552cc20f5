//! What a program met that nobody else looks at: a bind of its own, an overlay, a mount in the mount, files below it.

use super::cause::{Cause, CauseId, Fix};
use super::commands::ON_THE_NODE;
use super::dead::cause;
use super::overlay;
use super::scene::Scene;
use super::text::{SHARED_SUBTREES, line, shell};
use crate::errno::Errno;
use crate::mountinfo::{MountEntry, MountPath, MountRef, MountTable};
use crate::observation::Actor;
use crate::report::{Act, Check, CheckId, Deed, PhaseReport};

/// A program that failed.
struct Failed<'r> {
    act: &'r Act,
    actor: Actor,
    command: String,
    said: &'r str,
    table: &'r MountTable,
    /// The paths that it names, those of its error first.
    paths: Vec<MountPath>,
}

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    for failed in failed(scene) {
        let met = match Errno::said_in(failed.said) {
            Some(Errno::ENOTCONN | Errno::ESTALE) => died(scene, &failed),
            Some(Errno::ENOENT) => {
                went_along(scene, &failed).or_else(|| written_below(scene, &failed))
            }
            _ => None,
        };
        causes.extend(met.map(|cause| Cause {
            from_step: Some(failed.act.step.clone()),
            until_step: passed_again(scene, &failed),
            ..cause
        }));
    }
    causes
}

/// Programs that failed, expected or not, whose actor can use its own mount at that time: what they met is not what
/// everybody meets.
fn failed<'r>(scene: &Scene<'r>) -> Vec<Failed<'r>> {
    let acts = scene.report.acts.iter().filter_map(|act| {
        let Deed::Run { command } = &act.deed else { return None };
        let said = &outcome(scene.report.phase(&act.step)?)?.observed;
        let actor = act.on.first().map_or(Actor::Node, |name| Actor::workload(name.clone()));
        let own = scene.probes().filter(|seen| seen.actor == actor);
        let last = own.filter(|seen| seen.at_us <= act.until_us || seen.step == act.step).last()?;
        if !last.outcome.is_ok() {
            return None;
        }
        let table = scene.table_in(&actor, &act.step)?;
        let mut paths = paths_in(said);
        paths.extend(command.iter().flat_map(|word| paths_in(word)));
        Some(Failed { act, actor, command: command.join(" "), said, table, paths })
    });
    acts.collect()
}

/// The check of a step's program, where that failed.
fn outcome(phase: &PhaseReport) -> Option<&Check> {
    let of_program = |check: &&Check| {
        matches!(check.id, CheckId::Run | CheckId::Done)
            || check.id == CheckId::Expect("run".to_owned())
    };
    phase.checks.iter().filter(of_program).find(|check| Errno::said_in(&check.observed).is_some())
}

/// The absolute paths in a text, without the marks around them.
fn paths_in(text: &str) -> Vec<MountPath> {
    let words = text.split([' ', '\'', '"', '\n', ';', '`', '(', ')', '=', '‘', '’']);
    let words = words.map(|word| word.trim_end_matches([':', ',', '.']));
    words.filter(|word| word.starts_with('/') && word.len() > 1).map(MountPath::from).collect()
}

/// The step in which the same program did what was expected of it.
fn passed_again(scene: &Scene<'_>, failed: &Failed<'_>) -> Option<String> {
    let later = scene.report.acts.iter().filter(|act| act.from_us > failed.act.from_us);
    let mut passed = later.filter(|act| {
        act.on == failed.act.on
            && act.deed == failed.act.deed
            && scene.report.phase(&act.step).is_some_and(|phase| outcome(phase).is_none())
    });
    passed.next().map(|act| act.step.clone())
}

impl Failed<'_> {
    fn evidence(&self, mounts: &[&MountEntry]) -> Vec<String> {
        let ran = format!("run in {}, in {}: {}", self.act.step, self.actor, self.command);
        let mounts = mounts.iter().map(|mount| line(&self.actor, mount));
        [ran, self.said.to_owned()].into_iter().chain(mounts).collect()
    }

    /// A fix that is done where the program ran.
    fn here(&self, words: String, text: String) -> Fix {
        match &self.actor {
            Actor::Workload { name, .. } => Fix::command(words, text).inside(name.clone()),
            _ => Fix::command(words, format!("{text}{ON_THE_NODE}")),
        }
    }
}

/// A program met a mount of a filesystem that has died, at another path than its actor's.
fn died(scene: &Scene<'_>, failed: &Failed<'_>) -> Option<Cause> {
    let own = scene.path_of(&failed.actor);
    let fresh = failed.table.at(&own).filter(|mount| mount.is_fuse())?;
    failed.paths.iter().find_map(|path| {
        let mount = failed.table.covering(path)?;
        if mount.fs_type == "overlay" {
            return overlay::met(scene, &failed.actor, mount, failed.evidence(&[mount]));
        }
        let is_other = mount.is_fuse() && mount.device != fresh.device;
        let is_known = scene.fuse_mounts().iter().any(|(_, one)| one.device == mount.device);
        (is_other && is_known).then(|| old_bind(failed, mount, fresh, &own))
    })
}

fn old_bind(failed: &Failed<'_>, mount: &MountEntry, fresh: &MountEntry, own: &MountPath) -> Cause {
    let (actor, at) = (&failed.actor, &mount.mount_point);
    let root = mount.root.to_string_lossy();
    let source = format!("{}{}", own.to_string_lossy(), root.trim_end_matches('/'));
    let path = shell(&at.to_string_lossy());
    Cause {
        actors: vec![actor.clone()],
        mounts: vec![MountRef::new(actor.to_string(), mount.mount_id)],
        source: SHARED_SUBTREES.into(),
        ..cause(
            CauseId::StalePublishPath,
            format!(
                "`{}` in {actor} meets a bind of the mount at {at}, which holds the old filesystem: the fresh mount at {own} is \
                 not bound there by itself",
                failed.command
            ),
            failed.evidence(&[mount, fresh]),
            failed.here(
                format!(
                    "bind the fresh mount at {at} of {actor} again; better, use {own} itself, or a link to it, which follows every \
                     mount"
                ),
                format!("umount --lazy {path}; mount --bind {} {path}", shell(&source)),
            ),
            format!("stat -c %d {} {path}   # the same twice, for {actor}", shell(&source)),
        )
    }
}

/// A mount that lay in the FUSE mount went with it when that was unmounted.
fn went_along(scene: &Scene<'_>, failed: &Failed<'_>) -> Option<Cause> {
    let before = scene.report.captures.iter().filter(|one| one.at_us < failed.act.from_us);
    let tables: Vec<(&str, &MountTable)> =
        before.filter_map(|one| Some((one.step.as_str(), one.table(&failed.actor)?))).collect();
    let (at, mount, gone) = failed.paths.iter().find_map(|path| {
        let had = tables.iter().rposition(|(_, table)| inner(table, path).is_some())?;
        let mount = inner(tables[had].1, path)?;
        let (gone, _) = tables.get(had + 1)?;
        // What was unmounted by itself, or lies there again, is nobody's loss.
        let at = mount.mount_point.to_string_lossy();
        let named = |act: &Act| matches!(&act.deed, Deed::Run { command } if command.join(" ").contains(&*at));
        let mut acts = scene.report.acts.iter().filter(|act| act.step == *gone);
        let went_along = !acts.any(named);
        let is_gone = failed.table.stack_at(&mount.mount_point).is_empty();
        (went_along && is_gone).then_some((&mount.mount_point, mount, *gone))
    })?;
    let path = shell(&at.to_string_lossy());
    let words = format!(
        "mount it at {at} again, whenever the FUSE mount has been made anew; better, mount it beside the FUSE mount, where no \
         unmount takes it along"
    );
    let is_whole = mount.root == MountPath::from("/") && !mount.is_fuse();
    let fix = match is_whole {
        true => failed.here(
            words,
            format!(
                "mount -t {} {} {path}",
                shell(&mount.fs_type),
                shell(&mount.source.to_string_lossy())
            ),
        ),
        // What was bound there, or who serves it, the mount table does not tell.
        false => Fix::words(words),
    };
    let actor = &failed.actor;
    Some(Cause {
        actors: vec![actor.clone()],
        mounts: vec![MountRef::new(actor.to_string(), mount.mount_id)],
        source: "umount(2), MNT_DETACH".into(),
        ..cause(
            CauseId::MountGone,
            format!(
                "the {} that was mounted at {at}, in the FUSE mount, went with it in {gone}: an unmount takes along what lies in \
                 it, and nobody has mounted it again",
                mount.fs_type
            ),
            failed.evidence(&[mount]),
            fix,
            format!("findmnt --mountpoint {path}   # for {actor}"),
        )
    })
}

/// The mount that covers a path, where it lies on a FUSE mount.
fn inner<'r>(table: &'r MountTable, path: &MountPath) -> Option<&'r MountEntry> {
    let mount = table.covering(path)?;
    let below = table.by_id(mount.parent_id)?;
    (below.is_fuse() && below.mount_point != mount.mount_point).then_some(mount)
}

/// A file was written below the mountpoint while nothing was mounted there, and the next mount hides it.
fn written_below(scene: &Scene<'_>, failed: &Failed<'_>) -> Option<Cause> {
    const BELOW: &str = "/run/below-the-mount";
    let own = scene.path_of(&failed.actor);
    let fuse = failed.table.at(&own).filter(|mount| mount.is_fuse())?;
    let mut paths = failed.paths.iter();
    let (path, wrote) = paths.find_map(|path| {
        let inside = path.strip_prefix(&own).filter(|rest| !rest.as_bytes().is_empty())?;
        let wrote = wrote(scene, failed, &inside)?;
        Some((inside, wrote))
    })?;
    let (inside, at) = (path.to_string_lossy(), scene.wanted_by_actor(&failed.actor));
    let inside = inside.trim_start_matches('/');
    let at = at.to_string_lossy();
    let (above, name) = at.rsplit_once('/').map(|(above, name)| match above {
        "" => ("/", name),
        above => (above, name),
    })?;
    let (from, to) = (shell(&format!("{BELOW}/{name}/{inside}")), shell(&format!("{at}/{inside}")));
    let text = format!(
        "mkdir -p {BELOW} && mount --bind {} {BELOW} && cp -R {from} {to} && rm -r {from}; umount {BELOW}; rmdir \
         {BELOW}{ON_THE_NODE}",
        shell(above)
    );
    let (act, who) = wrote;
    let Deed::Run { command } = &act.deed else { return None };
    let command = command.join(" ");
    Some(Cause {
        actors: vec![failed.actor.clone()],
        mounts: vec![MountRef::new(failed.actor.to_string(), fuse.mount_id)],
        source: "mount(8), Bind mount operation".into(),
        ..cause(
            CauseId::LowerFilesystemWritten,
            format!(
                "{inside} lies in the directory under the mountpoint: `{command}` in {who} wrote it in {} while nothing was \
                 mounted there, and the mount hides it now",
                act.step
            ),
            [vec![format!("run in {}, in {who}: {command}", act.step)], failed.evidence(&[fuse])]
                .concat(),
            Fix::command(
                "bind the directory above the mountpoint elsewhere, which shows what the mount hides, and move the file into \
                 the mount from there; then let the directory refuse writes (chattr +i) while nothing is mounted on it",
                text,
            ),
            format!("ls -l {to}   # on the node"),
        )
    })
}

/// The program that named a file in an actor's mountpoint, when nothing was mounted there, and did what was expected.
fn wrote<'r>(
    scene: &Scene<'r>,
    failed: &Failed<'_>,
    inside: &MountPath,
) -> Option<(&'r Act, Actor)> {
    let acts = scene.report.acts.iter().filter(|act| act.from_us < failed.act.from_us);
    let mut wrote = acts.rev().filter_map(|act| {
        let Deed::Run { command } = &act.deed else { return None };
        let actor = act.on.first().map_or(Actor::Node, |name| Actor::workload(name.clone()));
        let own = scene.path_of(&actor);
        let named = command.iter().flat_map(|word| paths_in(word));
        let mut named = named.filter_map(|path| path.strip_prefix(&own));
        let bare = scene.table_in(&actor, &act.step)?.stack_at(&own);
        let bare = !bare.iter().any(|mount| mount.is_fuse());
        let done = outcome(scene.report.phase(&act.step)?).is_none() && act.refused.is_none();
        let same = scene.wanted_by_actor(&actor) == scene.wanted_by_actor(&failed.actor);
        (bare && done && same && named.any(|path| path == *inside)).then_some((act, actor))
    });
    wrote.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_what_programs_say() {
        let said = "ls: cannot access '/mnt/dfs/movie.mkv': No such file or directory";
        assert_eq!(paths_in(said), [MountPath::from("/mnt/dfs/movie.mkv")]);
        assert_eq!(paths_in("stat /a: x; cat=/b"), ["/a", "/b"].map(MountPath::from));
        assert!(paths_in("/ and/or nothing").is_empty());
    }
}
