//! What fails without an error: lower filesystems, empty mounts; and what does not fail at all.

use std::collections::{BTreeMap, HashSet};

use super::NOTHING_WRONG;
use super::below;
use super::cause::{Cause, Confidence, Fix};
use super::scene::{Scene, first_replicas};
use super::text::{KUBERNETES_MODES, line, names, shell};
use crate::observation::{Access, Actor, MountView, Observation, Outcome};
use crate::plan::Role;
use crate::report::Status;

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    causes.extend(lower_read(scene));
    causes.extend(mounted_but_empty(scene));
    causes.extend(did_not_notice(scene));
    causes.extend(lower_exposed(scene));
    causes
}

/// Something was read at the path and no FUSE mount is there: somebody wrote to the lower
/// filesystem.
fn lower_read(scene: &Scene<'_>) -> Option<Cause> {
    let wrong = scene.probes().filter(|seen| {
        let on_fuse = seen.mount.as_ref().is_some_and(MountView::is_fuse);
        matches!(seen.outcome, Outcome::WrongContent { .. }) && !on_fuse
    });
    let seen: Vec<&Observation> = wrong.collect();
    let path = shell(&scene.report.plan.bridge.fuse_path());
    silent(
        "lower-filesystem-written",
        "files lie in the directory under the mountpoint, on the lower filesystem: somebody wrote \
         there while nothing was mounted, and the next mount hides them",
        &seen,
        Fix::command(
            "move the files away, then make the directory refuse writes while nothing is mounted \
             on it",
            format!("chattr +i {path}"),
        ),
        format!("ls -A {path}   # nothing, while it is not mounted"),
    )
}

/// The mount is there and the sentinel is not in it, or is an old one.
fn mounted_but_empty(scene: &Scene<'_>) -> Option<Cause> {
    let over_lost = below::devices(scene);
    let wrong = scene.probes().filter(|seen| {
        let on_fuse = seen.mount.as_ref().is_some_and(MountView::is_fuse);
        // A producer that has its own mount is no reader of another's.
        scene.role_of(&seen.actor) != Some(Role::Producer)
            && matches!(seen.outcome, Outcome::WrongContent { .. } | Outcome::Empty)
            && on_fuse
            && !below::explains(&over_lost, seen)
            && !scene.is_of_another_producer(seen)
    });
    let seen: Vec<&Observation> = wrong.collect();
    silent(
        "mounted-but-wrong-content",
        "the mount is there, answers, and its content is not that of the producer that started last: \
         a check by exit code alone would pass",
        &seen,
        Fix::yaml(
            "let consumers look for a sentinel file, not only for the mount",
            PROBE_WITH_SENTINEL,
        ),
        format!(
            "propagation probe {} --sentinel producer-marker.txt   # ok, exit status 0",
            shell(&scene.report.plan.bridge.fuse_path())
        ),
    )
}

const PROBE_WITH_SENTINEL: &str = "livenessProbe:\n  exec:\n    command: [/propagation-agent, \
                                   probe, /mnt/dfs, --sentinel, producer-marker.txt, --timeout, \
                                   4s]\n";

fn did_not_notice(scene: &Scene<'_>) -> Option<Cause> {
    let check = scene.failed("noticed").next()?;
    Some(Cause {
        id: "consumer-did-not-notice".into(),
        title: "a consumer went on as if nothing had happened while its mount was broken".into(),
        confidence: Confidence::Certain,
        actors: Vec::new(),
        mounts: Vec::new(),
        evidence: vec![check.observed.clone()],
        fix: Fix::yaml(
            "let consumers look for a sentinel file, not only for the directory",
            PROBE_WITH_SENTINEL,
        ),
        verify: "kubectl describe pod   # Liveness probe failed, while the producer is away".into(),
        source: KUBERNETES_MODES.into(),
    })
}

/// After a clean unmount consumers see the empty lower directory, without any error.
fn lower_exposed(scene: &Scene<'_>) -> Option<Cause> {
    let mut seen: Vec<&Observation> = Vec::new();
    let mut could_read: HashSet<&Actor> = HashSet::new();
    for one in scene.probes().filter(|one| scene.role_of(&one.actor) == Some(Role::Consumer)) {
        match one.outcome {
            Outcome::Ok if one.mount.is_some() => {
                could_read.insert(&one.actor);
            }
            Outcome::Absent if could_read.contains(&one.actor) => seen.push(one),
            _ => {}
        }
    }
    let path = shell(&scene.report.plan.bridge.fuse_path());
    silent(
        "lower-filesystem-exposed",
        "after a clean unmount consumers see the empty directory under the mountpoint and no error: \
         what they write then lands on the lower filesystem, and the next mount hides it",
        &seen,
        Fix::command(
            "make the directory under the mountpoint refuse writes, and let consumers look for a \
             sentinel file",
            format!("chattr +i {path}   # while nothing is mounted there"),
        ),
        format!("touch {path}/x   # fails, while nothing is mounted there"),
    )
}

