//! Consumers that could not use the mount while the node could: what of their own mounts is in the
//! way.

use super::cause::{Cause, Confidence, Fix};
use super::runtime;
use super::scene::{Scene, Stranded};
use super::text::{KUBERNETES_MODES, SHARED_SUBTREES, line, names, shell, yaml};
use super::visibility::{Broken, visibility_of_existing};
use crate::errno::Errno;
use crate::mountinfo::{MountEntry, MountPropagation, MountRef};
use crate::observation::{Actor, Outcome};
use crate::plan::Propagation;

/// Why one consumer is without the mount.
enum Why<'r> {
    /// Its volume is private and it started before the mount.
    ModeNone(&'r MountEntry),
    /// Its volume is private, it started after the mount and keeps the copy of that moment.
    FrozenCopy(&'r MountEntry),
    /// Its volume is the FUSE mount itself.
    VolumeIsMountpoint(&'r MountEntry),
    /// The fresh mount is there, under a dead one that was made on its own side.
    HiddenByDead(&'r MountEntry),
    /// It was made in a mount namespace that never had the mount.
    RuntimeApart(&'r MountEntry),
    /// Its volume is not connected to where the producer's mount landed.
    NotConnected(Box<Cause>),
}

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let (mut none, mut frozen, mut mountpoint) = (Vec::new(), Vec::new(), Vec::new());
    let (mut hidden, mut apart, mut causes) = (Vec::new(), Vec::new(), Vec::new());
    for stranded in &scene.stranded {
        match why(scene, stranded) {
            Some(Why::ModeNone(mount)) => none.push((stranded, mount)),
            Some(Why::FrozenCopy(mount)) => frozen.push((stranded, mount)),
            Some(Why::VolumeIsMountpoint(mount)) => mountpoint.push((stranded, mount)),
            Some(Why::HiddenByDead(mount)) => hidden.push((stranded, mount)),
            Some(Why::RuntimeApart(mount)) => apart.push((stranded, mount)),
            Some(Why::NotConnected(cause)) => causes.push(*cause),
            None => {}
        }
    }
    causes.extend(runtime::without_the_mount(scene, &apart));
    causes.extend(mode_none(scene, &none));
    causes.extend(frozen_copy(scene, &frozen));
    causes.extend(volume_is_mountpoint(scene, &mountpoint));
    causes.extend(hidden_by_dead(&hidden));
    causes
}

fn why<'r>(scene: &Scene<'r>, stranded: &Stranded<'r>) -> Option<Why<'r>> {
    let seen = stranded.sample();
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
        ) => {
            let (stack, (_, node)) = (table.stack_at(&path), scene.last_table(&Actor::Node)?);
            let fresh = stranded.node.mount.as_ref().map(|mount| mount.device);
            if stack.iter().any(|mount| Some(mount.device) == fresh && mount.device != fuse.device)
            {
                return Some(Why::HiddenByDead(fuse));
            }
            let bottom = stack.into_iter().find(|mount| mount.is_fuse())?;
            let below = table.by_id(bottom.parent_id);
            let lower = node.covering(&scene.report.plan.bridge.path.as_str().into())?.device;
            match below {
                Some(volume) if volume.device == lower => {
                    is_private(volume).then_some(Why::FrozenCopy(volume))
                }
                _ => Some(Why::VolumeIsMountpoint(fuse)),
            }
        }
        _ => None,
    }
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
    let answer = visibility_of_existing(&capture.graph(), "node", &scene.fuse_path, &label)?;
    match answer.broken.as_ref()? {
        Broken::Private { .. } if stranded.spec.propagation == Propagation::None => {
            Some(Why::ModeNone(volume))
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

type Found<'a, 'r> = (&'a Stranded<'r>, &'r MountEntry);

/// A cause that several consumers share.
fn shared_cause(id: &str, title: String, found: &[Found<'_, '_>], fix: Fix) -> Option<Cause> {
    let (first, _) = found.first()?;
    let mut evidence: Vec<String> = Vec::new();
    for (stranded, mount) in found {
        evidence.push(line(stranded.name, mount));
        evidence.push(stranded.sample().to_string());
    }
    evidence.push(first.node.to_string());
    Some(Cause {
        id: id.into(),
        title,
        confidence: Confidence::Certain,
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

/// The volume of a consumer as it should be: the bridge, HostToContainer.
fn good_volume(scene: &Scene<'_>) -> String {
    let path = yaml(&scene.report.plan.bridge.path);
    format!(
        "volumes:\n  - name: fuse\n    hostPath:\n      path: {path}\nvolumeMounts:\n  - name: \
         fuse\n    mountPath: /mnt\n    mountPropagation: HostToContainer\n"
    )
}

fn mount_propagation(found: &[Found<'_, '_>]) -> String {
    let at =
        found.first().map_or_else(String::new, |(_, m)| m.mount_point.to_string_lossy().into());
    format!(
        "volumeMounts:\n  - name: fuse\n    mountPath: {}\n    mountPropagation: HostToContainer\n",
        yaml(&at)
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
    let mut cause = shared_cause("consumer-mode-none", title, found, fix)?;
    cause.verify = verify_slave(found);
    cause.evidence.extend(node_line(scene));
    Some(cause)
}

fn frozen_copy(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let title = format!(
        "the volume of {} is private (mountPropagation None): it started after the mount, copied it \
         at its start, and keeps that dead copy for good",
        who(found)
    );
    let fix =
        Fix::yaml("set mountPropagation: HostToContainer on its volume", mount_propagation(found));
    let mut cause = shared_cause("consumer-frozen-copy", title, found, fix)?;
    cause.verify = verify_slave(found);
    cause.evidence.extend(node_line(scene));
    Some(cause)
}

fn volume_is_mountpoint(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let title = format!(
        "the volume of {} is the FUSE mountpoint itself: it keeps the dead superblock, and no mount \
         made afterwards lies on anything that it holds",
        who(found)
    );
    let words = "use the directory above the mountpoint as the volume, with HostToContainer: a \
                 fresh mount then travels to it";
    let fix = Fix::yaml(words, good_volume(scene));
    let mut cause = shared_cause("volume-is-mountpoint", title, found, fix)?;
    let (stranded, mount) = found.first()?;
    cause.verify = format!(
        "kubectl exec {} -- stat -c %d {}   # the same as on the node after a restart of the producer",
        stranded.name,
        shell(&mount.mount_point.to_string_lossy())
    );
    if let Some(fresh) = &stranded.node.mount {
        cause.evidence.push(format!(
            "device {} is what {} holds, device {} is what the node has mounted now",
            mount.device, stranded.name, fresh.device
        ));
    }
    Some(cause)
}

fn hidden_by_dead(found: &[Found<'_, '_>]) -> Option<Cause> {
    let title = format!(
        "for {} a dead mount lies on the fresh one: what was mounted on its own side of the propagation \
         stays on top of what travels in from the node",
        who(found)
    );
    let (stranded, mount) = found.first()?;
    let at = shell(&mount.mount_point.to_string_lossy());
    let fix = Fix::command(
        "take the dead mount off in that mount namespace; better, let only one side mount there",
        format!("nsenter --target PID --mount umount --lazy {at}   # PID of {}", stranded.name),
    );
    let mut cause = shared_cause("fresh-mount-hidden", title, found, fix)?;
    cause.verify = format!("kubectl exec {} -- stat {at}   # no error", stranded.name);
    Some(cause)
}

/// The node's own mount, for comparison.
fn node_line(scene: &Scene<'_>) -> Option<String> {
    let (_, table) = scene.last_table(&Actor::Node)?;
    table.at(&scene.fuse_path).map(|mount| line("node", mount))
}
