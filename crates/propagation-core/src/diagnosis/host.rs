//! Causes that the facts of a node show before anything is started.

use super::cause::{Cause, CauseId, Fix};
use super::dead::cause;
use super::scene::Scene;
use super::security_module;
use super::text::{SHARED_SUBTREES, line, shell};
use crate::confinement::FuseNeed;
use crate::errno::Errno;
use crate::facts::{FuseDevice, HostFacts, PathState};
use crate::mountinfo::{MountEntry, MountPropagation, MountRef, MountTable};
use crate::observation::Actor;
use crate::plan::Plan;
use crate::report::{CheckId, Status};

/// The causes in the facts of a node, for a plan: the findings of `host_setup`, explained. `table` is the node's
/// mount table, where it is known; it distinguishes a node that shares nothing from one that shares its root only.
pub fn host(facts: &HostFacts, plan: &Plan, table: Option<&MountTable>) -> Vec<Cause> {
    by_check(facts, plan, table).into_iter().map(|(_, cause)| cause).collect()
}

/// As [`host`], with the failed check of each cause.
fn by_check(facts: &HostFacts, plan: &Plan, table: Option<&MountTable>) -> Vec<(CheckId, Cause)> {
    let found = [
        (CheckId::FuseDevice, device(facts, plan)),
        (CheckId::Fusermount, helper(facts, plan)),
        (CheckId::UserAllowOther, fuse_conf(facts, plan)),
        (CheckId::CoveringMount, covering(facts, plan, table)),
        (CheckId::Bridge, bridge(facts, plan)),
    ];
    found.into_iter().filter_map(|(check, cause)| Some((check, cause?))).collect()
}

/// The rule: the facts explain something only when a check of the host failed.
pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let Some(facts) = &scene.report.environment else {
        return bridge_not_made(scene).into_iter().collect();
    };
    let table = scene.last_table(&Actor::Node).map(|(_, table)| table);
    let mut found = by_check(facts, &scene.report.plan, table);
    found.retain(|(check, _)| scene.failed(check).is_some());
    let about_bridge = found.iter().any(|(check, _)| *check == CheckId::Bridge);
    let mut causes: Vec<Cause> = found.into_iter().map(|(_, cause)| cause).collect();
    if !about_bridge {
        causes.extend(bridge_not_made(scene));
    }
    causes
}

fn producer_uid(plan: &Plan) -> u32 {
    plan.producer().map_or(0, |producer| producer.uid)
}

fn node_cause(
    id: CauseId,
    title: String,
    evidence: Vec<String>,
    fix: Fix,
    verify: String,
) -> Cause {
    Cause {
        actors: vec![Actor::Node],
        source: SHARED_SUBTREES.into(),
        ..cause(id, title, evidence, fix, verify)
    }
}

fn doctor(plan: &Plan) -> String {
    format!("propagation doctor --bridge {}", shell(&plan.bridge.path))
}

fn device(facts: &HostFacts, plan: &Plan) -> Option<Cause> {
    let uid = producer_uid(plan);
    let (title, evidence, fix) = match &facts.fuse_device {
        FuseDevice::Usable if uid != 0 && !facts.fuse_device_for_all => (
            format!("/dev/fuse opens for its owner only, and the producer runs as uid {uid}"),
            "open of /dev/fuse succeeds, and its mode does not give others read and write",
            Fix::command("let every user open it, as the udev rule of fuse3 does", CHMOD),
        ),
        FuseDevice::Usable => return None,
        FuseDevice::Unusable { errno } => {
            let (title, fix) = unusable(*errno, Some(facts));
            let mut evidence = format!("open of /dev/fuse for reading and writing gives {errno}");
            if *errno == Errno::EACCES && facts.fuse_device_for_all {
                evidence.push_str(", and its mode lets everybody in");
            }
            return Some(Cause {
                source: "fuse(4); open(2), ERRORS".into(),
                ..node_cause(DEVICE, title, vec![evidence], fix, doctor(plan))
            });
        }
    };
    Some(Cause {
        source: "fuse(4); fusermount3(1)".into(),
        ..node_cause(DEVICE, title, vec![evidence.into()], fix, doctor(plan))
    })
}

