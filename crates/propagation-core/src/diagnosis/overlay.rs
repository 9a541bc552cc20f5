//! Overlays with a layer on a FUSE mount: they keep the superblocks that they were made of.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::{ON_THE_NODE, restart_container};
use super::scene::{Scene, first_replicas};
use super::text::{line, shell};
use crate::Class;
use crate::errno::Errno;
use crate::mountinfo::{MountEntry, MountPath, MountRef};
use crate::observation::{Actor, Observation, Outcome};
use crate::report::{Act, Check, CheckId, Deed};

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    lower_died(scene).into_iter().chain(upper_refused(scene)).collect()
}

/// An overlay was refused because its upper layer was to lie on a FUSE mount.
fn upper_refused(scene: &Scene<'_>) -> Option<Cause> {
    let (act, said, mount) = scene.report.acts.iter().rev().find_map(|act| {
        let Deed::Run { command } = &act.deed else { return None };
        let words = command.iter().flat_map(|word| word.split([',', ' ']));
        let upper = words.filter_map(|word| word.strip_prefix("upperdir=")).next()?;
        let actor = act.on.first().map_or(Actor::Node, |name| Actor::workload(name.clone()));
        let mount = scene.table_in(&actor, &act.step)?.covering(&MountPath::from(upper))?;
        let of_program = |check: &&Check| {
            matches!(check.id, CheckId::Run) || check.id == CheckId::Expect("run".to_owned())
        };
        let mut checks = scene.report.phase(&act.step)?.checks.iter().filter(of_program);
        let said = checks.find(|check| check.observed.contains("wrong fs type"))?;
        mount.is_fuse().then_some((act, said, mount))
    })?;
    let later = scene.report.phases.iter().skip_while(|phase| phase.id != act.step).nth(1);
    Some(Cause {
        id: CauseId::FuseAsUpperDir,
        from_step: Some(act.step.clone()),
        until_step: later.map(|phase| phase.id.clone()),
        title: format!(
            "the overlay is refused (EINVAL): its upper layer lies on the FUSE mount {}, and an upper layer needs what a FUSE \
             filesystem does not offer (whiteouts, trusted or user attributes, O_TMPFILE); as a lower layer it will do",
            mount.mount_point
        ),
        confidence: Confidence::Likely,
        actors: vec![Actor::Node],
        mounts: vec![MountRef::new("node", mount.mount_id)],
        evidence: vec![said.observed.clone(), line("node", mount)],
        fix: on_the_disk(act),
        verify: "dmesg | grep 'not supported as upperdir'   # nothing new".into(),
        source: "https://docs.kernel.org/filesystems/overlayfs.html, Upper and Lower".into(),
    })
}

/// The command that was refused, with an upper layer on the disk.
fn on_the_disk(act: &Act) -> Fix {
    const DISK: &str = "/var/tmp/overlay";
    let words = "put upperdir and workdir on a filesystem of the disk, and leave the FUSE mount as lowerdir; fuse-overlayfs \
                 takes it as upper layer too";
    let Deed::Run { command } = &act.deed else { return Fix::words(words) };
    let moved = |option: &str| match option.split_once('=') {
        Some((key @ ("upperdir" | "workdir"), _)) => format!("{key}={DISK}/{key}"),
        _ => option.to_owned(),
    };
    let word = |word: &String| {
        let options: Vec<String> = word.split(',').map(moved).collect();
        shell(&options.join(","))
    };
    // What a shell is to do is not a list of words.
    if command.iter().any(|word| word.contains(' ')) {
        return Fix::words(words);
    }
    let again: Vec<String> = command.iter().map(word).collect();
    let fix = Fix::command(
        words,
        format!("mkdir -p {DISK}/upperdir {DISK}/workdir && {}", again.join(" ")),
    );
    match act.on.first() {
        Some(name) => fix.inside(name.clone()),
        None => fix,
    }
}

/// An actor gets errors from an overlay that had a layer on a FUSE mount.
fn lower_died(scene: &Scene<'_>) -> Option<Cause> {
    let failing = scene.history.spells.iter().filter(|spell| {
        spell
            .seen
            .iter()
            .any(|seen| matches!(seen.outcome, Outcome::Errno { .. } | Outcome::Hang { .. }))
    });
    let on_overlay: Vec<_> = failing
        .filter_map(|spell| {
            let seen = *spell.seen.last()?;
            let (mount, layer) = overlay_of(scene, seen)?;
            Some((spell, seen, mount, layer))
        })
        .collect();
    let lasts = on_overlay.iter().any(|(spell, ..)| spell.lasts());
    let counted: Vec<_> =
        on_overlay.into_iter().filter(|(spell, ..)| !lasts || spell.lasts()).collect();
    let (_, seen, mount, layer) = counted.first()?;
    let all: Vec<&Observation> = counted.iter().map(|(_, seen, ..)| *seen).collect();
    let name = seen.actor.to_string();
    let at = on_node(scene, seen).unwrap_or_else(|| mount.mount_point.clone());
    let dead = scene.asked().find(|one| {
        let there = one.mount.as_ref().is_some_and(|there| there.mount_point == *layer);
        there && one.outcome.class() == Class::Errno(Errno::ENOTCONN) && one.at_us <= seen.at_us
    });
    let mut evidence: Vec<String> = all.iter().take(4).map(ToString::to_string).collect();
    evidence.push(line(&name, mount));
    evidence.extend(dead.map(ToString::to_string));
    let cause = Cause {
        id: CauseId::OverlayLowerDied,
        from_step: None,
        until_step: None,
        title: died(&name, layer),
        confidence: Confidence::Likely,
        actors: first_replicas(&all),
        mounts: vec![MountRef::new(name.clone(), mount.mount_id)],
        evidence,
        fix: Fix::command(
            format!(
                "once {layer} is mounted again, make the overlay anew on the node, then restart {name}, which \
                 binds it"
            ),
            again(&at, mount, &all),
        ),
        verify: format!("stat {}   # no error", shell(&at.to_string_lossy())),
        source: SOURCE.into(),
    };
    Some(scene.history.when(&all).of(cause))
}

