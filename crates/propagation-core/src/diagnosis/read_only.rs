//! Writes that the kernel refuses because a mount is read-only, and those that it lets through though a volume is.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::{ON_THE_NODE, bind_again};
use super::dead::cause;
use super::options;
use super::scene::{Scene, first_replicas};
use super::text::{line, names, shell, yaml};
use crate::Class;
use crate::errno::Errno;
use crate::mountinfo::{MountEntry, MountRef, MountTable};
use crate::observation::{Access, Actor, Observation};
use crate::plan::WorkloadSpec;
use crate::report::{Act, Deed};

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    refused(scene).into_iter().chain(not_inherited(scene)).collect()
}

/// The option of mount(8) that changes a mount which is there.
const REMOUNT: &str = "remount";

/// A consumer writes through a mount that lies below its read-only volume.
fn not_inherited(scene: &Scene<'_>) -> Option<Cause> {
    let through = |seen: &&Observation| seen.access == Access::Write && seen.outcome.is_ok();
    let (seen, volume, below) = scene.asked().filter(through).find_map(|seen| {
        let Actor::Workload { name, .. } = &seen.actor else { return None };
        let table = scene.table_for(seen)?;
        let volume = table.at(&scene.paths(scene.spec(name)?).destination.as_str().into())?;
        let below = table.at(&scene.path_of(&seen.actor)).filter(|below| below.is_fuse())?;
        let lies_in_it = below.mount_id != volume.mount_id && below.parent_id == volume.mount_id;
        (lies_in_it && is_read_only(&volume.mount_options)).then_some((seen, volume, below))
    })?;
    let name = seen.actor.to_string();
    let at = shell(&below.mount_point.to_string_lossy());
    let cause = cause(
        CauseId::ReadOnlyNotInherited,
        format!(
            "the volume of {name} is read-only, and {} below it is not: read-only is an attribute of one mount, and a mount \
             propagates to a volume as it is mounted",
            below.mount_point
        ),
        vec![seen.to_string(), line(&name, volume), line(&name, below)],
        options::with(
            scene,
            scene.producer_of(Some(below.device), seen.at_us),
            "read_only: true",
            "ro",
            format!(
                "mount the filesystem itself read-only (option ro of the daemon); recursiveReadOnly makes read-only what is \
                 there when {name} starts, and nothing that is mounted later"
            ),
        ),
        format!("grep -F {at} /proc/self/mountinfo   # ro, for {name}"),
    );
    let mounts = vec![MountRef::new(name, below.mount_id)];
    let source =
        "https://kubernetes.io/docs/concepts/storage/volumes/#read-only-mounts; mount_setattr(2)"
            .into();
    let from_step = Some(seen.step.clone());
    Some(Cause { from_step, actors: vec![seen.actor.clone()], mounts, source, ..cause })
}

/// Somebody was to write, and the mount is read-only. Where that is expected it may be what is wanted.
fn refused(scene: &Scene<'_>) -> Option<Cause> {
    let refused = |seen: &&Observation| {
        seen.access == Access::Write
            && seen.outcome.class() == Class::Errno(Errno::EROFS)
            && mount_of(scene, seen).is_some()
    };
    let all: Vec<&Observation> = scene.asked().filter(refused).collect();
    let unexpected = all.iter().filter(|seen| !scene.is_expected_as_seen(seen));
    let mut seen: Vec<&Observation> = unexpected.copied().collect();
    let is_expected = seen.is_empty();
    if is_expected {
        seen = all;
    }
    if seen.iter().any(|one| scene.history.lasts(one)) {
        seen.retain(|one| scene.history.lasts(one));
    }
    let first = *seen.first()?;
    let mount = mount_of(scene, first)?;
    let whole = is_read_only(&mount.super_options);
    let actors = first_replicas(&seen);
    let who: Vec<String> = actors.iter().map(ToString::to_string).collect();
    let who = names(who.iter().map(String::as_str));
    let (what, fix) = match whole {
        true => ("the filesystem is mounted read-only", writable(scene, mount, first)),
        false => (
            "the mount there is read-only, and the filesystem is not",
            bound_writable(scene, mount, first, &who),
        ),
    };
    let remount = remounted(scene, first, mount, whole);
    let mut evidence = vec![first.to_string(), line(&first.actor, mount)];
    evidence.extend(remount.map(|act| format!("{}: {}", act.step, act.deed)));
    let cause = cause(
        CauseId::MountReadOnly,
        format!(
            "{who} cannot write: {what}, so the kernel answers EROFS and the daemon is not asked"
        ),
        evidence,
        fix,
        format!(
            "grep -F {} /proc/self/mountinfo   # rw, for {who}",
            shell(&mount.mount_point.to_string_lossy())
        ),
    );
    let mounts = vec![MountRef::new(first.actor.to_string(), mount.mount_id)];
    let source = "mount(2), MS_RDONLY; proc_pid_mountinfo(5)".into();
    let confidence = if is_expected { Confidence::Possible } else { Confidence::Likely };
    Some(scene.history.when(&seen).of(Cause { actors, mounts, source, confidence, ..cause }))
}

