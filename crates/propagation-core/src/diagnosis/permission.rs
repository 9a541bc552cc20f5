//! Who may mount and who may look: allow_other, security modules, capabilities.

use super::cause::{Cause, Confidence, Fix};
use super::host::{PRIVILEGED, fusermount_absent, user_allow_other};
use super::runtime::said_by_the_runtime;
use super::scene::{Scene, first_replicas};
use super::text::{FUSE_OPTIONS, line};
use crate::errno::Errno;
use crate::mountinfo::{MountEntry, MountRef};
use crate::observation::{Actor, Observation, Outcome, Via};
use crate::program::RefusalKind;

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let mut causes: Vec<Cause> = cannot_mount(scene).into_iter().collect();
    causes.extend(kept_out(scene));
    causes
}

/// What the producer said when it could not mount.
fn cannot_mount(scene: &Scene<'_>) -> Option<Cause> {
    let (name, text) = *scene.mount_failures().first()?;
    let uid = scene.report.plan.workload(name).map_or(0, |producer| producer.uid);
    let said = format!("the producer: {text}");
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if has(&["user_allow_other"]) {
        let file = scene.report.environment.as_ref().map(|facts| facts.fuse_conf.path.clone());
        return Some(user_allow_other(file.as_deref().unwrap_or("/etc/fuse.conf"), vec![said]));
    }
    if has(&["fusermount"]) && has(&["ENOENT", "No such file", "not found"]) {
        return Some(fusermount_absent(uid, said));
    }
    // mount(8) of util-linux says "permission denied" for EPERM.
    if text.lines().any(|said| said.contains("mount: ") && said.contains(": permission denied")) {
        return Some(not_capable("the mount", vec![said], vec![Actor::workload(name)]));
    }
    if has(&["EACCES", "Permission denied", "permission denied"]) {
        return Some(lsm(scene, "the mount", vec![said], vec![Actor::workload(name)]));
    }
    if has(&["EPERM", "Operation not permitted", "operation not permitted"]) {
        return Some(not_capable("the mount", vec![said], vec![Actor::workload(name)]));
    }
    None
}

/// Actors that the mount, or somebody in front of it, keeps out.
fn kept_out(scene: &Scene<'_>) -> Vec<Cause> {
    let with = |denied: Errno| -> Vec<&Observation> {
        let denied = scene.report.timeline.iter().filter(|seen| {
            seen.via == Via::Probe
                && matches!(&seen.outcome, Outcome::Errno { errno, .. } if *errno == denied)
                && !scene.is_answered(seen)
        });
        denied.collect()
    };
    let mut causes = Vec::new();
    let denied = with(Errno::EACCES);
    let refused = refusals(scene, RefusalKind::Denied);
    let mounts = scene.fuse_mounts();
    let keeps_out = mounts.iter().find(|(_, mount)| !allows_other(mount));
    match keeps_out {
        Some((actor, mount)) if !denied.is_empty() || !refused.is_empty() => {
            causes.push(allow_other_missing(scene, actor, mount, &denied, &refused));
        }
        _ if !denied.is_empty() || !refused.is_empty() => {
            let evidence = [words(&denied), refused].concat();
            causes.push(lsm(scene, "access to the mount", evidence, actors(&denied)));
        }
        _ => {}
    }
    let denied = with(Errno::EPERM);
    let refused = refusals(scene, RefusalKind::NotPermitted);
    if !denied.is_empty() || !refused.is_empty() {
        let evidence = [words(&denied), refused].concat();
        causes.push(not_capable("access to the mount", evidence, actors(&denied)));
    }
    causes
}

/// The option of a FUSE mount that lets other users in (fuse(4)).
const ALLOW_OTHER: &str = "allow_other";

fn allows_other(mount: &MountEntry) -> bool {
    mount.super_options.split(',').any(|option| option == ALLOW_OTHER)
}

/// What the runtime said of the starts that it refused for this reason.
fn refusals(scene: &Scene<'_>, kind: RefusalKind) -> Vec<String> {
    said_by_the_runtime(&scene.refusals(kind))
}

