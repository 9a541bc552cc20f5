//! Consumers that could not use the mount while the node could: which of their own mounts is in the
//! way.

use super::apart;
use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands;
use super::elsewhere;
use super::hidden;
use super::host::covering_cause;
use super::made_private::{self, MadePrivate};
use super::own_copy;
use super::runtime;
use super::scene::{Scene, Stranded};
use super::text::{KUBERNETES_MODES, SHARED_SUBTREES, line};
use super::visibility::{Broken, visibility_of_existing};
use super::volumes::{
    Found, bind_not_recursive, file_pins, frozen_copy, hidden_by_dead, is_private, mode_none,
    slave_at, stale_publish_path, sub_path_before, sub_path_pins, volume_is_mountpoint,
    volume_not_recursive,
};
use crate::errno::Errno;
use crate::mountinfo::{DeviceId, MountEntry, MountPath, MountRef, MountTable};
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
    /// Its volume was connected and was made private while it ran.
    MadePrivate(MadePrivate<'r>),
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
        let device = seen.mount.as_ref().filter(|mount| mount.is_served())?.device;
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
    let (made, fix) = match made_private::of(scene, first) {
        Some(made) => {
            let (made, words) = made.of_a_copy(&name);
            (
                made,
                Fix::command(
                    words,
                    commands::bind_again(scene, scene.spec(name_of(&first.actor)?)?),
                ),
            )
        }
        None => (
            format!("the volume of {name} is private (mountPropagation None)"),
            Fix::yaml(
                format!(
                    "set mountPropagation: HostToContainer on its volume, and start {name} anew"
                ),
                slave_at(&scene.paths(scene.spec(name_of(&first.actor)?)?).destination),
            ),
        ),
    };
    // Until it is restarted, or ended.
    let later = scene.report.phases.iter().skip_while(|phase| phase.id != last.step).nth(1);
    Some(Cause {
        id: CauseId::ConsumerPinsMount,
        from_step: Some(first.step.clone()),
        until_step: later.map(|phase| phase.id.clone()),
        title: format!(
            "{made}: it has a copy of the mount, the unmount on the node does not reach it, and the filesystem lives on as \
             long as that copy"
        ),
        confidence: Confidence::Likely,
        actors: vec![first.actor.clone()],
        mounts: vec![MountRef::new(name.clone(), fuse.mount_id)],
        evidence: vec![first.to_string(), node.to_string(), line(&name, fuse)],
        fix,
        verify: format!(
            "kubectl exec {name} -- grep -c fuse /proc/self/mountinfo   # 0 after an unmount on the node"
        ),
        source: format!("{KUBERNETES_MODES}; {SHARED_SUBTREES}"),
    })
}

