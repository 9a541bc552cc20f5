//! Who may mount and who may look: allow_other, security modules, capabilities.

use std::collections::BTreeSet;

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands;
use super::groups;
use super::host::{PRIVILEGED, USER_ALLOW_OTHER, fusermount_absent, no_device, user_allow_other};
use super::mountpoint;
use super::options;
use super::runtime::said_by_the_runtime;
use super::scene::{Scene, first_replicas};
use super::security_module::{self, denied_domain};
use super::text::{FUSE_OPTIONS, line, names, shell};
use crate::Class;
use crate::confinement::FuseNeed;
use crate::errno::Errno;
use crate::mountinfo::{MountEntry, MountRef};
use crate::observation::{Actor, Observation, Outcome, Via};
use crate::plan::{Propagation, WorkloadSpec};
use crate::program::RefusalKind;

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    kept_out(scene)
}

/// Producers that could not mount.
pub(super) fn rule_of_mounts(scene: &Scene<'_>) -> Vec<Cause> {
    cannot_mount(scene).into_iter().collect()
}

/// What the producer said when it could not mount.
fn cannot_mount(scene: &Scene<'_>) -> Option<Cause> {
    let failed = scene.failed_mounts();
    let first = *failed.first()?;
    let (name, text) = (first.workload.as_str(), first.words.as_str());
    let cause = why_not_mounted(scene, name, text)?;
    Some(scene.when_failed(&failed).of(cause))
}

/// The cause, from the words of a producer.
fn why_not_mounted(scene: &Scene<'_>, name: &str, text: &str) -> Option<Cause> {
    let uid = scene.report.plan.workload(name).map_or(0, |producer| producer.uid);
    let said = format!("the producer: {text}");
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if has(&["user_allow_other"]) {
        let file = scene.report.environment.as_ref().map(|facts| facts.fuse_conf.path.clone());
        let cause = user_allow_other(file.as_deref().unwrap_or("/etc/fuse.conf"), vec![said]);
        let in_container = scene.spec(name).is_some_and(|spec| !spec.host);
        return Some(match in_container {
            true => Cause { fix: in_the_image(scene, cause.fix.words), ..cause },
            false => cause,
        });
    }
    if has(&["not empty", "nonempty"]) {
        return Some(mountpoint::not_empty(scene, name, said));
    }
    if let Some(cause) = mountpoint::missing(name, text) {
        return Some(cause);
    }
    let device = has(&["/dev/fuse"]).then(|| Errno::said_in(text)).flatten();
    if let Some(cause) = device.and_then(|errno| no_device(scene, name, errno, &said)) {
        return Some(cause);
    }
    if has(&["fusermount"]) && has(&["ENOENT", "No such file", "not found"]) {
        let on_node = scene.spec(name).is_some_and(|spec| spec.host);
        return Some(fusermount_absent(uid, said, on_node));
    }
    // mount(8) of util-linux says "permission denied" for EPERM.
    if text.lines().any(|said| said.contains("mount: ") && said.contains(": permission denied")) {
        return Some(not_capable(
            "the mount",
            vec![said],
            vec![Actor::workload(name)],
            scene.spec(name),
        ));
    }
    if has(&["EACCES", "Permission denied", "permission denied"]) {
        let privileged = scene.spec(name).is_some_and(WorkloadSpec::privileged);
        let is_denied = |need: &FuseNeed| denied_domain(scene.report, *need, privileged).is_some();
        // A producer looks at its mount before it says that it is there.
        let need = [FuseNeed::Mount, FuseNeed::Files].into_iter().find(is_denied);
        return Some(security_module::denies(
            scene,
            need.unwrap_or(FuseNeed::Mount),
            privileged,
            vec![said],
            vec![Actor::workload(name)],
        ));
    }
    if has(&["EPERM", "Operation not permitted", "operation not permitted"]) {
        return Some(not_capable(
            "the mount",
            vec![said],
            vec![Actor::workload(name)],
            scene.spec(name),
        ));
    }
    None
}