fn silent(id: &str, title: &str, seen: &[&Observation], fix: Fix, verify: String) -> Option<Cause> {
    const SHOWN: usize = 4;
    let first = seen.first()?;
    let mut evidence: Vec<String> = seen.iter().take(SHOWN).map(ToString::to_string).collect();
    if seen.len() > SHOWN {
        evidence.push(format!("and {} more, in {}", seen.len() - SHOWN, first.step));
    }
    Some(Cause {
        id: id.into(),
        title: title.into(),
        confidence: Confidence::Certain,
        actors: first_replicas(seen),
        mounts: Vec::new(),
        evidence,
        fix,
        verify,
        source: "mount(8); chattr(1), i".into(),
    })
}

/// When no rule has found anything: nothing is wrong, or a check failed that no rule explains.
pub(super) fn otherwise(scene: &Scene<'_>) -> Option<Cause> {
    let report = scene.report;
    let failed: Vec<_> = report
        .phases
        .iter()
        .flat_map(|phase| &phase.checks)
        .filter(|check| check.status == Status::Failed)
        .collect();
    if let Some(first) = failed.first() {
        let ids: Vec<&str> = failed.iter().map(|check| check.id.as_str()).collect();
        return Some(Cause {
            id: "unexplained".into(),
            title: format!(
                "{}: {}",
                names(ids),
                first.cause.clone().unwrap_or_else(|| first.observed.clone())
            ),
            confidence: Confidence::Possible,
            actors: Vec::new(),
            mounts: Vec::new(),
            evidence: failed
                .iter()
                .map(|check| format!("{}: {}", check.id, check.observed))
                .collect(),
            fix: Fix::words(first.fix.clone().unwrap_or_else(|| {
                "look at the evidence of the checks that failed and at the mount graph".into()
            })),
            verify: "propagation run --evidence".into(),
            source: SHARED.into(),
        });
    }
    let ran = report.phases.iter().any(|phase| phase.status == Status::Passed);
    let whole = report.phases.iter().all(|phase| phase.status == Status::Passed);
    (ran && whole).then(|| nothing_wrong(scene))
}

const SHARED: &str = super::text::SHARED_SUBTREES;

/// What can be said of a run in which nothing came out otherwise than expected.
fn what_is_right(scene: &Scene<'_>) -> String {
    // One that a phase makes for itself is not asked to the end.
    let consumers = |seen: &&Observation| match &seen.actor {
        Actor::Workload { name, .. } if seen.access == Access::Read => {
            let spec = scene.report.plan.workload(name);
            spec.is_some_and(|spec| spec.role == Role::Consumer && scene.is_on_bridge(spec))
        }
        _ => false,
    };
    let last: BTreeMap<&Actor, &Observation> =
        scene.probes().filter(consumers).map(|seen| (&seen.actor, seen)).collect();
    let without: Vec<String> = last
        .iter()
        .filter(|(_, seen)| !matches!(seen.outcome, Outcome::Ok | Outcome::Skipped { .. }))
        .filter(|(_, seen)| !scene.is_of_another_producer(seen))
        .map(|(actor, _)| actor.to_string())
        .collect();
    let mounted = scene.report.timeline.iter().any(|seen| seen.outcome.is_ok());
    if !mounted {
        "everything came out as expected, and no FUSE mount was part of it".into()
    } else if !without.is_empty() {
        format!(
            "everything came out as expected, and in the end {} cannot use the mount",
            names(without.iter().map(String::as_str))
        )
    } else if scene.report.plan.is_five_phases() {
        "nothing is wrong: everybody sees the mount, notices its death, and reads the fresh one"
            .into()
    } else {
        "nothing is wrong: everything came out as expected, and everybody who looks sees the mount"
            .into()
    }
}

fn nothing_wrong(scene: &Scene<'_>) -> Cause {
    let mut evidence = Vec::new();
    let mut last: Vec<(&Actor, &Observation)> = Vec::new();
    for seen in scene.probes().filter(|seen| seen.outcome.is_ok()) {
        let replica = matches!(seen.actor, Actor::Workload { replica, .. } if replica > 0);
        if replica {
            continue;
        }
        match last.iter_mut().find(|(actor, _)| **actor == seen.actor) {
            Some((_, known)) => *known = seen,
            None => last.push((&seen.actor, seen)),
        }
    }
    evidence.extend(last.iter().map(|(_, seen)| seen.to_string()));
    if let Some((_, table)) = scene.last_table(&Actor::Node) {
        evidence.extend(table.at(&scene.fuse_path).map(|mount| line("node", mount)));
    }
    Cause {
        id: NOTHING_WRONG.into(),
        title: what_is_right(scene),
        confidence: Confidence::Certain,
        actors: Vec::new(),
        mounts: Vec::new(),
        evidence,
        fix: Fix::words("nothing to do"),
        verify: "propagation run   # exit status 0".into(),
        source: SHARED.into(),
    }
}