fn of_all<'r>(scene: &Scene<'r>, stranded: &[&Stranded<'r>]) -> Vec<Cause> {
    let (mut none, mut frozen, mut pinned) = (Vec::new(), Vec::new(), Vec::new());
    let (mut publish, mut bound, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
    let (mut apart, mut causes, mut made) = (Vec::new(), Vec::new(), Vec::new());
    for stranded in stranded {
        match why(scene, stranded).or_else(|| why_at_first(scene, stranded)) {
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
            Some(Why::MadePrivate(how)) => made.push((*stranded, how)),
            Some(Why::NotConnected(cause)) => causes.push(timed(scene, &[stranded], *cause)),
            None => {}
        }
    }
    for cause in made_private::causes(scene, &made) {
        let whose = made.iter().map(|(stranded, _)| *stranded);
        let whose = whose.filter(|one| one.actors().iter().any(|it| cause.actors.contains(it)));
        causes.push(timed(scene, &whose.collect::<Vec<_>>(), cause));
    }
    let of = |wanted: Pin| -> Vec<Found<'_, 'r>> {
        pinned.iter().filter(|(pin, _)| *pin == wanted).map(|(_, found)| *found).collect()
    };
    let (mountpoint, file) = (of(Pin::Mountpoint), of(Pin::File));
    let (sub_path, before) = (of(Pin::SubPath), of(Pin::SubPathBefore));
    for (found, cause) in [
        (&apart, apart::without_the_mount(scene, &apart)),
        (&none, mode_none(scene, &none)),
        (&frozen, frozen_copy(scene, &frozen)),
        (&bound, bind_not_recursive(scene, &bound)),
        (&publish, stale_publish_path(scene, &publish)),
        (&mountpoint, volume_is_mountpoint(scene, &mountpoint)),
        (&file, file_pins(scene, &file)),
        (&sub_path, sub_path_pins(scene, &sub_path)),
        (&before, sub_path_before(scene, &before)),
        (&hidden, hidden_by_dead(scene, &hidden)),
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

/// Why one that is over began: what it hung on may have been mended on the node before it was over.
fn why_at_first<'r>(scene: &Scene<'r>, stranded: &Stranded<'r>) -> Option<Why<'r>> {
    let first = stranded.first?;
    let is_absent = matches!(stranded.sample().outcome, Outcome::Absent);
    if stranded.lasts || !is_absent {
        return None;
    }
    let (seen, node) = first;
    why(scene, &Stranded { seen: vec![seen], node, ..stranded.clone() })
}

fn why<'r>(scene: &Scene<'r>, stranded: &Stranded<'r>) -> Option<Why<'r>> {
    let seen = stranded.sample();
    if hidden::hider(scene, seen).is_some() || own_copy::unmount_of(scene, seen).is_some() {
        return None;
    }
    let table = scene.table_for(seen)?;
    let path = scene.path_of(&seen.actor);
    let arrived = table.at(&path).filter(|entry| entry.is_served());
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
    let bottom = stack.into_iter().find(|mount| mount.is_served())?;
    let below = table.by_id(bottom.parent_id);
    let lower = match stranded.at == scene.fuse_path {
        true => node.covering(&scene.report.plan.bridge.path.as_str().into())?.device,
        false => lower_at(node, &stranded.at)?,
    };
    if let Some(volume) = below.filter(|volume| volume.device == lower) {
        return is_private(volume)
            .then(|| why_private(scene, stranded, volume, Why::FrozenCopy(volume)));
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
    let bound_there = at_source.last().filter(|mount| mount.is_served()).map(|mount| mount.device);
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
    let bottom = node.stack_at(at).into_iter().find(|mount| mount.is_served())?;
    Some(node.by_id(bottom.parent_id)?.device)
}

/// The mount is in the node's table and not in the consumer's.
fn never_arrived<'r>(scene: &Scene<'r>, stranded: &Stranded<'r>) -> Option<Why<'r>> {
    let seen = stranded.sample();
    let capture = scene.capture_for(seen)?;
    let table = scene.table_for(seen)?;
    let volume = table.covering(&scene.path_of(&seen.actor))?;
    let label = Actor::workload(stranded.name).to_string();
    if apart::never_had_the_mount(scene, capture, stranded).is_some() {
        return Some(Why::RuntimeApart(volume));
    }
    if let Some(cause) = elsewhere::unpublished(scene, stranded) {
        return Some(Why::NotConnected(Box::new(cause)));
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
    let bound_there = node.at(&source).is_some_and(MountEntry::is_served);
    let at = if bound_there { &source } else { &stranded.at };
    let answer = visibility_of_existing(&capture.graph(), "node", at, &label)?;
    let none = stranded.spec.propagation == Propagation::None;
    match answer.broken.as_ref()? {
        Broken::Private { .. } | Broken::Source { .. } if none => {
            Some(why_private(scene, stranded, volume, Why::ModeNone(volume)))
        }
        Broken::Source { .. } => {
            if let Some(made) = made_private::of(scene, seen) {
                return Some(Why::MadePrivate(made));
            }
            let cause = covering_cause(&answer.covering, &source.to_string_lossy(), Some(node))?;
            let evidence = [vec![stranded.sample().to_string()], cause.evidence.clone()].concat();
            let actors = stranded.actors();
            Some(Why::NotConnected(Box::new(Cause { evidence, actors, ..cause })))
        }
        Broken::Private { .. } => Some(why_private(scene, stranded, volume, Why::ModeNone(volume))),
        _ => {
            let cause = runtime::not_connected(scene, capture, stranded, &answer);
            Some(Why::NotConnected(Box::new(cause)))
        }
    }
}

/// Why a volume is private: it was made so, what covers it was private at its start, its manifest says so, or the runtime
/// did not do what its manifest says.
fn why_private<'r>(
    scene: &Scene<'r>,
    stranded: &Stranded<'r>,
    volume: &'r MountEntry,
    by_manifest: Why<'r>,
) -> Why<'r> {
    if let Some(made) = made_private::of(scene, stranded.sample()) {
        return Why::MadePrivate(made);
    }
    match covering_at_start(scene, stranded) {
        Some((mount, table)) => Why::CoveredAtStart(mount, table),
        None if stranded.spec.propagation == Propagation::None => by_manifest,
        None => Why::NotConnected(Box::new(runtime::not_applied(stranded, volume))),
    }
}

/// The mount of the node that covered a consumer's volume when it started, where that was private: with no
/// propagation would it have been connected. A slave passes on what it receives.
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
    let covering =
        table.covering(&source).filter(|mount| mount.shared.is_none() && mount.master.is_none())?;
    (!covering.is_served()).then_some((covering, table))
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