/// Actors that are denied by the mount, or by something in front of it.
fn kept_out(scene: &Scene<'_>) -> Vec<Cause> {
    let with = |denied: Errno| -> Vec<&Observation> {
        let denied = scene.report.timeline.iter().filter(|seen| {
            seen.via == Via::Probe
                && matches!(&seen.outcome, Outcome::Errno { errno, .. } if *errno == denied)
                && (!scene.is_answered(seen) || modes_deny(scene, seen))
                && !groups::explains(scene, seen)
        });
        denied.collect()
    };
    let mut causes = Vec::new();
    // Whoever is denied again after a remount has been denied all the time.
    let timed = |cause: Cause, denied: &[&Observation]| {
        let lasts = denied.iter().any(|seen| scene.history.lasts(seen));
        let still = |actor: &Actor| {
            denied.iter().any(|seen| seen.actor == *actor && scene.history.lasts(seen))
        };
        let of_them: Vec<&Observation> =
            denied.iter().filter(|seen| !lasts || still(&seen.actor)).copied().collect();
        match of_them.is_empty() {
            true => cause,
            false => {
                let when = scene.history.when(&of_them);
                when.of(Cause { actors: actors(&of_them), ..cause })
            }
        }
    };
    let (denied, refused) = (with(Errno::EACCES), refusals(scene, RefusalKind::Denied));
    let mounts = scene.fuse_mounts();
    let device_of = |seen: &Observation| seen.mount.as_ref().map(|mount| mount.device);
    // The mount of those who were denied; of a start that was refused any.
    let theirs = |mount: &MountEntry| {
        denied.is_empty()
            || denied.iter().any(|seen| device_of(seen).is_none_or(|device| device == mount.device))
    };
    let keeps_out = mounts.iter().find(|(_, mount)| !allows_other(mount) && theirs(mount));
    if !denied.is_empty() || !refused.is_empty() {
        let domain = denied_domain(scene.report, FuseNeed::Files, false);
        // Programs outside of containers are in the same domain.
        let by_policy = domain.is_some_and(|domain| domain.own);
        let cause = match (keeps_out, outside(scene, &denied)) {
            (Some((actor, mount)), _) => {
                allow_other_missing(scene, actor, mount, &denied, &refused)
            }
            (None, Some((true, looks))) if !by_policy => {
                daemon_denies(scene, &denied, words(&looks))
            }
            (None, outside) => {
                let looks = outside.map(|(_, looks)| words(&looks)).unwrap_or_default();
                let evidence = [words(&denied), refused, looks.clone()].concat();
                let who = actors(&denied);
                let cause = security_module::denies(scene, FuseNeed::Files, false, evidence, who);
                let confidence = match looks.is_empty() && domain.is_none() {
                    true => Confidence::Possible,
                    false => Confidence::Likely,
                };
                Cause { confidence, ..cause }
            }
        };
        causes.push(timed(cause, &denied));
    }
    let (denied, refused) = (with(Errno::EPERM), refusals(scene, RefusalKind::NotPermitted));
    if !denied.is_empty() || !refused.is_empty() {
        let cause = match outside(scene, &denied) {
            Some((true, looks)) => daemon_denies(scene, &denied, words(&looks)),
            _ => {
                let evidence = [words(&denied), refused].concat();
                not_capable("access to the mount", evidence, actors(&denied), None)
            }
        };
        causes.push(timed(cause, &denied));
    }
    causes
}

/// The option of a FUSE mount that lets other users in (fuse(4)).
const ALLOW_OTHER: &str = "allow_other";

/// The same users' outcomes on the node, outside of any container: whether they are denied there too. None where
/// nothing was looked at from there.
fn outside<'r>(
    scene: &Scene<'r>,
    denied: &[&'r Observation],
) -> Option<(bool, Vec<&'r Observation>)> {
    let same = |seen: &&Observation| {
        seen.actor == Actor::Node
            && !matches!(seen.outcome, Outcome::Skipped { .. } | Outcome::Absent)
            && denied.iter().any(|one| {
                one.uid == seen.uid
                    && one.mount.as_ref().map(|m| m.device) == seen.mount.as_ref().map(|m| m.device)
            })
    };
    let looks: Vec<&Observation> = scene.asked().filter(same).collect();
    let class = denied.first()?.outcome.class();
    let also = looks.iter().any(|seen| seen.outcome.class() == class);
    (!looks.is_empty()).then_some((also, looks))
}

/// Path on the node of the mount that they were denied.
fn place(scene: &Scene<'_>, denied: &[&Observation]) -> String {
    let at = denied.first().map_or_else(|| scene.fuse_path.clone(), |seen| scene.place_of(seen));
    at.to_string_lossy().into_owned()
}

/// Whether the kernel compares users with the modes of the files of a FUSE mount.
fn compares_modes(mount: &MountEntry) -> bool {
    mount.super_options.split(',').any(|option| option == "default_permissions")
}

