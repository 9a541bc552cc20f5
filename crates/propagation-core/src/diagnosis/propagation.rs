//! Consumers that could not use the mount while the node could: which of their own mounts is in the
//! way.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::{self, ON_THE_NODE};
use super::hidden;
use super::host::covering_cause;
use super::runtime;
use super::scene::{Scene, Stranded};
use super::text::{KUBERNETES_MODES, SHARED_SUBTREES, line, names, shell, yaml};
use super::visibility::{Broken, visibility_of_existing};
use crate::errno::Errno;
use crate::mountinfo::{DeviceId, MountEntry, MountPath, MountPropagation, MountRef, MountTable};
use crate::observation::{Actor, Observation, Outcome};
use crate::plan::{Propagation, Role, Volume};
use crate::program::RefusalKind;
use crate::report::Deed;

/// Why one consumer is without the mount.
enum Why<'r> {
    /// Its volume is private and it started before the mount.
    ModeNone(&'r MountEntry),
    /// Its volume is private, it started after the mount and keeps the copy of that moment.
    FrozenCopy(&'r MountEntry),
    /// Its volume is the FUSE mount itself, or a file or a part of it.
    Pinned(Pin, &'r MountEntry),
    /// Its volume is a path of the node's on which an old bind of the mount lies.
    StalePublishPath(&'r MountEntry),
    /// Its volume shows the directory under the mountpoint: the bind did not take the mount along.
    BindNotRecursive(&'r MountEntry),
    /// The fresh mount is there, under a dead one that was made on its own side.
    HiddenByDead(&'r MountEntry),
    /// What covers its volume was private when it started, so that it could not be connected.
    CoveredAtStart(&'r MountEntry, &'r MountTable),
    /// It was made in a mount namespace that never had the mount.
    RuntimeApart(&'r MountEntry),
    /// Its volume is not connected to where the producer's mount landed.
    NotConnected(Box<Cause>),
}

/// What of the mount is bound as a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pin {
    Mountpoint,
    File,
    SubPath,
    /// A subPath that was bound before the mount.
    SubPathBefore,
}

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let (lasting, over): (Vec<_>, Vec<_>) =
        scene.stranded.iter().partition(|stranded| stranded.lasts);
    let mut causes: Vec<Cause> =
        [lasting, over].into_iter().flat_map(|stranded| of_all(scene, &stranded)).collect();
    // What began first is told first.
    causes.sort_by_key(|cause| {
        (cause.is_over(), cause.from_step.as_deref().map(|step| scene.history.place(step)))
    });
    causes.extend(keeps_what_is_unmounted(scene));
    causes
}

fn name_of(actor: &Actor) -> Option<&str> {
    match actor {
        Actor::Workload { name, .. } => Some(name),
        _ => None,
    }
}

/// A private volume has a copy of a mount that the node has unmounted: the filesystem lives as long as that.
fn keeps_what_is_unmounted(scene: &Scene<'_>) -> Option<Cause> {
    if scene.report.plan.is_five_phases() {
        return None;
    }
    let absent = |step: &str| {
        let last = scene.node.iter().rev().find(|seen| seen.step == step);
        last.filter(|seen| matches!(seen.outcome, Outcome::Absent)).copied()
    };
    let unmounted = |seen: &Observation| {
        let device = seen.mount.as_ref().filter(|mount| mount.is_fuse())?.device;
        let node = absent(&seen.step)?;
        let had = scene.node.iter().any(|one| {
            one.outcome.is_ok() && one.mount.as_ref().is_some_and(|mount| mount.device == device)
        });
        let table = scene.table_for(seen)?;
        let fuse = table.at(&scene.path_of(&seen.actor))?;
        // A bind of the mount itself is meant to stay.
        let below = table.by_id(fuse.parent_id)?;
        let volume =
            MountPath::from(scene.paths(scene.spec(name_of(&seen.actor)?)?).destination.as_str());
        (had && is_private(fuse) && below.mount_point == volume).then_some((node, fuse))
    };
    let keeps = scene
        .probes()
        .filter(|seen| seen.outcome.is_ok() && scene.role_of(&seen.actor) == Some(Role::Consumer));
    let found: Vec<_> =
        keeps.filter_map(|seen| unmounted(seen).map(|(node, fuse)| (seen, node, fuse))).collect();
    let (first, node, fuse) = found.first()?;
    let (last, ..) = found.last()?;
    let name = first.actor.to_string();
    // Until it is restarted, or ended.
    let later = scene.report.phases.iter().skip_while(|phase| phase.id != last.step).nth(1);
    Some(Cause {
        id: CauseId::ConsumerPinsMount,
        from_step: Some(first.step.clone()),
        until_step: later.map(|phase| phase.id.clone()),
        title: format!(
            "the volume of {name} is private (mountPropagation None): it copied the mount at its start, the unmount \
             on the node does not reach it, and the filesystem lives on as long as that copy"
        ),
        confidence: Confidence::Likely,
        actors: vec![first.actor.clone()],
        mounts: vec![MountRef::new(name.clone(), fuse.mount_id)],
        evidence: vec![first.to_string(), node.to_string(), line(&name, fuse)],
        fix: Fix::yaml(
            format!("set mountPropagation: HostToContainer on its volume, and start {name} anew"),
            format!(
                "volumeMounts:\n  - name: fuse\n    mountPath: {}\n    mountPropagation: HostToContainer\n",
                yaml(&fuse.mount_point.to_string_lossy())
            ),
        ),
        verify: format!(
            "kubectl exec {name} -- grep -c fuse /proc/self/mountinfo   # 0 after an unmount on the node"
        ),
        source: format!("{KUBERNETES_MODES}; {SHARED_SUBTREES}"),
    })
}

fn of_all<'r>(scene: &Scene<'r>, stranded: &[&Stranded<'r>]) -> Vec<Cause> {
    let (mut none, mut frozen, mut pinned) = (Vec::new(), Vec::new(), Vec::new());
    let (mut publish, mut bound, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
    let (mut apart, mut causes) = (Vec::new(), Vec::new());
    for stranded in stranded {
        match why(scene, stranded) {
            Some(Why::ModeNone(mount)) => none.push((*stranded, mount)),
            Some(Why::FrozenCopy(mount)) => frozen.push((*stranded, mount)),
            Some(Why::Pinned(Pin::Mountpoint, _) | Why::StalePublishPath(_))
                if is_refused(scene, stranded) => {}
            Some(Why::Pinned(pin, mount)) => pinned.push((pin, (*stranded, mount))),
            Some(Why::StalePublishPath(mount)) => publish.push((*stranded, mount)),
            Some(Why::BindNotRecursive(mount)) => bound.push((*stranded, mount)),
            Some(Why::CoveredAtStart(mount, table)) => {
                let cause = covered_at_start(scene, stranded, mount, table);
                causes.extend(cause.map(|cause| timed(scene, &[stranded], cause)));
            }
            Some(Why::HiddenByDead(mount)) => hidden.push((*stranded, mount)),
            Some(Why::RuntimeApart(mount)) => apart.push((*stranded, mount)),
            Some(Why::NotConnected(cause)) => causes.push(timed(scene, &[stranded], *cause)),
            None => {}
        }
    }
    let of = |wanted: Pin| -> Vec<Found<'_, 'r>> {
        pinned.iter().filter(|(pin, _)| *pin == wanted).map(|(_, found)| *found).collect()
    };
    let (mountpoint, file) = (of(Pin::Mountpoint), of(Pin::File));
    let (sub_path, before) = (of(Pin::SubPath), of(Pin::SubPathBefore));
    for (found, cause) in [
        (&apart, runtime::without_the_mount(scene, &apart)),
        (&none, mode_none(scene, &none)),
        (&frozen, frozen_copy(scene, &frozen)),
        (&bound, bind_not_recursive(scene, &bound)),
        (&publish, stale_publish_path(scene, &publish)),
        (&mountpoint, volume_is_mountpoint(scene, &mountpoint)),
        (&file, file_pins(scene, &file)),
        (&sub_path, sub_path_pins(scene, &sub_path)),
        (&before, sub_path_before(scene, &before)),
        (&hidden, hidden_by_dead(&hidden)),
    ] {
        let whose: Vec<&Stranded<'r>> = found.iter().map(|(stranded, _)| *stranded).collect();
        causes.extend(cause.map(|cause| timed(scene, &whose, cause)));
    }
    causes
}

/// Adds to a cause the period in which the actors that it concerns were without the mount.
fn timed(scene: &Scene<'_>, stranded: &[&Stranded<'_>], cause: Cause) -> Cause {
    let seen: Vec<&Observation> =
        stranded.iter().flat_map(|one| one.seen.iter().copied()).collect();
    scene.history.when(&seen).of(cause)
}

/// Whether a container was refused later because its source is dead, which tells more.
fn is_refused(scene: &Scene<'_>, stranded: &Stranded<'_>) -> bool {
    let place = scene.history.place(&stranded.sample().step);
    scene.refused(RefusalKind::DeadSource).iter().any(|failure| {
        failure.workload == stranded.name && scene.history.place(&failure.step) > place
    })
}

fn why<'r>(scene: &Scene<'r>, stranded: &Stranded<'r>) -> Option<Why<'r>> {
    let seen = stranded.sample();
    if hidden::hider(scene, seen).is_some() {
        return None;
    }
    let table = scene.table_for(seen)?;
    let path = scene.path_of(&seen.actor);
    let arrived = table.at(&path).filter(|entry| entry.is_fuse());
    match (arrived, &seen.outcome) {
        (_, Outcome::Errno { errno: Errno::EACCES | Errno::EPERM, .. }) => None,
        (None, Outcome::Absent) => never_arrived(scene, stranded),
        (
            Some(fuse),
            Outcome::Errno { .. }
            | Outcome::Hang { .. }
            | Outcome::WrongContent { .. }
            | Outcome::Empty,
        ) => keeps_another(scene, stranded, table, fuse),
        _ => None,
    }
}

/// A consumer has a FUSE mount other than the node's.
fn keeps_another<'r>(
    scene: &Scene<'r>,
    stranded: &Stranded<'r>,
    table: &'r MountTable,
    fuse: &'r MountEntry,
) -> Option<Why<'r>> {
    let seen = stranded.sample();
    let node = scene.capture_for(seen)?.table(&Actor::Node)?;
    let fresh = stranded.node.mount.as_ref().map(|mount| mount.device);
    // Where both have the same filesystem, mounts are not what is in the way.
    if fresh == Some(fuse.device) {
        return None;
    }
    let stack = table.stack_at(&scene.path_of(&seen.actor));
    if stack.iter().any(|mount| Some(mount.device) == fresh) {
        return Some(Why::HiddenByDead(fuse));
    }
    let bottom = stack.into_iter().find(|mount| mount.is_fuse())?;
    let below = table.by_id(bottom.parent_id);
    let lower = match stranded.at == scene.fuse_path {
        true => node.covering(&scene.report.plan.bridge.path.as_str().into())?.device,
        false => lower_at(node, &stranded.at)?,
    };
    if let Some(volume) = below.filter(|volume| volume.device == lower) {
        return is_private(volume).then_some(Why::FrozenCopy(volume));
    }
    // Without the mark of a deleted directory, of which there is another cause.
    if stranded.spec.sub_path.is_some() {
        return (!bottom.root_deleted).then_some(Why::Pinned(Pin::SubPath, fuse));
    }
    if stranded.spec.volume == Volume::File {
        return Some(Why::Pinned(Pin::File, fuse));
    }
    let source = MountPath::from(scene.paths(stranded.spec).source.as_str());
    let is_elsewhere = !source.starts_with(&stranded.at) && !stranded.at.starts_with(&source);
    let at_source = node.stack_at(&source);
    let bound_there = at_source.last().filter(|mount| mount.is_fuse()).map(|mount| mount.device);
    if is_elsewhere && bound_there != fresh {
        return Some(Why::StalePublishPath(fuse));
    }
    // What is mounted on top of the old one reaches whoever is its slave.
    let on_top = at_source.iter().any(|mount| mount.device == fuse.device);
    match is_elsewhere && on_top && is_private(fuse) {
        true => Some(Why::FrozenCopy(fuse)),
        false => Some(Why::Pinned(Pin::Mountpoint, fuse)),
    }
}

/// The filesystem under the FUSE mounts at a path.
fn lower_at(node: &MountTable, at: &MountPath) -> Option<DeviceId> {
    let bottom = node.stack_at(at).into_iter().find(|mount| mount.is_fuse())?;
    Some(node.by_id(bottom.parent_id)?.device)
}

fn is_private(mount: &MountEntry) -> bool {
    matches!(mount.propagation(), MountPropagation::Private | MountPropagation::Unbindable)
}

/// The mount is in the node's table and not in the consumer's.
fn never_arrived<'r>(scene: &Scene<'r>, stranded: &Stranded<'r>) -> Option<Why<'r>> {
    let seen = stranded.sample();
    let capture = scene.capture_for(seen)?;
    let table = scene.table_for(seen)?;
    let volume = table.covering(&scene.path_of(&seen.actor))?;
    let label = Actor::workload(stranded.name).to_string();
    if runtime::never_had_the_mount(scene, capture, stranded).is_some() {
        return Some(Why::RuntimeApart(volume));
    }
    let source = MountPath::from(scene.paths(stranded.spec).source.as_str());
    let node = capture.table(&Actor::Node)?;
    if scene.shows_what_is_under_the_mount(node, &source) {
        return node.covering(&source).map(Why::BindNotRecursive);
    }
    if !stranded.spec.bind.recursive {
        return Some(Why::NotConnected(Box::new(volume_not_recursive(scene, stranded, volume))));
    }
    let is_inside = source != stranded.at && source.starts_with(&stranded.at);
    if stranded.spec.sub_path.is_some() || is_inside {
        return Some(Why::Pinned(Pin::SubPathBefore, volume));
    }
    // A bind of the mount at the very source of the volume is what would have to show.
    let bound_there = node.at(&source).is_some_and(MountEntry::is_fuse);
    let at = if bound_there { &source } else { &stranded.at };
    let answer = visibility_of_existing(&capture.graph(), "node", at, &label)?;
    let none = stranded.spec.propagation == Propagation::None;
    match answer.broken.as_ref()? {
        Broken::Private { .. } | Broken::Source { .. } if none => {
            Some(match covering_at_start(scene, stranded) {
                Some((mount, table)) => Why::CoveredAtStart(mount, table),
                None => Why::ModeNone(volume),
            })
        }
        Broken::Source { .. } => {
            let cause = covering_cause(&answer.covering, &source.to_string_lossy(), Some(node))?;
            let evidence = [vec![stranded.sample().to_string()], cause.evidence.clone()].concat();
            let actors = stranded.actors();
            Some(Why::NotConnected(Box::new(Cause { evidence, actors, ..cause })))
        }
        Broken::Private { .. } => {
            Some(Why::NotConnected(Box::new(runtime::not_applied(stranded, volume))))
        }
        _ => {
            let cause = runtime::not_connected(scene, capture, stranded, &answer);
            Some(Why::NotConnected(Box::new(cause)))
        }
    }
}

/// The mount of the node that covered a consumer's volume when it started, where that was not shared: with no
/// propagation would it have been connected.
fn covering_at_start<'r>(
    scene: &Scene<'r>,
    stranded: &Stranded<'r>,
) -> Option<(&'r MountEntry, &'r MountTable)> {
    let seen = stranded.sample();
    let source = scene.paths(stranded.spec).source.as_str().into();
    let starts = scene.report.acts.iter().rev().find(|act| {
        matches!(act.deed, Deed::Start | Deed::Restart { .. })
            && act.on.iter().any(|name| name == stranded.name)
            && act.from_us <= seen.at_us
    })?;
    let table = scene.table_in(&Actor::Node, &starts.step)?;
    let covering = table.covering(&source).filter(|mount| mount.shared.is_none())?;
    (!covering.is_fuse()).then_some((covering, table))
}

/// The covering mount was private when a consumer started, and may be shared by now.
fn covered_at_start(
    scene: &Scene<'_>,
    stranded: &Stranded<'_>,
    mount: &MountEntry,
    table: &MountTable,
) -> Option<Cause> {
    let source = scene.paths(stranded.spec).source;
    let cause = covering_cause(mount, &source, Some(table))?;
    let now = scene.last_table(&Actor::Node)?.1.covering(&source.as_str().into())?;
    let title = format!("{}: so it was when {} started", cause.title, stranded.title());
    let fix = match now.shared {
        Some(_) => Fix::yaml(
            format!(
                "it is shared by now, and only containers that start afterwards are connected: start {} anew, with \
                 HostToContainer",
                stranded.title()
            ),
            slave_at(&stranded.spec.paths(&scene.report.plan.bridge).destination),
        ),
        None if stranded.spec.propagation == Propagation::None => Fix::yaml(
            format!(
                "make it shared before the containers start (systemd does it for /; without systemd put it into an init \
                 script), then start {} anew, with HostToContainer",
                stranded.title()
            ),
            format!(
                "# on the node, first: {}\n{}",
                cause.fix.text,
                slave_at(&stranded.spec.paths(&scene.report.plan.bridge).destination)
            ),
        ),
        None => cause.fix.clone(),
    };
    let evidence = [vec![stranded.sample().to_string()], cause.evidence.clone()].concat();
    Some(Cause { title, fix, evidence, actors: stranded.actors(), ..cause })
}

type Found<'a, 'r> = (&'a Stranded<'r>, &'r MountEntry);

/// A cause that several consumers share.
fn shared_cause(id: CauseId, title: String, found: &[Found<'_, '_>], fix: Fix) -> Option<Cause> {
    let (first, _) = found.first()?;
    let mut evidence: Vec<String> = Vec::new();
    for (stranded, mount) in found {
        evidence.push(line(stranded.name, mount));
        evidence.push(stranded.sample().to_string());
    }
    evidence.push(first.node.to_string());
    Some(Cause {
        id,
        from_step: None,
        until_step: None,
        title,
        confidence: Confidence::Likely,
        actors: found.iter().flat_map(|(stranded, _)| stranded.actors()).collect(),
        mounts: found.iter().map(|(s, mount)| MountRef::new(s.name, mount.mount_id)).collect(),
        evidence,
        fix,
        verify: String::new(),
        source: format!("{KUBERNETES_MODES}; {SHARED_SUBTREES}"),
    })
}

fn who(found: &[Found<'_, '_>]) -> String {
    let titles: Vec<String> = found.iter().map(|(stranded, _)| stranded.title()).collect();
    names(titles.iter().map(String::as_str))
}

/// The volume of a consumer as it should be: the bridge, or the directory above the mount that it should see,
/// HostToContainer.
pub(super) fn good_volume(scene: &Scene<'_>, stranded: &Stranded<'_>) -> String {
    let at = stranded.at.to_string_lossy();
    let above =
        at.rsplit_once('/').map_or("/", |(above, _)| if above.is_empty() { "/" } else { above });
    let bridge = stranded.at == scene.fuse_path;
    let path = yaml(if bridge { &scene.report.plan.bridge.path } else { above });
    format!(
        "volumes:\n  - name: fuse\n    hostPath:\n      path: {path}\nvolumeMounts:\n  - name: \
         fuse\n    mountPath: /mnt\n    mountPropagation: HostToContainer\n"
    )
}

fn mount_propagation(found: &[Found<'_, '_>]) -> String {
    let at = found.first().map(|(_, mount)| mount.mount_point.to_string_lossy());
    slave_at(&at.unwrap_or_default())
}

/// The volumeMount of a volume that receives what is mounted later.
fn slave_at(path: &str) -> String {
    format!(
        "volumeMounts:\n  - name: fuse\n    mountPath: {}\n    mountPropagation: HostToContainer\n",
        yaml(path)
    )
}

fn verify_slave(found: &[Found<'_, '_>]) -> String {
    let (name, at) = found.first().map_or(("consumer", "/mnt".into()), |(stranded, mount)| {
        (stranded.name, mount.mount_point.to_string_lossy())
    });
    format!(
        "kubectl exec {name} -- grep -F {} /proc/self/mountinfo   # with master:N",
        shell(&format!(" {at} "))
    )
}

fn mode_none(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let title = format!(
        "the volume of {} is private (mountPropagation None): it started before the mount, and no \
         later mount reaches it",
        who(found)
    );
    let fix =
        Fix::yaml("set mountPropagation: HostToContainer on its volume", mount_propagation(found));
    let mut cause = shared_cause(CauseId::ConsumerModeNone, title, found, fix)?;
    cause.verify = verify_slave(found);
    cause.evidence.extend(node_line(scene));
    Some(cause)
}

fn frozen_copy(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let title = format!(
        "the volume of {} is private (mountPropagation None): it started after the mount, copied it \
         at its start, and keeps that copy, whatever is mounted later",
        who(found)
    );
    let fix =
        Fix::yaml("set mountPropagation: HostToContainer on its volume", mount_propagation(found));
    let mut cause = shared_cause(CauseId::ConsumerFrozenCopy, title, found, fix)?;
    cause.verify = verify_slave(found);
    cause.evidence.extend(node_line(scene));
    Some(cause)
}

/// A volume that was bound after the mount, and without what is mounted below its source.
fn volume_not_recursive(scene: &Scene<'_>, stranded: &Stranded<'_>, volume: &MountEntry) -> Cause {
    let name = stranded.name;
    let at = volume.mount_point.to_string_lossy();
    Cause {
        id: CauseId::BindNotRecursive,
        from_step: None,
        until_step: None,
        title: format!(
            "the volume of {} is bound without the mounts below it: what was mounted before its start is not in it, \
             and only later mounts reach it",
            stranded.title()
        ),
        confidence: Confidence::Likely,
        actors: stranded.actors(),
        mounts: vec![MountRef::new(name, volume.mount_id)],
        evidence: vec![
            line(name, volume),
            stranded.sample().to_string(),
            stranded.node.to_string(),
        ],
        fix: Fix::yaml(
            format!(
                "bind the volume of {name} recursively (rbind; in Docker leave out bind-recursive=disabled), and start it \
                 anew"
            ),
            format!(
                "volumes:   # of Docker Compose\n  - type: bind\n    source: {}\n    target: {}\n    bind: {{propagation: \
                 rslave, recursive: enabled}}\n",
                yaml(&scene.paths(stranded.spec).source),
                yaml(&at)
            ),
        ),
        verify: format!("kubectl exec {name} -- grep -F {} /proc/self/mountinfo   # the volume, and the mount below it", shell(&at)),
        source: "mount(2), MS_REC; https://docs.docker.com/engine/storage/bind-mounts/, recursive mounts".into(),
    }
}

fn bind_not_recursive(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let (_, mount) = found.first()?;
    let (fuse, bridge) = (scene.report.plan.bridge.fuse_path(), &scene.report.plan.bridge.path);
    let at = shell(&mount.mount_point.to_string_lossy());
    let title = format!(
        "the volume of {} shows the directory under the mount: the bind at {} of the node is not recursive, and \
         such a bind does not take along what is mounted below its source",
        who(found),
        mount.mount_point
    );
    let fix = Fix::command(
        format!("bind recursively instead, then start {} anew", who(found)),
        with_restarts(
            format!("umount --lazy {at}; mount --rbind {} {at}{ON_THE_NODE}", shell(bridge)),
            found,
            |_| true,
        ),
    );
    let mut cause = shared_cause(CauseId::BindNotRecursive, title, found, fix)?;
    cause.mounts = vec![MountRef::new("node", mount.mount_id)];
    cause.verify =
        format!("grep -F fuse /proc/self/mountinfo   # on the node: {fuse}, and below {at}");
    cause.source = "mount(8), Bind mount operation; mount(2), MS_REC".into();
    cause.evidence.extend(node_line(scene));
    Some(cause)
}

fn stale_publish_path(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let (stranded, _) = found.first()?;
    let (fuse, path) = (scene.report.plan.bridge.fuse_path(), scene.paths(stranded.spec).source);
    let title = format!(
        "{} reads the mount through a bind at {path} of the node, which holds the old filesystem: a fresh mount \
         at {fuse} is not bound there by itself",
        who(found)
    );
    let (fuse, path) = (shell(&fuse), shell(&path));
    let connected = found.iter().any(|(_, mount)| !is_private(mount));
    let fix = match connected {
        true => Fix::command(
            format!(
                "bind the fresh mount at that path too, on top of the old one, which reaches whoever is connected to \
                 it (HostToContainer); {}",
                restart_private(found)
            ),
            with_restarts(format!("mount --bind {fuse} {path}{ON_THE_NODE}"), found, is_private),
        ),
        false => Fix::command(
            format!(
                "bind the fresh mount at that path in place of the old one; {}",
                restart_private(found)
            ),
            with_restarts(
                format!("umount --lazy {path}; mount --bind {fuse} {path}{ON_THE_NODE}"),
                found,
                is_private,
            ),
        ),
    };
    let mut cause = shared_cause(CauseId::StalePublishPath, title, found, fix)?;
    cause.verify = format!("stat -c %d {fuse} {path}   # on the node: the same twice");
    let node = scene.capture_for(stranded.sample()).and_then(|one| one.table(&Actor::Node));
    let there = node.and_then(|table| table.at(&scene.paths(stranded.spec).source.as_str().into()));
    cause.evidence.extend(there.map(|mount| line("node", mount)));
    cause.evidence.extend(node_line(scene));
    Some(cause)
}

/// A command, and the restarts of those who need one after it, by their mounts.
fn with_restarts(
    command: String,
    found: &[Found<'_, '_>],
    needs_one: impl Fn(&MountEntry) -> bool,
) -> String {
    let restarts = found
        .iter()
        .filter(|(stranded, mount)| needs_one(mount) && !stranded.spec.host)
        .map(|(stranded, _)| commands::bind_again(stranded.spec));
    std::iter::once(command).chain(restarts).collect::<Vec<_>>().join("\n")
}

/// Consumers that a bind on the node does not reach, and that must be restarted.
fn restart_private(found: &[Found<'_, '_>]) -> String {
    let private: Vec<&str> = found
        .iter()
        .filter(|(_, mount)| is_private(mount))
        .map(|(stranded, _)| stranded.name)
        .collect();
    match private.is_empty() {
        true => "nobody has to be restarted".to_owned(),
        false => format!("then restart {}, which is private", names(private)),
    }
}

fn file_pins(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let title = format!(
        "the volume of {} is a file of the FUSE mount: a bind of a file pins the filesystem that the file was in, \
         and no later mount lies on anything that it holds",
        who(found)
    );
    let words = "bind the directory above the mountpoint instead of the file, with HostToContainer; to bring it \
                 back now, restart the container";
    pins(scene, CauseId::FileVolumePinsMount, title, words, found)
}

fn sub_path_pins(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let title = format!(
        "{} has a subPath, which is a bind that the kubelet makes once for the pod: it pins the filesystem that was \
         mounted then, also over restarts of the container",
        who(found)
    );
    let words = "use no subPath but the directory above the mountpoint, with HostToContainer; to bring it back now, \
                 delete the pod and make it again";
    pins(scene, CauseId::SubPathPinsMount, title, words, found)
}

fn sub_path_before(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let title = format!(
        "the volume of {} is a directory inside the mount (a subPath, or a path below the mountpoint) and was bound \
         before the mount: it is a directory of the filesystem below, for as long as that bind is kept, and no mount \
         on the mountpoint reaches it",
        who(found)
    );
    let words = "use no subPath but the directory above the mountpoint, with HostToContainer; to bring it back now, \
                 delete the pod and make it again after the mount";
    pins(scene, CauseId::SubPathBeforeMount, title, words, found)
}

/// A volume that holds a part of the old filesystem.
fn pins(
    scene: &Scene<'_>,
    id: CauseId,
    title: String,
    words: &str,
    found: &[Found<'_, '_>],
) -> Option<Cause> {
    let (stranded, mount) = found.first()?;
    let fix = Fix::yaml(words, good_volume(scene, stranded));
    let mut cause = shared_cause(id, title, found, fix)?;
    cause.verify = same_device(stranded, mount);
    cause.evidence.extend(devices(stranded, mount));
    Some(cause)
}

fn same_device(stranded: &Stranded<'_>, mount: &MountEntry) -> String {
    format!(
        "kubectl exec {} -- stat -c %d {}   # the same as on the node after a restart of the producer",
        stranded.name,
        shell(&mount.mount_point.to_string_lossy())
    )
}

/// What a consumer holds, and what the node has.
fn devices(stranded: &Stranded<'_>, mount: &MountEntry) -> Option<String> {
    let fresh = stranded.node.mount.as_ref()?;
    Some(format!(
        "device {} is what {} holds, device {} is what the node has mounted now",
        mount.device, stranded.name, fresh.device
    ))
}

fn volume_is_mountpoint(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let inside = |(stranded, _): &Found<'_, '_>| {
        let source = MountPath::from(scene.paths(stranded.spec).source.as_str());
        source != stranded.at && source.starts_with(&stranded.at)
    };
    let what = match found.iter().all(inside) {
        true => "a directory inside the FUSE mount",
        false => "the FUSE mountpoint itself",
    };
    let title = format!(
        "the volume of {} is {what}: it keeps the old superblock, and no mount made afterwards lies on anything that it \
         holds",
        who(found)
    );
    let words = "use the directory above the mountpoint as the volume, with HostToContainer: a \
                 fresh mount then propagates to it; to bring it back now, restart the container";
    pins(scene, CauseId::VolumeIsMountpoint, title, words, found)
}

fn hidden_by_dead(found: &[Found<'_, '_>]) -> Option<Cause> {
    let title = format!(
        "for {} a dead mount lies on the fresh one: what was mounted on its own side of the propagation \
         stays on top of what propagates from the node",
        who(found)
    );
    let (stranded, mount) = found.first()?;
    let at = shell(&mount.mount_point.to_string_lossy());
    let words = format!(
        "take the dead mount off in the mount namespace of {}; better, let only one side mount there",
        stranded.name
    );
    // A container may not unmount; a process in its namespace is known by the mount.
    let known_by = format!(" {} {} {} ", mount.device, mount.root, mount.mount_point);
    let command = format!(
        "for p in /proc/[0-9]*; do if grep -qF {} $p/mountinfo; then umount --namespace ${{p#/proc/}} --lazy {at}; \
         break; fi; done{ON_THE_NODE}",
        shell(&known_by)
    );
    let fix = Fix::command(words, command);
    let mut cause = shared_cause(CauseId::FreshMountHidden, title, found, fix)?;
    cause.verify = format!("kubectl exec {} -- stat {at}   # no error", stranded.name);
    Some(cause)
}

/// The node's own mount, for comparison.
fn node_line(scene: &Scene<'_>) -> Option<String> {
    let (_, table) = scene.last_table(&Actor::Node)?;
    table.at(&scene.fuse_path).map(|mount| line("node", mount))
}
