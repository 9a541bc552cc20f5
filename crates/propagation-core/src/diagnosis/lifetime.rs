//! The daemon and its connection: dead, stopped, not yet serving, outlived; and what a dead mount
//! blocks.

use super::below;
use super::cause::{Cause, Confidence, Fix};
use super::runtime::said_by_the_runtime;
use super::scene::{Scene, first_replicas};
use super::text::{FUSE_CONNECTIONS, line, names, shell};
use crate::Class;
use crate::errno::Errno;
use crate::mountinfo::{DeviceId, MountEntry, MountRef};
use crate::observation::{Actor, Observation, Outcome};
use crate::program::RefusalKind;
use crate::report::{CheckId, Failure, FailureOf};

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    causes.extend(hang(scene).or_else(|| never_served(scene)));
    causes.extend(dead_dentry(scene));
    causes.extend(daemon_dead(scene));
    causes.extend(daemon_errors(scene));
    causes.extend(stale_source(scene));
    causes.extend(outlived(scene));
    causes.extend(consumer_died(scene));
    causes
}

fn cause(id: &str, title: String, evidence: Vec<String>, fix: Fix, verify: String) -> Cause {
    Cause {
        id: id.into(),
        title,
        confidence: Confidence::Certain,
        actors: Vec::new(),
        mounts: Vec::new(),
        evidence,
        fix,
        verify,
        source: FUSE_CONNECTIONS.into(),
    }
}

/// A look that gives up by itself.
fn probe(scene: &Scene<'_>) -> String {
    let path = scene.report.plan.bridge.fuse_path();
    format!("propagation probe {} --timeout 4s   # ok, exit status 0", shell(&path))
}

/// Readers wait: for a daemon that answered before, or for one that never has.
fn hang(scene: &Scene<'_>) -> Option<Cause> {
    let hung: Vec<&Observation> =
        scene.probes().filter(|seen| matches!(seen.outcome, Outcome::Hang { .. })).collect();
    let first = hung.first()?;
    let mut evidence: Vec<String> = hung.iter().take(4).map(ToString::to_string).collect();
    let mounted = scene.fuse_mounts().into_iter().find(|(actor, _)| **actor == Actor::Node);
    let device = mounted.map(|(_, mount)| mount.device);
    evidence.extend(mounted.map(|(actor, mount)| line(actor, mount)));
    evidence.extend(scene.proofs_of_faults());
    let actors = first_replicas(&hung);
    let (id, title) = if scene.was_ok_before(first) {
        (
            "daemon-stopped",
            "the daemon is alive and does not answer: its connection stays open, and every access \
             waits instead of failing",
        )
    } else {
        ("not-yet-served", NOT_YET_SERVED)
    };
    let fix = abort(
        device,
        "continue or kill the daemon; where that does not help, abort its connection (mount \
         fusectl on /sys/fs/fuse/connections first where it is empty)",
    );
    Some(Cause { actors, ..cause(id, title.into(), evidence, fix, probe(scene)) })
}

const NOT_YET_SERVED: &str = "the mount is made and nobody answers: /dev/fuse is open and its daemon \
                              has not begun to serve, so every access waits";

/// The producer has its mount, and never came to answer, so that nobody went on to look.
fn never_served(scene: &Scene<'_>) -> Option<Cause> {
    scene.report.failures.iter().find_map(|failure| serves_nothing(scene, failure))
}

fn serves_nothing(scene: &Scene<'_>, failure: &Failure) -> Option<Cause> {
    let (name, words) = (&failure.workload, &failure.words);
    let spec = scene.report.plan.workload(name)?;
    let actor = Actor::workload(spec.name.clone());
    let (_, table) = scene.last_table(&actor)?;
    let mount = table.at(&scene.path_of(&actor)).filter(|mount| mount.is_fuse())?;
    let evidence = vec![words.clone(), line(&actor, mount)];
    if let Some(expected) = &scene.report.plan.fuse_of(spec).fs_type
        && *expected != mount.fs_type
        && failure.of != FailureOf::Start
    {
        let said = failure.of == FailureOf::Mount;
        return Some(other_type(name, expected, mount, evidence, said));
    }
    if failure.of != FailureOf::Serve {
        return None;
    }
    let fix = abort(
        Some(mount.device),
        "look at what the daemon waits for (its backing store, its log); to free who waits for it, \
         abort the connection",
    );
    let mounts = vec![MountRef::new(actor.to_string(), mount.mount_id)];
    let found = cause("not-yet-served", NOT_YET_SERVED.into(), evidence, fix, probe(scene));
    Some(Cause { actors: vec![actor], mounts, ..found })
}