/// Whether EACCES is the kernel's word on a mode: root passes every one.
pub(super) fn modes_deny(scene: &Scene<'_>, seen: &Observation) -> bool {
    let of_it =
        |mount: &MountEntry| seen.mount.as_ref().is_some_and(|one| one.device == mount.device);
    seen.uid != 0
        && seen.outcome.class() == Class::Errno(Errno::EACCES)
        && scene.fuse_mounts().iter().any(|(_, mount)| of_it(mount) && compares_modes(mount))
}

/// The kernel compares users and groups with the modes of the files.
fn file_mode_denies(
    scene: &Scene<'_>,
    denied: &[&Observation],
    name: &str,
    errno: Class,
    uids: &[&str],
    evidence: Vec<String>,
) -> Cause {
    Cause {
        id: CauseId::FileModeDenies,
        from_step: None,
        until_step: None,
        title: format!(
            "the modes of the files deny {}: the mount of {name} has default_permissions, so the kernel compares users \
             and groups with owner, group and mode, and gives {errno} inside containers and outside",
            names(uids.iter().copied())
        ),
        confidence: Confidence::Likely,
        actors: actors(denied),
        mounts: Vec::new(),
        evidence,
        fix: as_a_user_who_may(
            scene,
            denied,
            format!(
                "let {name} show other modes (its options for uid, gid, umask or permissions), or give the program the \
             group of the files"
            ),
        ),
        verify: format!(
            "stat -c '%u %g %a' {}   # on the node, as root",
            shell(&place(scene, denied))
        ),
        source: "https://docs.kernel.org/filesystems/fuse.html, default_permissions".into(),
    }
}

/// The mount admits all users, but its daemon does not.
fn daemon_denies(scene: &Scene<'_>, denied: &[&Observation], looks: Vec<String>) -> Cause {
    let uids: BTreeSet<String> = denied.iter().map(|seen| format!("uid {}", seen.uid)).collect();
    let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
    let errno = denied.first().map_or(Class::Errno(Errno::EACCES), |seen| seen.outcome.class());
    let device = denied.first().and_then(|seen| seen.mount.as_ref()).map(|mount| mount.device);
    let producer = scene.producer_of(device, denied.first().map_or(0, |seen| seen.at_us));
    let name = producer.map_or("the producer", |spec| spec.name.as_str());
    let mut evidence = words(denied);
    evidence.extend(looks);
    evidence.dedup();
    let mounts = scene.fuse_mounts();
    let mount = mounts.iter().find(|(_, mount)| Some(mount.device) == device);
    evidence.extend(mount.map(|(actor, mount)| line(actor, mount)));
    if mount.is_some_and(|(_, mount)| compares_modes(mount)) {
        return file_mode_denies(scene, denied, name, errno, &uids, evidence);
    }
    Cause {
        id: CauseId::DaemonDenies,
        from_step: None,
        until_step: None,
        title: format!(
            "the daemon of {name} itself answers {errno} to {}, though the mount has allow_other: the same user is \
             refused outside of any container too, so neither confinement nor the kernel is in the way",
            names(uids.iter().copied())
        ),
        confidence: Confidence::Likely,
        actors: actors(denied),
        mounts: mount
            .map(|(actor, mount)| MountRef::new(actor.to_string(), mount.mount_id))
            .into_iter()
            .collect(),
        evidence,
        fix: as_a_user_who_may(
            scene,
            denied,
            format!(
                "let the daemon of {name} serve other users: its own access check counts beside the option allow_other \
             (in fuser SessionACL::All, in rclone and others --uid, --gid and --umask), or the modes of its files"
            ),
        ),
        verify: format!(
            "grep -F fuse /proc/self/mountinfo; ls {}   # as that user, on the node",
            shell(&place(scene, denied))
        ),
        source: "https://docs.kernel.org/filesystems/fuse.html, What do the mount options mean"
            .into(),
    }
}

fn allows_other(mount: &MountEntry) -> bool {
    mount.super_options.split(',').any(|option| option == ALLOW_OTHER)
}

/// Words of the runtime for the starts that it refused for this reason.
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
        id: CauseId::AllowOtherMissing,
        from_step: None,
        until_step: None,
        title: format!(
            "the FUSE mount has no allow_other: only uid {owner}, who mounted it, passes, and {} \
             kept out",
            if owner == "0" { "everybody else is" } else { "root like everybody else is" }
        ),
        confidence: Confidence::Likely,
        actors: actors(denied),
        mounts: vec![MountRef::new(actor.to_string(), mount.mount_id)],
        evidence,
        fix: admit_all(scene, mount, owner, also),
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

