//! Runs for which no rule has a cause: nothing is wrong, or nobody knows why.

use std::collections::BTreeMap;

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::scene::{Scene, first_replicas};
use super::text::{SHARED_SUBTREES, line, names};
use crate::observation::{Access, Actor, Observation, Outcome};
use crate::plan::Role;
use crate::report::{Check, CheckId, Status};

/// The cause when no rule has found one: nothing is wrong, or a check failed that no rule explains.
pub(super) fn otherwise(scene: &Scene<'_>) -> Option<Cause> {
    let report = scene.report;
    let failed: Vec<&Check> = scene.failures().collect();
    if let Some(cause) = failed.iter().find_map(|check| stated(check)) {
        return Some(cause);
    }
    if let Some(first) = failed.first() {
        let title = match (scene.mount_failures().first(), report.failures.first()) {
            (Some((name, said)), _) => format!("{name} could not mount: {said}"),
            (None, Some(refused)) => {
                format!("the runtime refused {}: {}", refused.workload, refused.words)
            }
            (None, None) => came_out(first),
        };
        return Some(unexplained(title, &failed));
    }
    if let Some(cause) = trouble_without_a_cause(scene).or_else(|| refused_without_a_cause(scene)) {
        return Some(cause);
    }
    let ran = report.phases.iter().any(|phase| phase.status == Status::Passed);
    let whole = report.phases.iter().all(|phase| phase.status == Status::Passed);
    (ran && whole).then(|| nothing_wrong(scene))
}

/// How a check came out, in one line.
fn came_out(check: &Check) -> String {
    let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    let observed = first(&check.observed);
    match &check.id {
        CheckId::Expect(key) => {
            format!("{key} is {observed}, and {} was expected", first(&check.expected))
        }
        id => format!("{id}: {observed}"),
    }
}

/// A program that failed when nothing of what the causes tell was so.
pub(super) fn beside(scene: &Scene<'_>, causes: &[Cause]) -> Option<Cause> {
    let place = |step: &str| scene.history.place(step);
    let told = |step: &str| {
        causes.iter().any(|cause| {
            let from = cause.from_step.as_deref().map_or(0, place);
            let until = cause.until_step.as_deref().map_or(usize::MAX, place);
            (from..until).contains(&place(step))
        })
    };
    let untold = scene.report.phases.iter().filter(|phase| !told(&phase.id));
    let failed: Vec<(&str, &Check)> = untold
        .flat_map(|phase| phase.checks.iter().map(move |check| (phase.id.as_str(), check)))
        .filter(|(_, check)| {
            check.status == Status::Failed
                && (check.id == CheckId::Run || check.id == CheckId::Expect("run".to_owned()))
        })
        .collect();
    let (step, first) = failed.first()?;
    let checks: Vec<&Check> = failed.iter().map(|(_, check)| *check).collect();
    let title = format!("{} in {step}, and no rule says why", came_out(first));
    Some(Cause { from_step: Some((*step).to_owned()), ..unexplained(title, &checks) })
}

/// An actor was wrong, and neither an expectation nor a rule explains it.
fn trouble_without_a_cause(scene: &Scene<'_>) -> Option<Cause> {
    if scene.is_in_order() {
        return None;
    }
    let unexpected = scene.history.spells.iter().filter(|spell| {
        let first = spell.seen[0];
        !scene.is_expected(first)
    });
    let mut spells: Vec<_> = unexpected.collect();
    if spells.iter().any(|spell| spell.lasts()) {
        spells.retain(|spell| spell.lasts());
    }
    let seen: Vec<&Observation> = spells.iter().map(|spell| spell.seen[0]).collect();
    let first = seen.first()?;
    let cause = Cause {
        actors: first_replicas(&seen),
        evidence: seen.iter().take(4).map(ToString::to_string).collect(),
        ..unexplained(format!("{first} after {}, and no rule says why", first.step), &[])
    };
    Some(scene.history.when(&seen).of(cause))
}

/// A container or a mount did not come about, and no rule explains it.
fn refused_without_a_cause(scene: &Scene<'_>) -> Option<Cause> {
    let failures = scene.not_over(|_| true);
    let first = *failures.first()?;
    let cause = Cause {
        actors: vec![Actor::workload(first.workload.clone())],
        evidence: vec![first.words.clone()],
        ..unexplained(format!("{} did not start: {}", first.workload, first.words), &[])
    };
    Some(scene.when_failed(&failures).of(cause))
}

/// The finding that a custom phase attached to its check.
fn stated(check: &Check) -> Option<Cause> {
    let finding = check.finding.as_ref()?;
    Some(Cause {
        id: CauseId::Custom(check.id.to_string()),
        from_step: None,
        until_step: None,
        title: finding.cause.clone(),
        confidence: Confidence::Likely,
        actors: Vec::new(),
        mounts: Vec::new(),
        evidence: [vec![format!("{}: {}", check.id, check.observed)], check.evidence.clone()]
            .concat(),
        fix: Fix::words(finding.fix.clone()),
        verify: String::new(),
        source: String::new(),
    })
}

/// Trouble that no rule explains.
fn unexplained(title: String, failed: &[&Check]) -> Cause {
    Cause {
        id: CauseId::Unexplained,
        from_step: None,
        until_step: None,
        title,
        confidence: Confidence::Possible,
        actors: Vec::new(),
        mounts: Vec::new(),
        evidence: failed.iter().map(|check| format!("{}: {}", check.id, check.observed)).collect(),
        fix: Fix::words("look at the evidence of the checks that failed and at the mount graph"),
        verify: String::new(),
        source: SHARED_SUBTREES.into(),
    }
}

/// The cause of a run in which everything came out as expected.
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
        id: CauseId::NothingWrong,
        from_step: None,
        until_step: None,
        title: what_is_right(scene),
        confidence: Confidence::Likely,
        actors: Vec::new(),
        mounts: Vec::new(),
        evidence,
        fix: Fix::words("nothing to do"),
        verify: "propagation run   # exit status 0".into(),
        source: SHARED_SUBTREES.into(),
    }
}