/// What opening the device gave: why, and what to do.
fn unusable(errno: Errno, facts: Option<&HostFacts>) -> (String, Fix) {
    let for_all = facts.is_some_and(|facts| facts.fuse_device_for_all);
    // Where the mode lets everybody in, the policy's answer for containers counts too.
    let by_policy = facts.and_then(|facts| {
        security_module::denied(facts, FuseNeed::Device).find(|one| one.own || for_all)
    });
    let (title, fix) = match (errno, by_policy) {
        (Errno::EACCES, Some(denied)) => {
            let title = format!("SELinux denies /dev/fuse to the domain {}", denied.domain);
            return (title, security_module::another_domain(denied));
        }
        (Errno::ENOENT, _) => (
            "there is no /dev/fuse",
            Fix::command(
                "load the module; in a container add the device /dev/fuse",
                "modprobe fuse",
            ),
        ),
        (Errno::ENODEV | Errno::ENXIO, _) => (
            "/dev/fuse is there and no driver is behind it",
            Fix::command("load the module", "modprobe fuse"),
        ),
        (Errno::EACCES, _) if for_all => (
            "/dev/fuse lies on a mount with nodev, on which no device opens",
            Fix::command(
                "remount it, or mount a devtmpfs in its place",
                "mount -o remount,dev /dev",
            ),
        ),
        (Errno::EACCES, _) => (
            "the mode of /dev/fuse does not let this user open it",
            Fix::command("let every user open it, as the udev rule of fuse3 does", CHMOD),
        ),
        (Errno::EPERM, _) => (
            "opening /dev/fuse is forbidden: a device control group or seccomp",
            Fix::yaml(
                "make the container privileged, or allow the device c 10:229 rwm",
                PRIVILEGED,
            ),
        ),
        _ => {
            ("/dev/fuse cannot be opened", Fix::command("the kernel log says why", "dmesg | tail"))
        }
    };
    (title.to_owned(), fix)
}

/// The cause for a container in which the device cannot be opened.
pub(super) fn no_device(scene: &Scene<'_>, name: &str, errno: Errno, said: &str) -> Option<Cause> {
    let of_the_device =
        [Errno::ENOENT, Errno::ENODEV, Errno::ENXIO, Errno::EPERM, Errno::EACCES].contains(&errno);
    let spec = scene.spec(name).filter(|_| of_the_device)?;
    let facts = scene.report.environment.as_ref();
    let on_node = facts.is_none_or(|facts| matches!(facts.fuse_device, FuseDevice::Usable));
    let (title, fix) = match errno {
        // The node has it, so the container was not given it.
        Errno::ENOENT if on_node && !spec.host => (
            "there is no /dev/fuse in the container".to_owned(),
            Fix::yaml(
                "give the container the device: privileged, a device plugin, or in Docker --device /dev/fuse",
                PRIVILEGED,
            ),
        ),
        _ => unusable(errno, facts),
    };
    Some(Cause {
        source: "fuse(4); open(2), ERRORS".into(),
        actors: vec![Actor::workload(name)],
        ..node_cause(
            DEVICE,
            format!("{name} cannot mount: {title}"),
            vec![said.to_owned()],
            fix,
            format!("kubectl exec {name} -- ls -l /dev/fuse   # crw-rw-rw-"),
        )
    })
}

/// The line of fuse.conf that lets users other than root mount with allow_other (fuse.conf in mount.fuse3(8)).
pub(super) const USER_ALLOW_OTHER: &str = "user_allow_other";

/// The id of the causes for the device.
const DEVICE: CauseId = CauseId::FuseDeviceUnusable;

const CHMOD: &str = "chmod 0666 /dev/fuse";

/// The fragment that makes a container privileged.
pub(super) const PRIVILEGED: &str = "securityContext:\n  privileged: true\n";

