//! The causes of consumers whose volume is in the way, with the volume that they should have.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::{self, ON_THE_NODE};
use super::scene::{Scene, Stranded};
use super::text::{KUBERNETES_MODES, SHARED_SUBTREES, line, names, shell, yaml};
use crate::mountinfo::{MountEntry, MountPath, MountPropagation, MountRef};
use crate::observation::Actor;

pub(super) type Found<'a, 'r> = (&'a Stranded<'r>, &'r MountEntry);

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
pub(super) fn slave_at(path: &str) -> String {
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

pub(super) fn mode_none(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let why = "it started before the mount, and no later mount reaches it";
    private(scene, CauseId::ConsumerModeNone, found, why)
}

pub(super) fn frozen_copy(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let why = "it started after the mount, copied it at its start, and keeps that copy, whatever is mounted later";
    private(scene, CauseId::ConsumerFrozenCopy, found, why)
}

fn private(scene: &Scene<'_>, id: CauseId, found: &[Found<'_, '_>], why: &str) -> Option<Cause> {
    let title = format!("the volume of {} is private (mountPropagation None): {why}", who(found));
    let recursive = found.iter().any(|(stranded, _)| stranded.spec.bind.recursive_read_only);
    let fix = match recursive {
        // Kubernetes takes the two together with None only.
        true => Fix::yaml(
            "leave out recursiveReadOnly, which is refused with any other mode than None, and set mountPropagation: \
             HostToContainer on its volume; let the daemon mount read-only instead",
            format!(
                "{}    readOnly: true\n    recursiveReadOnly: Disabled\n",
                mount_propagation(found)
            ),
        ),
        false => Fix::yaml(
            "set mountPropagation: HostToContainer on its volume",
            mount_propagation(found),
        ),
    };
    let mut cause = shared_cause(id, title, found, fix)?;
    cause.verify = verify_slave(found);
    cause.evidence.extend(node_line(scene));
    Some(cause)
}

/// A volume that was bound after the mount, and without what is mounted below its source.
pub(super) fn volume_not_recursive(
    scene: &Scene<'_>,
    stranded: &Stranded<'_>,
    volume: &MountEntry,
) -> Cause {
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

pub(super) fn bind_not_recursive(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
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
            scene,
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

pub(super) fn stale_publish_path(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let (stranded, mount) = found.first()?;
    // The same part of the mount that it should see.
    let fuse = stranded.at.join(&mount.root).to_string_lossy().into_owned();
    let path = scene.paths(stranded.spec).source;
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
            with_restarts(
                scene,
                format!("mount --bind {fuse} {path}{ON_THE_NODE}"),
                found,
                is_private,
            ),
        ),
        false => Fix::command(
            format!(
                "bind the fresh mount at that path in place of the old one; {}",
                restart_private(found)
            ),
            with_restarts(
                scene,
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
    scene: &Scene<'_>,
    command: String,
    found: &[Found<'_, '_>],
    needs_one: impl Fn(&MountEntry) -> bool,
) -> String {
    let restarts = found
        .iter()
        .filter(|(stranded, mount)| needs_one(mount) && !stranded.spec.host)
        .map(|(stranded, _)| commands::bind_again(scene, stranded.spec));
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

pub(super) fn file_pins(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let title = format!(
        "the volume of {} is a file of the FUSE mount: a bind of a file pins the filesystem that the file was in, \
         and no later mount lies on anything that it holds",
        who(found)
    );
    let words = "bind the directory above the mountpoint instead of the file, with HostToContainer; to bring it \
                 back now, restart the container";
    pins(scene, CauseId::FileVolumePinsMount, title, words, found)
}

pub(super) fn sub_path_pins(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let title = format!(
        "{} has a subPath, which is a bind that the kubelet makes once for the pod: it pins the filesystem that was \
         mounted then, also over restarts of the container",
        who(found)
    );
    let words = "use no subPath but the directory above the mountpoint, with HostToContainer; to bring it back now, \
                 delete the pod and make it again";
    pins(scene, CauseId::SubPathPinsMount, title, words, found)
}

pub(super) fn sub_path_before(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
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

pub(super) fn volume_is_mountpoint(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
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

pub(super) fn hidden_by_dead(scene: &Scene<'_>, found: &[Found<'_, '_>]) -> Option<Cause> {
    let (stranded, mount) = found.first()?;
    let alike = |one: &MountEntry, other: &MountEntry| {
        (one.device, &one.root, &one.mount_point) == (other.device, &other.root, &other.mount_point)
    };
    let mut dead: Vec<&MountEntry> = Vec::new();
    let mut other: Option<&MountEntry> = None;
    for (stranded, _) in found {
        let layers = above_the_fresh(scene, stranded);
        let at_us = stranded.sample().at_us;
        let is_dead =
            |layer: &&MountEntry| layer.is_fuse() && scene.seen_dead(layer.device, at_us).is_some();
        let count = layers.iter().copied().take_while(is_dead).count();
        for &layer in &layers[..count] {
            if !dead.iter().any(|known| alike(known, layer)) {
                dead.push(layer);
            }
        }
        other = other.or(layers.get(count).copied());
    }
    let what = match (dead.len(), other) {
        (0, Some(other)) => format!("another {} lies", other.fs_type),
        (0 | 1, _) => "a dead mount lies".to_owned(),
        (layers, _) => format!("{layers} dead mounts lie"),
    };
    let title = format!(
        "for {} {what} on the fresh one: what was mounted on its own side of the propagation \
         stays on top of what propagates from the node",
        who(found)
    );
    let apart = match scene.report.plan.node.runtime.is_apart() {
        true => {
            "; whoever starts later gets it again, until it is taken off in the runtime's mount namespace too"
        }
        false => "",
    };
    let fix = match other {
        // It may be in use, and is not to be unmounted unasked.
        Some(other) => Fix::words(format!(
            "a {} of device {} lies on the fresh mount too, and nobody has seen it dead: find out whose it is, then unmount \
             what lies there in the mount namespace of {}, the topmost first{apart}; better, let only one side mount there",
            other.fs_type,
            other.device,
            who(found)
        )),
        None => Fix::command(
            format!(
                "take what is dead off in the mount namespace of {}{apart}; better, let only one side mount there",
                who(found)
            ),
            dead.iter().map(|layer| take_off(layer)).collect::<Vec<_>>().join("\n"),
        ),
    };
    let mut cause = shared_cause(CauseId::FreshMountHidden, title, found, fix)?;
    cause.evidence.extend(other.map(|other| line(stranded.name, other)));
    let at = shell(&mount.mount_point.to_string_lossy());
    cause.verify = format!("kubectl exec {} -- stat {at}   # no error", stranded.name);
    Some(cause)
}

/// Takes a dead mount off wherever it is the topmost of several. A container may not unmount, so the processes of its
/// namespace are found by the mount. Below a mount that lives it stays: an unmount takes the topmost.
fn take_off(layer: &MountEntry) -> String {
    let at = shell(&layer.mount_point.to_string_lossy());
    let dead = shell(&format!("{} {}", layer.device, layer.root));
    let topmost = format!(
        "top=; while read -r id parent device root at rest; do if [ \"$at\" = {at} ] && {{ [ -z \"$top\" ] || [ \"$parent\" = \
         \"$top\" ]; }}; then top=$id; echo \"$device $root\"; fi; done < $p/mountinfo | tail -n 1"
    );
    format!(
        "for p in /proc/[0-9]*; do while [ \"$({topmost})\" = {dead} ]; do umount --namespace ${{p#/proc/}} --lazy {at} || \
         break; done; done{ON_THE_NODE}"
    )
}

/// What lies on the fresh mount of a consumer, the topmost first.
fn above_the_fresh<'r>(scene: &Scene<'r>, stranded: &Stranded<'r>) -> Vec<&'r MountEntry> {
    let seen = stranded.sample();
    let fresh = stranded.node.mount.as_ref().map(|mount| mount.device);
    let stack = scene.table_for(seen).map(|table| table.stack_at(&scene.path_of(&seen.actor)));
    let layers = stack.unwrap_or_default().into_iter().rev();
    layers.take_while(|mount| Some(mount.device) != fresh).collect()
}

/// The node's own mount, for comparison.
fn node_line(scene: &Scene<'_>) -> Option<String> {
    let (_, table) = scene.last_table(&Actor::Node)?;
    table.at(&scene.fuse_path).map(|mount| line("node", mount))
}

pub(super) fn is_private(mount: &MountEntry) -> bool {
    matches!(mount.propagation(), MountPropagation::Private | MountPropagation::Unbindable)
}