/// Makes an overlay anew on the node, and restarts whoever binds it.
fn again(at: &MountPath, mount: &MountEntry, failing: &[&Observation]) -> String {
    let make = format!("{}{ON_THE_NODE}", make_anew(at, mount));
    let whose = first_replicas(failing);
    let restarts = whose.iter().filter_map(|actor| match actor {
        Actor::Workload { name, .. } => Some(restart_container(name)),
        _ => None,
    });
    std::iter::once(make).chain(restarts).collect::<Vec<_>>().join("\n")
}

/// The overlay that an actor looked at, with the layer that lies on a FUSE mount.
fn overlay_of<'r>(scene: &Scene<'r>, seen: &Observation) -> Option<(&'r MountEntry, MountPath)> {
    let view = seen.mount.as_ref().filter(|mount| mount.fs_type == "overlay")?;
    let table = scene.table_for(seen)?;
    let mount = table
        .iter()
        .find(|mount| mount.mount_point == view.mount_point && mount.device == view.device)?;
    Some((mount, layer_on_fuse(scene, mount)?))
}

/// The layer of an overlay that lies on a FUSE mount.
fn layer_on_fuse(scene: &Scene<'_>, mount: &MountEntry) -> Option<MountPath> {
    if mount.fs_type != "overlay" {
        return None;
    }
    let lower =
        mount.super_options.split(',').find_map(|option| option.strip_prefix("lowerdir="))?;
    let mut layers = lower.split(':').filter(|path| path.starts_with('/')).map(MountPath::from);
    layers.find(|path| {
        path.starts_with(&scene.fuse_path)
            || scene.fuse_mounts().iter().any(|(_, fuse)| path.starts_with(&fuse.mount_point))
    })
}

/// A program met an overlay of which a layer has died.
pub(super) fn met(
    scene: &Scene<'_>,
    actor: &Actor,
    mount: &MountEntry,
    evidence: Vec<String>,
) -> Option<Cause> {
    let layer = layer_on_fuse(scene, mount)?;
    let at = &mount.mount_point;
    let fix = Fix::command(
        format!("once {layer} is mounted again, make the overlay anew where it was made"),
        make_anew(at, mount),
    );
    Some(Cause {
        id: CauseId::OverlayLowerDied,
        from_step: None,
        until_step: None,
        title: died(&actor.to_string(), &layer),
        confidence: Confidence::Likely,
        actors: vec![actor.clone()],
        mounts: vec![MountRef::new(actor.to_string(), mount.mount_id)],
        evidence,
        fix: match actor {
            Actor::Workload { name, .. } => fix.inside(name.clone()),
            _ => Fix { text: format!("{}{ON_THE_NODE}", fix.text), ..fix },
        },
        verify: format!("stat {}   # no error, for {actor}", shell(&at.to_string_lossy())),
        source: SOURCE.into(),
    })
}

const SOURCE: &str =
    "https://docs.kernel.org/filesystems/overlayfs.html, Changes to underlying filesystems";

fn died(name: &str, layer: &MountPath) -> String {
    format!(
        "{name} reads an overlay whose lower layer lies on the FUSE mount {layer}, and that filesystem has died: an overlay \
         keeps the superblock that it was made of, and gives ESTALE or ENOTCONN whatever is mounted there afterwards"
    )
}

fn make_anew(at: &MountPath, mount: &MountEntry) -> String {
    let at = shell(&at.to_string_lossy());
    format!("umount --lazy {at}; mount -t overlay overlay -o {} {at}", shell(&layers(mount)))
}

/// Path of the overlay on the node.
fn on_node(scene: &Scene<'_>, seen: &Observation) -> Option<MountPath> {
    let device = seen.mount.as_ref()?.device;
    // It may have been taken off since, in the same step.
    let then = scene.table_in(&Actor::Node, &seen.step);
    let tables = scene.report.captures.iter().rev().filter_map(|one| one.table(&Actor::Node));
    let mut at = then.into_iter().chain(tables).flat_map(|table| table.by_device(device));
    at.next().map(|mount| mount.mount_point.clone())
}

/// The options that name the layers of an overlay.
fn layers(mount: &MountEntry) -> String {
    let of_layers = |option: &&str| {
        ["lowerdir=", "upperdir=", "workdir="].iter().any(|key| option.starts_with(key))
    };
    mount.super_options.split(',').filter(of_layers).collect::<Vec<_>>().join(",")
}