/// Fix for the fuse.conf of containers.
fn in_the_image(scene: &Scene<'_>, words: String) -> Fix {
    let there = scene.report.plan.node.container_fuse_conf.as_deref().unwrap_or_default();
    let file = serde_json::Value::from(format!("{there}{USER_ALLOW_OTHER}\n"));
    Fix::yaml(
        words,
        format!(
            "node:\n  container_fuse_conf: {file}   # the /etc/fuse.conf of the producer's image\n"
        ),
    )
}

/// Fix for a mount that admits only its owner.
fn admit_all(scene: &Scene<'_>, mount: &MountEntry, owner: &str, also: &str) -> Fix {
    let plan = &scene.report.plan;
    let producer = scene.producer_of(Some(mount.device), u64::MAX);
    let kept = commands::keep_what_they_have(scene);
    let then = match kept.is_empty() {
        true => String::new(),
        false => {
            let who = names(kept.iter().map(|spec| spec.name.as_str()));
            format!("; then restart {who}, which keeps the mount that it started with")
        }
    };
    let permits = |spec: &WorkloadSpec| {
        let node = &plan.node;
        let file = if spec.host { &node.fuse_conf } else { &node.container_fuse_conf };
        let mut lines = file.as_deref().unwrap_or_default().lines();
        lines.any(|line| line.trim() == USER_ALLOW_OTHER)
    };
    let also = if producer.is_some_and(permits) { "" } else { also };
    let words = format!("mount with -o allow_other{also}{then}");
    let mut fix = options::with(scene, producer, "allow_other: true", ALLOW_OTHER, words);
    if let Some(spec) = producer.filter(|_| owner != "0" && !fix.text.is_empty()) {
        let (key, there) = match spec.host {
            true => ("fuse_conf", &plan.node.fuse_conf),
            false => ("container_fuse_conf", &plan.node.container_fuse_conf),
        };
        if permits(spec) {
            return fix;
        }
        let there = there.as_deref().unwrap_or_default();
        let file = serde_json::Value::from(format!("{there}{USER_ALLOW_OTHER}\n"));
        fix.text.push_str(&format!("node:\n  {key}: {file}   # the /etc/fuse.conf that is read\n"));
    }
    fix
}

/// Fix for a daemon, or modes, that let some users in: run as one of them, where one is known.
fn as_a_user_who_may(scene: &Scene<'_>, denied: &[&Observation], words: String) -> Fix {
    let device = denied.first().and_then(|seen| scene.device_of(seen));
    let may = scene
        .asked()
        .filter(|seen| seen.outcome.is_ok() && scene.device_of(seen) == device)
        .map(|seen| seen.uid)
        .filter(|uid| denied.iter().all(|seen| seen.uid != *uid))
        // Root where there is nobody else.
        .min_by_key(|uid| uid.wrapping_sub(1));
    match may {
        Some(uid) => Fix::yaml(
            format!("{words}; or run the program as uid {uid}, who may"),
            format!("securityContext:\n  runAsUser: {uid}\n"),
        ),
        None => Fix::words(words),
    }
}

/// EPERM.
fn not_capable(
    what: &str,
    evidence: Vec<String>,
    actors: Vec<Actor>,
    producer: Option<&WorkloadSpec>,
) -> Cause {
    let private = producer.is_some_and(|spec| spec.propagation != Propagation::Bidirectional);
    let fix = match private {
        true => Fix::yaml(
            "make the producer's container privileged, and its volume Bidirectional, so that the mount reaches the node",
            format!(
                "{PRIVILEGED}volumeMounts:\n  - name: fuse\n    mountPropagation: Bidirectional\n"
            ),
        ),
        false => Fix::yaml("make the producer's container privileged", PRIVILEGED),
    };
    Cause {
        id: CauseId::CapabilityMissing,
        from_step: None,
        until_step: None,
        title: format!(
            "{what} is refused with EPERM: a missing capability (CAP_SYS_ADMIN) or seccomp, not a \
             security module, which gives EACCES"
        ),
        confidence: Confidence::Likely,
        actors,
        mounts: Vec::new(),
        evidence,
        fix,
        verify: "grep CapEff /proc/self/status   # in the container: with bit 21 (CAP_SYS_ADMIN)"
            .into(),
        source: "mount(2), ERRORS; capabilities(7), CAP_SYS_ADMIN".into(),
    }
}
