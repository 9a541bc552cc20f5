//! Daemons that answer with errors.

use super::below;
use super::cause::{Cause, CauseId, Fix};
use super::dead::{cause, probe};
use super::permission;
use super::read_only;
use super::scene::{Scene, Spell, first_replicas};
use crate::Class;
use crate::errno::Errno;
use crate::observation::{Actor, Observation, Outcome};
use crate::plan::WorkloadSpec;

/// The daemon answers, with an error.
pub(super) fn rule(scene: &Scene<'_>) -> Option<Cause> {
    let over_lost = below::devices(scene);
    let answers = |seen: &Observation| {
        let by_the_kernel = match seen.outcome.class() {
            Class::Errno(Errno::ENOTCONN | Errno::ECONNABORTED) => true,
            Class::Errno(Errno::EACCES | Errno::EPERM) => {
                !scene.is_answered(seen) || permission::modes_deny(scene, seen)
            }
            Class::Errno(Errno::EROFS) => read_only::mount_of(scene, seen).is_some(),
            _ => !matches!(seen.outcome, Outcome::Errno { .. }),
        };
        let mounted = seen.mount.as_ref().is_some_and(|mount| mount.is_fuse());
        !by_the_kernel && mounted && !below::explains(&over_lost, seen)
    };
    let mut spells: Vec<&Spell<'_>> = scene
        .history
        .spells
        .iter()
        .filter(|spell| {
            let last = spell.seen[spell.seen.len() - 1];
            let by_the_daemon = *spell.actor == Actor::Node
                || scene.is_answered(last)
                || only_a_daemon_says(scene, last);
            by_the_daemon && answers(last)
        })
        .collect();
    let of_node = spells.iter().any(|spell| *spell.actor == Actor::Node);
    spells.retain(|spell| !of_node || *spell.actor == Actor::Node);
    let lasts = spells.iter().any(|spell| spell.lasts());
    let seen: Vec<&Observation> = spells
        .iter()
        .filter(|spell| !lasts || spell.lasts())
        .map(|spell| spell.seen[spell.seen.len() - 1])
        .collect();
    let last = *seen.last()?;
    let Outcome::Errno { errno, call } = &last.outcome else { return None };
    let producer = scene.producer_of(last.mount.as_ref().map(|mount| mount.device), last.at_us);
    let mut evidence = vec![last.to_string()];
    evidence.extend(producer.and_then(|spec| log_of(scene, spec, last.at_us)));
    let (id, title, fix) = match *errno {
        Errno::EACCES | Errno::EPERM => (
            CauseId::DaemonDenies,
            format!(
                "the daemon lives and answers {call} itself with {errno}, also to those who could read before: no \
                 mount option and no confinement is in the way"
            ),
            "look into what the daemon checks for itself, and into its log; mounts and propagation are in order",
        ),
        Errno::ENOSPC => (
            CauseId::DaemonAnswersErrors,
            format!("the daemon lives and answers {call} with {errno}: its backing store is full"),
            "make room in what the daemon stores to, or in its cache; mounts and propagation are in order",
        ),
        Errno::ENOSYS | Errno::EOPNOTSUPP => (
            CauseId::DaemonAnswersErrors,
            format!(
                "the daemon lives and answers {call} with {errno}: it does not implement that operation"
            ),
            "use a daemon or a release that implements it; mounts and propagation are in order",
        ),
        _ => (
            CauseId::DaemonAnswersErrors,
            format!("the daemon lives and answers {call} with {errno}: its backing store fails"),
            "look into the producer's log; mounts and propagation are in order",
        ),
    };
    let cause = cause(id, title, evidence, Fix::words(fix), probe(&scene.place_of(last)));
    let actors = if of_node { vec![Actor::Node] } else { first_replicas(&seen) };
    Some(scene.history.when(&seen).of(Cause { actors, ..cause }))
}

/// Whether an errno of an access through a FUSE mount is the daemon's own answer: the kernel says none of these by
/// itself. An expected refusal, such as ENOSYS, is not counted.
pub(super) fn only_a_daemon_says(scene: &Scene<'_>, seen: &Observation) -> bool {
    const TROUBLE: [Errno; 3] = [Errno::EDQUOT, Errno::EIO, Errno::ENOSPC];
    const NATURE: [Errno; 3] = [Errno::ENOSYS, Errno::EOPNOTSUPP, Errno::EROFS];
    let class = seen.outcome.class();
    TROUBLE.map(Class::Errno).contains(&class)
        || NATURE.map(Class::Errno).contains(&class) && !scene.is_expected_as_seen(seen)
}

/// The last thing that a producer said before it ended, or at all; where it was started again after that time, the end
/// of its log is of its successor.
pub(super) fn log_of(scene: &Scene<'_>, producer: &WorkloadSpec, at_us: u64) -> Option<String> {
    if scene.is_succeeded(producer, at_us) {
        return None;
    }
    let name = &producer.name;
    let log = scene.report.logs.iter().find(|log| log.workload == *name)?;
    log.lines.last().map(|said| format!("the log of {name} ends with: {said}"))
}