fn helper(facts: &HostFacts, plan: &Plan) -> Option<Cause> {
    let uid = producer_uid(plan);
    if uid == 0 || facts.fusermount3.is_some() {
        return None;
    }
    let evidence = match &facts.fusermount {
        Some(path) => format!("only {path} of FUSE 2 is there"),
        None => "neither fusermount3 nor fusermount is there".into(),
    };
    Some(fusermount_absent(uid, evidence, plan.producer().is_some_and(|spec| spec.host)))
}

/// The cause for a missing helper.
pub(super) fn fusermount_absent(uid: u32, evidence: String, on_node: bool) -> Cause {
    Cause {
        source: "fusermount3(1)".into(),
        ..node_cause(
            CauseId::Fusermount3Absent,
            format!(
                "fusermount3 is missing where the producer runs, and uid {uid} can mount only \
                 through it"
            ),
            vec![evidence],
            match on_node {
                true => Fix::command(
                    "install it on the node (Debian; other distributions name the package fuse3 too), or run the producer as \
                     root, who needs no helper",
                    "apt-get install --yes fuse3   # on the node",
                ),
                false => Fix::yaml(
                    "install it in the producer's image (Debian: apt-get install fuse3), or run the producer as root, who \
                     needs no helper",
                    "securityContext:\n  runAsUser: 0\n",
                ),
            },
            match on_node {
                true => "command -v fusermount3   # on the node",
                false => "command -v fusermount3   # in the producer's container",
            }
            .into(),
        )
    }
}

fn fuse_conf(facts: &HostFacts, plan: &Plan) -> Option<Cause> {
    let uid = producer_uid(plan);
    let file = &facts.fuse_conf;
    if uid == 0 || file.user_allow_other || !plan.fuse.allow_other {
        return None;
    }
    let found = if file.exists { "has no line user_allow_other" } else { "does not exist" };
    let mut evidence = vec![format!("{} {found}", file.path), format!("the producer is uid {uid}")];
    let on_node = plan.node.fuse_conf.as_deref().unwrap_or_default();
    if on_node.lines().any(|line| line.trim() == USER_ALLOW_OTHER) {
        evidence
            .push("the node's own /etc/fuse.conf has it, and is not the file that is read".into());
    }
    Some(user_allow_other(&file.path, evidence))
}

/// The cause for a fuse.conf without the line.
pub(super) fn user_allow_other(file: &str, evidence: Vec<String>) -> Cause {
    Cause {
        source: "fusermount3(1), FILES; mount.fuse3(8), allow_other".into(),
        ..node_cause(
            CauseId::UserAllowOtherMissing,
            format!(
                "user_allow_other is not in {file}, the file that fusermount3 reads: that of the \
                 mount namespace it runs in"
            ),
            evidence,
            Fix::command(
                format!(
                    "add the line to {file} (a producer in a pod: in its image or through a \
                     ConfigMap; on the node it has no effect), or run the producer as root, who is \
                     exempt"
                ),
                "echo user_allow_other >> /etc/fuse.conf",
            ),
            "grep -x user_allow_other /etc/fuse.conf   # in the producer's container".into(),
        )
    }
}

fn covering(facts: &HostFacts, plan: &Plan, table: Option<&MountTable>) -> Option<Cause> {
    let mount = facts.covering_mount.as_ref()?;
    covering_cause(mount, &plan.bridge.path, table)
}