/// The mount is there, and not of the type that is waited for; whether the supervisor has said so.
fn other_type(
    name: &str,
    expected: &str,
    mount: &MountEntry,
    evidence: Vec<String>,
    said: bool,
) -> Cause {
    let there = &mount.fs_type;
    Cause {
        confidence: if said { Confidence::Certain } else { Confidence::Likely },
        actors: vec![Actor::workload(name)],
        mounts: vec![MountRef::new(name, mount.mount_id)],
        source: "mount.fuse3(8), subtype; proc_pid_mountinfo(5)".into(),
        ..cause(
            "mount-type-unexpected",
            format!("{name} has mounted a {there}, and its fuse.type waits for {expected}"),
            evidence,
            Fix::words(format!(
                "write `type: {there}`, or leave it out: any FUSE type will do then"
            )),
            format!("grep -F {} /proc/self/mountinfo   # in {name}", shell(expected)),
        )
    }
}

fn abort(device: Option<DeviceId>, words: &str) -> Fix {
    let connection = device.map_or_else(|| "N".into(), |device| device.minor.to_string());
    Fix::command(words, format!("echo 1 > /sys/fs/fuse/connections/{connection}/abort"))
}

/// The node reads ENOTCONN to the end.
fn daemon_dead(scene: &Scene<'_>) -> Option<Cause> {
    let last =
        scene.node.last().filter(|seen| seen.outcome.class() == Class::Errno(Errno::ENOTCONN))?;
    if below::explains(&below::devices(scene), last) {
        return None;
    }
    // A container that could not be started says why nobody brought it back.
    if stale_source(scene).is_some_and(|found| found.actors.iter().any(|a| is_producer(scene, a))) {
        return None;
    }
    let mut evidence = vec![last.to_string()];
    evidence.extend(producer_log(scene));
    evidence.extend(scene.mount_failures().into_iter().map(|(_, words)| words.to_owned()));
    let path = shell(&scene.report.plan.bridge.fuse_path());
    Some(Cause {
        actors: vec![Actor::Node],
        ..cause(
            "daemon-dead",
            "the FUSE daemon is gone and nobody has brought it back: its mount stays behind and \
             gives ENOTCONN"
                .into(),
            evidence,
            Fix::command(
                "take the dead mount off, then start the producer again",
                format!("umount --lazy {path}"),
            ),
            probe(scene),
        )
    })
}

fn is_producer(scene: &Scene<'_>, actor: &Actor) -> bool {
    let producer = scene.report.plan.producer().map(|spec| spec.name.as_str());
    matches!(actor, Actor::Workload { name, .. } if Some(name.as_str()) == producer)
}

/// The last thing the producer said.
fn producer_log(scene: &Scene<'_>) -> Option<String> {
    let producer = &scene.report.plan.producer()?.name;
    let log = scene.report.logs.iter().find(|log| log.workload == *producer)?;
    log.lines.last().map(|said| format!("the log of {producer} ends with: {said}"))
}

/// The daemon answers, with an error.
fn daemon_errors(scene: &Scene<'_>) -> Option<Cause> {
    let last = scene.node.last()?;
    let Outcome::Errno { errno, call } = &last.outcome else { return None };
    let by_the_kernel = match *errno {
        Errno::ENOTCONN => true,
        Errno::EACCES | Errno::EPERM => !scene.is_answered(last),
        _ => false,
    };
    let mounted = last.mount.as_ref().is_some_and(|mount| mount.is_fuse());
    if by_the_kernel || !mounted || below::explains(&below::devices(scene), last) {
        return None;
    }
    let mut evidence = vec![last.to_string()];
    evidence.extend(producer_log(scene));
    Some(Cause {
        actors: vec![Actor::Node],
        confidence: Confidence::Likely,
        ..cause(
            "daemon-answers-errors",
            format!("the daemon lives and answers {call} with {errno}: its backing store fails"),
            evidence,
            Fix::words("look into the producer's log; mounts and propagation are in order"),
            probe(scene),
        )
    })
}