/// Fix for a filesystem that is read-only as a whole.
fn writable(scene: &Scene<'_>, mount: &MountEntry, seen: &Observation) -> Fix {
    let producer = scene.producer_of(Some(mount.device), seen.at_us);
    if let Some(act) = remounted(scene, seen, mount, true) {
        let at = producer.map_or_else(|| scene.fuse_path.clone(), |spec| scene.on_node(spec));
        // Without -i the helper of FUSE would start a daemon.
        let text = format!("mount -i -o remount,rw {}{ON_THE_NODE}", shell(&at.to_string_lossy()));
        let words = format!("leave out `{}`, and remount the filesystem for writes", ran(act));
        return Fix::command(words, text);
    }
    let words = "let the producer mount it without `ro`";
    let by_key = |spec: &&WorkloadSpec| {
        let fuse = scene.report.plan.fuse_of(spec);
        fuse.command.is_empty() && fuse.read_only
    };
    match producer.filter(by_key) {
        Some(_) => Fix::yaml(words, "fuse:\n  read_only: false   # the option ro of a daemon\n"),
        None => Fix::words(words),
    }
}

/// Fix for a mount that is read-only on a filesystem that is not: by what its volume asks for, by the mount of the node of
/// which it is a copy, or by a remount.
fn bound_writable(scene: &Scene<'_>, mount: &MountEntry, seen: &Observation, who: &str) -> Fix {
    let spec = match &seen.actor {
        Actor::Workload { name, .. } => scene.spec(name),
        _ => None,
    };
    let at = mount.mount_point.to_string_lossy();
    if spec.is_some_and(|spec| spec.bind.read_only || spec.bind.recursive_read_only) {
        return Fix::yaml(
            format!("leave out `readOnly: true` of the volumeMount of {who}"),
            format!(
                "volumeMounts:\n  - name: fuse\n    mountPath: {}\n    readOnly: false\n",
                yaml(&at)
            ),
        );
    }
    let leave_out = remounted(scene, seen, mount, false)
        .map(|act| format!("leave out `{}`; ", ran(act)))
        .unwrap_or_default();
    let restart = spec.filter(|spec| !spec.host).map(|spec| bind_again(scene, spec));
    let node = scene.table_in(&Actor::Node, &seen.step);
    let of_node = node.and_then(|table| {
        table.by_device(mount.device).find(|one| is_read_only(&one.mount_options))
    });
    let mut lines = Vec::new();
    lines.extend(of_node.map(|one| {
        let path = shell(&one.mount_point.to_string_lossy());
        format!("mount -i -o remount,bind,rw {path}{ON_THE_NODE}")
    }));
    lines.extend(restart);
    let words = match (of_node, spec) {
        (Some(one), Some(_)) => format!(
            "{leave_out}the mount of the node at {} is read-only, and a volume has the flags that its source had when its \
             container started: remount that for writes, then restart {who}",
            one.mount_point
        ),
        (Some(one), None) => format!("{leave_out}remount {} for writes", one.mount_point),
        (None, Some(_)) => {
            format!("{leave_out}restart {who}: the mount of the node can be written by now")
        }
        (None, None) => format!("{leave_out}leave out what binds it read-only"),
    };
    match lines.is_empty() {
        true => Fix::words(words),
        false => Fix::command(words, lines.join("\n")),
    }
}

/// The program that made a mount read-only before a write was refused: the options changed in its step, where somebody had
/// the filesystem. Of the flags of a mount only those of the actor's or the node's own count.
fn remounted<'r>(
    scene: &Scene<'r>,
    seen: &Observation,
    mount: &MountEntry,
    whole: bool,
) -> Option<&'r Act> {
    let read_only = |table: &MountTable| {
        let mut own = table.by_device(mount.device);
        own.any(|one| is_read_only(if whole { &one.super_options } else { &one.mount_options }))
    };
    let actors = [Actor::Node, seen.actor.clone()];
    let changed = |act: &Act| {
        actors.iter().any(|actor| {
            let captures = scene.report.captures.iter();
            let has = |table: &&MountTable| table.by_device(mount.device).next().is_some();
            let tables = captures.filter_map(|one| Some((one, one.table(actor).filter(has)?)));
            let before = tables.clone().rfind(|(one, _)| one.at_us < act.from_us);
            let after = tables.clone().find(|(one, _)| one.at_us >= act.until_us);
            before.is_some_and(|(_, table)| !read_only(table))
                && after.is_some_and(|(_, table)| read_only(table))
        })
    };
    let acts = scene.report.acts.iter().rev().filter(|act| act.from_us <= seen.at_us);
    let mut remounts = acts.filter(|act| match &act.deed {
        Deed::Run { command } => command.iter().any(|word| word.contains(REMOUNT)),
        _ => false,
    });
    remounts.find(|act| changed(act))
}

fn ran(act: &Act) -> String {
    match &act.deed {
        Deed::Run { command } => command.join(" "),
        other => other.to_string(),
    }
}

/// The read-only mount at which somebody looked.
pub(super) fn mount_of<'r>(scene: &Scene<'r>, seen: &Observation) -> Option<&'r MountEntry> {
    let mount = scene.table_for(seen)?.covering(&scene.path_of(&seen.actor))?;
    let read_only = is_read_only(&mount.mount_options) || is_read_only(&mount.super_options);
    read_only.then_some(mount)
}

fn is_read_only(options: &str) -> bool {
    options.split(',').any(|option| option == "ro")
}