fn words(seen: &[&Observation]) -> Vec<String> {
    const SHOWN: usize = 4;
    let mut words: Vec<String> = seen.iter().take(SHOWN).map(ToString::to_string).collect();
    if seen.len() > SHOWN {
        words.push(format!("and {} more", seen.len() - SHOWN));
    }
    words
}

fn actors(seen: &[&Observation]) -> Vec<Actor> {
    const NAMED: usize = 8;
    let mut actors = first_replicas(seen);
    actors.truncate(NAMED);
    actors
}

fn allow_other_missing(
    scene: &Scene<'_>,
    actor: &Actor,
    mount: &MountEntry,
    denied: &[&Observation],
    refused: &[String],
) -> Cause {
    let owner = mount
        .super_options
        .split(',')
        .find_map(|option| option.strip_prefix("user_id="))
        .unwrap_or("0");
    let also = if owner == "0" { "" } else { ", and add user_allow_other to its /etc/fuse.conf" };
    let mut evidence = words(denied);
    evidence.extend_from_slice(refused);
    evidence.push(line(actor, mount));
    Cause {
        id: "allow-other-missing".into(),
        title: format!(
            "the FUSE mount has no allow_other: only uid {owner}, who mounted it, passes, and {} \
             kept out",
            if owner == "0" { "everybody else is" } else { "root like everybody else is" }
        ),
        confidence: Confidence::Certain,
        actors: actors(denied),
        mounts: vec![MountRef::new(actor.to_string(), mount.mount_id)],
        evidence,
        fix: Fix::words(format!("mount with -o allow_other{also}")),
        verify: format!("grep -F {} /proc/self/mountinfo   # with allow_other", mount.device),
        source: format!(
            "{FUSE_OPTIONS}; {}",
            if scene.report.plan.producer().is_some_and(|p| p.uid == 0) {
                "https://docs.kernel.org/filesystems/fuse.html, What do the mount options mean"
            } else {
                "fusermount3(1)"
            }
        ),
    }
}

/// EACCES where the mount itself lets everybody in.
fn lsm(scene: &Scene<'_>, what: &str, mut evidence: Vec<String>, actors: Vec<Actor>) -> Cause {
    let modules = scene.report.environment.as_ref().map(|facts| facts.lsm.join(","));
    match modules.filter(|modules| !modules.is_empty()) {
        Some(modules) => evidence.push(format!("security modules of the node: {modules}")),
        None => evidence.push("security modules of the node: not readable".into()),
    }
    Cause {
        id: "lsm-denies".into(),
        title: format!(
            "{what} is denied with EACCES: a security module (AppArmor, SELinux) or a file mode, \
             not a missing capability, which gives EPERM"
        ),
        confidence: Confidence::Likely,
        actors,
        mounts: Vec::new(),
        evidence,
        fix: Fix::yaml(
            "let the container run unconfined, or add a rule to its profile",
            "securityContext:\n  appArmorProfile:\n    type: Unconfined\n  seLinuxOptions:\n    \
             type: spc_t\n",
        ),
        verify: "dmesg | grep -E 'apparmor=\"DENIED\"|avc: +denied'   # nothing new".into(),
        source: "apparmor.d(5), Mount Rules; mount(2), ERRORS".into(),
    }
}

/// EPERM.
fn not_capable(what: &str, evidence: Vec<String>, actors: Vec<Actor>) -> Cause {
    Cause {
        id: "capability-missing".into(),
        title: format!(
            "{what} is refused with EPERM: a missing capability (CAP_SYS_ADMIN) or seccomp, not a \
             security module, which gives EACCES"
        ),
        confidence: Confidence::Likely,
        actors,
        mounts: Vec::new(),
        evidence,
        fix: Fix::yaml("make the producer's container privileged", PRIVILEGED),
        verify: "grep CapEff /proc/self/status   # in the container: with bit 21 (CAP_SYS_ADMIN)"
            .into(),
        source: "mount(2), ERRORS; capabilities(7), CAP_SYS_ADMIN".into(),
    }
}