/// The runtime looks at the volume's source before it binds it, and the source is dead.
fn stale_source(scene: &Scene<'_>) -> Option<Cause> {
    let refused = scene.refusals(RefusalKind::DeadSource);
    let mut evidence = said_by_the_runtime(&refused);
    let mut blocked: Vec<&str> = refused.iter().map(|(name, _)| *name).collect();
    // A producer that looks at its mountpoint before it mounts.
    for (name, words) in scene.mount_failures() {
        if Errno::said_in(words) == Some(Errno::ENOTCONN) {
            evidence.push(format!("{name}: {words}"));
            blocked.push(name);
        }
    }
    blocked.sort_unstable();
    blocked.dedup();
    if evidence.is_empty() {
        return None;
    }
    let dead = scene.node.iter().find(|seen| seen.outcome.class() == Class::Errno(Errno::ENOTCONN));
    evidence.extend(dead.map(ToString::to_string));
    let path = shell(&scene.report.plan.bridge.fuse_path());
    let who = names(blocked.iter().copied());
    Some(Cause {
        actors: blocked.iter().map(|name| Actor::workload(*name)).collect(),
        ..cause(
            "stale-source-blocks-start",
            format!(
                "a dead FUSE mount blocks the start of {who}: its source is looked at first and \
                 gives ENOTCONN (a denied source would give EACCES)"
            ),
            evidence,
            Fix::command(
                "take the dead mount off the node; to be safe from it, use the directory above the \
                 mountpoint as the volume",
                format!("umount --lazy {path}"),
            ),
            format!("stat {path}   # no error"),
        )
    })
}

/// A volume, such as the bind of a subPath, whose directory has been deleted under it.
fn dead_dentry(scene: &Scene<'_>) -> Option<Cause> {
    let mut found = Vec::new();
    for capture in scene.report.captures.iter().rev() {
        for one in &capture.tables {
            let path = scene.path_of(&one.actor);
            let covering = one.table.covering(&path);
            if let Some(mount) = covering.filter(|m| m.root_deleted) {
                found.push((&one.actor, mount));
            }
        }
        if !found.is_empty() {
            break;
        }
    }
    let (_, first) = found.first()?;
    let at = shell(&first.mount_point.to_string_lossy());
    let whose: Vec<String> = found.iter().map(|(actor, _)| actor.to_string()).collect();
    Some(Cause {
        actors: found.iter().map(|(actor, _)| (*actor).clone()).collect(),
        mounts: found.iter().map(|(a, m)| MountRef::new(a.to_string(), m.mount_id)).collect(),
        source: "https://kubernetes.io/docs/concepts/storage/volumes/#using-subpath; proc_pid_mountinfo(5)"
            .into(),
        ..cause(
            "subpath-on-dead-dentry",
            format!(
                "the volume of {} (a subPath?) is bound to a directory that has been deleted: what \
                 is mounted or made at that path now is another directory",
                names(whose.iter().map(String::as_str))
            ),
            found.iter().map(|(actor, mount)| line(actor, mount)).collect(),
            Fix::words(
                "use no subPath but the directory above it; delete and create the pod (a restart of \
                 its container keeps the same bind)",
            ),
            format!("grep -F {at} /proc/self/mountinfo   # in the container: without //deleted"),
        )
    })
}

/// The fault did not break the mount.
fn outlived(scene: &Scene<'_>) -> Option<Cause> {
    let check = scene.failed(&CheckId::BreakageSeen)?;
    if check.evidence.is_empty() {
        return None;
    }
    Some(Cause {
        confidence: Confidence::Likely,
        ..cause(
            "mount-outlives-daemon",
            "the mount goes on after the fault: somebody else holds its connection open".into(),
            check.evidence.clone(),
            Fix::words(
                "find the second holder of /dev/fuse: a keeper, a supervisor, a forked daemon",
            ),
            "ls -l /proc/[0-9]*/fd 2> /dev/null | grep -c /dev/fuse".into(),
        )
    })
}

/// Consumers that ended.
fn consumer_died(scene: &Scene<'_>) -> Option<Cause> {
    let check = scene.failed(&CheckId::ConsumersAlive)?;
    Some(cause(
        "consumer-died",
        "a consumer ended because of the dead mount instead of noticing it".into(),
        vec![check.observed.clone()],
        Fix::words("handle ENOTCONN in the consumer, or let its restart policy bring it back"),
        "kubectl get pod --watch   # no restarts while the producer is away".into(),
    ))
}