/// The cause for a mount that covers `bridge`, or another source of a volume, and does not send; none when it
/// does.
pub(super) fn covering_cause(
    mount: &MountEntry,
    bridge: &str,
    table: Option<&MountTable>,
) -> Option<Cause> {
    let at = mount.mount_point.to_string();
    let top = table.and_then(|table| table.at(&"/".into())).filter(|top| top.shared.is_some());
    let mut evidence = vec![line("covering mount", mount)];
    let (id, title) = match mount.propagation() {
        MountPropagation::Shared | MountPropagation::SlaveAndShared => return None,
        MountPropagation::Slave => (
            CauseId::CoveringSlave,
            format!(
                "the mount that covers {bridge:?} ({at}) is a slave: it receives mounts and sends \
                 none, so Bidirectional is refused"
            ),
        ),
        MountPropagation::Unbindable => (
            CauseId::CoveringPrivate,
            format!(
                "the mount that covers {bridge:?} ({at}) is unbindable: it sends and receives nothing, and no container \
                 can bind it"
            ),
        ),
        _ => match top.filter(|top| top.mount_id != mount.mount_id) {
            Some(top) => {
                evidence.push(line("root", top));
                (
                    CauseId::CoveringPrivate,
                    format!(
                        "/ is shared, and the mount that covers {bridge:?} ({at}) is private: what \
                         counts is the covering mount"
                    ),
                )
            }
            None => (
                CauseId::CoveringPrivate,
                format!(
                    "the mount that covers {bridge:?} ({at}) is private: it sends and receives \
                     nothing"
                ),
            ),
        },
    };
    let words = "make it shared before the containers start (systemd does it for /; without systemd put it \
                 into an init script), then start those anew that use it";
    Some(Cause {
        mounts: vec![MountRef::new(Actor::Node.to_string(), mount.mount_id)],
        ..node_cause(
            id,
            title,
            evidence,
            Fix::command(
                words,
                format!("mount --make-rshared {}", shell(&mount.mount_point.to_string_lossy())),
            ),
            format!("findmnt -n -o PROPAGATION --target {}   # shared", shell(bridge)),
        )
    })
}

fn bridge(facts: &HostFacts, plan: &Plan) -> Option<Cause> {
    let path = &plan.bridge.path;
    let (title, evidence, fix) = match &facts.bridge {
        PathState::Directory | PathState::Missing => return None,
        PathState::Other { what } => (
            format!("{path:?} is {what}, and a volume has to be a directory"),
            format!("lstat of {path:?}: {what}"),
            Fix::command(
                "move what is there out of the way, or name another bridge",
                format!("mv {0} {0}.before", shell(path)),
            ),
        ),
        PathState::Error { errno: Errno::ENOTCONN } => (
            format!("a dead FUSE mount lies on {path:?}"),
            format!("lstat of {path:?} gives ENOTCONN"),
            Fix::command("take it off", format!("umount --lazy {}", shell(path))),
        ),
        PathState::Error { errno } => (
            format!("{path:?} cannot be looked at"),
            format!("lstat of {path:?} gives {errno}"),
            Fix::words("name another bridge"),
        ),
    };
    Some(Cause {
        source: "path_resolution(7)".into(),
        ..node_cause(CauseId::BridgeUnusable, title, vec![evidence], fix, doctor(plan))
    })
}

/// The bridge could not be made.
fn bridge_not_made(scene: &Scene<'_>) -> Option<Cause> {
    let plan = &scene.report.plan;
    let path = &plan.bridge.path;
    let check = scene.failed(&CheckId::Bridge).map(|check| check.observed.as_str());
    // In a scenario the bridge is made with the first workload.
    let errored = scene.report.phases.iter().filter(|phase| phase.status == Status::Errored);
    let mut reasons = errored.filter_map(|phase| phase.reason.as_deref());
    let made = format!("make directory {path:?}");
    let observed = check.or_else(|| reasons.find(|reason| reason.contains(&made)))?;
    let (title, fix) = match Errno::said_in(observed) {
        Some(Errno::EROFS) => (
            format!("{path:?} cannot be made: its filesystem is read-only"),
            "name a bridge on a writable filesystem",
        ),
        Some(Errno::ENOSPC) => {
            (format!("{path:?} cannot be made: the disk is full"), "free space on the node's disk")
        }
        _ => (
            format!("{path:?} cannot be made"),
            "make the directory by hand, or name another bridge",
        ),
    };
    Some(Cause {
        source: "mkdir(2), ERRORS".into(),
        ..node_cause(
            CauseId::BridgeUnusable,
            title,
            vec![observed.to_owned()],
            Fix::words(fix),
            doctor(plan),
        )
    })
}
