//! Conclusions of the experiments: which causes are proven, and what to do.

use std::collections::BTreeSet;

use super::change::definition;
use crate::diagnosis::{Cause, CauseId, Confidence, Fix};
use crate::observation::Actor;
use crate::report::{Added, Advice, Change, Experiment, JudgedBy, Report, Trial, What};

/// Adds the conclusions of the experiments to a report: the order of causes by proof, and the advice.
pub(crate) fn conclude(report: &mut Report, experiments: Vec<Experiment>, took_ms: f64) {
    if experiments.is_empty() {
        return;
    }
    let hazards = crate::diagnosis::with_hazards(report).1;
    let mut causes = std::mem::take(&mut report.diagnosis);
    // What an experiment shows of a mere hazard is that everybody was right.
    let of_trouble = causes.len().saturating_sub(hazards);
    let hazards = causes.split_off(if of_trouble == 0 { causes.len() } else { of_trouble });
    report.experiments = experiments;
    let for_good = healing(&report.experiments, true);
    let now = healing(&report.experiments, false);
    report.diagnosis = confirmed(causes, &report.experiments, &for_good);
    report.diagnosis.extend(hazards);
    let tried = report.experiments.iter().filter(|one| one.tried().is_some()).count();
    let changes = |list: &[&Experiment]| list.iter().map(|one| one.change.clone()).collect();
    report.advice = Some(Advice {
        head: head(report, &for_good, &now),
        now: changes(&now),
        for_good: changes(&for_good),
        tried: tried as u64,
        not_tried: (report.experiments.len() - tried) as u64,
        took_ms,
    });
}

/// Changes that heal everybody, the cheapest first; equals in the order of the list. Of one kind, the
/// change that affects the fewest.
fn healing(experiments: &[Experiment], for_good: bool) -> Vec<&Experiment> {
    let mut healing: Vec<&Experiment> =
        experiments.iter().filter(|one| one.for_good == for_good && one.heals()).collect();
    let listed = |change: &Change| super::change::ALL.iter().position(|what| *what == change.what);
    healing.sort_by_key(|one| (one.cost, listed(&one.change), one.change.on.len()));
    healing.dedup_by_key(|one| one.change.what);
    healing
}

/// One change in a sentence.
fn head(report: &Report, for_good: &[&Experiment], now: &[&Experiment]) -> String {
    let experiments = &report.experiments;
    if let Some(first) = for_good.first().or(now.first()) {
        return format!("{}: {}.", first.words, first.outcome());
    }
    let untried = experiments.iter().all(|one| one.tried().is_none());
    match experiments.first().map(|one| &one.trial) {
        Some(Trial::NotTried { reason }) if untried => {
            format!("No change was tried: {reason}.")
        }
        _ => {
            let none = in_vain(report);
            let short = |one: &&Experiment| one.tried().is_some_and(|tried| tried.short_of_time);
            match experiments.iter().find(short) {
                Some(one) => {
                    let none = none.trim_end_matches('.');
                    format!("{none}; the time was too short for one: {}.", one.words)
                }
                None => none.to_owned(),
            }
        }
    }
}

/// What is said where no change heals.
fn in_vain(report: &Report) -> &'static str {
    let tried = || report.experiments.iter().filter_map(Experiment::tried);
    if tried().any(|tried| tried.judged_by == JudgedBy::Expectations) {
        return "No consumer is wrong in the end, and with none of the changes that were tried everything is as expected.";
    }
    if tried().any(|tried| !tried.healed.is_empty() || !tried.not_healed.is_empty()) {
        return "None of the changes that were tried heals everybody.";
    }
    match report.verdict.answer() {
        Some(_) => {
            "No consumer is wrong in the end, and none of the changes that were tried makes it a full success."
        }
        None => {
            "No consumer is wrong in the end, so none of the changes that were tried heals anybody."
        }
    }
}

/// What the experiments prove of a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Removing it heals, and adding it breaks.
    Proven,
    /// Nothing that removes it was tried, or only some of the actors that it concerns are healed.
    Open,
    /// Removing it changes nothing: whoever was wrong is wrong in the same way.
    Refuted,
}

fn confirmed(
    causes: Vec<Cause>,
    experiments: &[Experiment],
    for_good: &[&Experiment],
) -> Vec<Cause> {
    let judged = causes.into_iter().map(|cause| judged(cause, experiments));
    let mut judged: Vec<(Standing, Cause)> = judged.collect();
    // Of several that are proven the one that the advice removes stands first.
    let advised = |cause: &Cause| {
        let place = for_good.iter().position(|one| removes(one, cause));
        place.unwrap_or(usize::MAX)
    };
    judged.sort_by_key(|(standing, cause)| match standing {
        Standing::Proven => (cause.is_over(), *standing, advised(cause)),
        _ => (cause.is_over(), *standing, 0),
    });
    // What a rule names stands: a change that helps may go round the cause instead of removing it.
    let named = judged
        .iter()
        .any(|(_, cause)| !matches!(cause.id, CauseId::NothingWrong | CauseId::Unexplained));
    let mut causes: Vec<Cause> = judged.into_iter().map(|(_, cause)| cause).collect();
    if let (false, Some(first)) = (named, for_good.first()) {
        causes.retain(|cause| cause.id != CauseId::NothingWrong);
        causes.insert(0, found(first));
    }
    causes
}

/// The reverse experiment.
fn added(experiment: &Experiment) -> Option<Added> {
    experiment.tried().and_then(|tried| tried.added)
}

fn removes(experiment: &Experiment, cause: &Cause) -> bool {
    definition(experiment.change.what).removes.contains(&cause.id)
}

/// Whether healing by a change proves the causes that it removes: only where adding the cause to a set-up that
/// works breaks that in the same way. A change of the set-up proves, unless a smaller change, which is a part of it,
/// heals as well; what is done once heals many mounts whatever the cause, and proves that of a daemon only.
fn proves(experiment: &Experiment, cause: &Cause, experiments: &[Experiment]) -> bool {
    use crate::plan::Repair;
    if !added(experiment).is_some_and(|added| added.breaks) {
        return false;
    }
    let change = &experiment.change;
    let smaller = |one: &Experiment| {
        let part = match change.what {
            What::VolumeBridge | What::VolumeAncestor => one.change.what == What::HostToContainer,
            _ => false,
        };
        part && one.heals() && change.on.iter().all(|name| one.change.on.contains(name))
    };
    match (change.what, &cause.id) {
        _ if experiment.for_good => !experiments.iter().any(smaller),
        (What::Continue, CauseId::DaemonStopped)
        | (What::Repair(Repair::HandOver), CauseId::DaemonKilledKeeperHolds) => true,
        (
            What::Restart | What::Recreate | What::Repair(_),
            CauseId::DaemonDead | CauseId::DaemonDiesWithParent | CauseId::DaemonOutOfMemory,
        ) => true,
        _ => false,
    }
}

fn judged(mut cause: Cause, experiments: &[Experiment]) -> (Standing, Cause) {
    // What heals in the end says nothing of what was over before.
    if cause.is_over() {
        return (Standing::Open, cause);
    }
    let tried: Vec<&Experiment> =
        experiments.iter().filter(|one| removes(one, &cause) && one.tried().is_some()).collect();
    let concerned: BTreeSet<&Actor> = cause
        .actors
        .iter()
        .filter(|actor| experiments.iter().any(|one| knows(one, actor)))
        .collect();
    let whole = |one: &&&Experiment| {
        let healed = one.tried().is_some_and(|tried| {
            !concerned.is_empty()
                && tried.worse.is_empty()
                && tried.fails.is_empty()
                && concerned.iter().all(|actor| tried.healed.contains(actor))
        });
        one.heals() || healed
    };
    // What is done once brings back and leaves the cause where it is, unless nothing else removes it.
    let lasting: Vec<&Experiment> = tried.iter().filter(|one| one.for_good).copied().collect();
    let decisive = if lasting.is_empty() { &tried } else { &lasting };
    let healing: Vec<&Experiment> = decisive.iter().filter(|one| whole(one)).copied().collect();
    let proof = healing.iter().find(|one| proves(one, &cause, experiments));
    // The evidence is of the experiment that proves, if one does.
    if let Some(healing) = proof.or(healing.first()) {
        cause.evidence.push(format!("{}: {}", healing.words, healing.outcome()));
        cause.evidence.extend(added(healing).map(|added| format!("tried: {added}")));
        // What fits several causes is shown to fit, and no more.
        let shown = cause.confidence != Confidence::Possible && proof.is_some();
        cause.confidence = if shown { Confidence::Proven } else { Confidence::Likely };
        return (if shown { Standing::Proven } else { Standing::Open }, cause);
    }
    let was_wrong =
        |one: &&Experiment| one.tried().is_some_and(|tried| !tried.not_healed.is_empty());
    let of_workloads = cause.actors.iter().any(|actor| matches!(actor, Actor::Workload { .. }));
    if of_workloads && concerned.is_empty() || !decisive.iter().any(was_wrong) {
        return (Standing::Open, cause);
    }
    // Whoever is wrong in another way afterwards had two causes, one behind the other.
    let helps_nobody = |one: &&Experiment| {
        one.tried().is_some_and(|tried| {
            tried.healed.is_empty() && tried.otherwise.is_empty() && !tried.short_of_time
        })
    };
    if !decisive.is_empty() && decisive.iter().all(helps_nobody) {
        cause.confidence = Confidence::Possible;
        let words: Vec<&str> = decisive.iter().map(|one| one.words.as_str()).collect();
        cause.evidence.push(format!("tried without effect: {}", words.join("; ")));
        return (Standing::Refuted, cause);
    }
    (Standing::Open, cause)
}

/// Whether an experiment could say something of an actor.
fn knows(experiment: &Experiment, actor: &Actor) -> bool {
    experiment
        .tried()
        .is_some_and(|tried| tried.healed.contains(actor) || tried.not_healed.contains(actor))
}

/// A cause that no rule has found.
fn found(experiment: &Experiment) -> Cause {
    let actors = experiment.tried().map(|tried| tried.healed.clone()).unwrap_or_default();
    Cause {
        id: CauseId::FoundByExperiment,
        from_step: None,
        until_step: None,
        title: "one change alone makes it work, so what it changes is the cause".into(),
        confidence: Confidence::Proven,
        actors,
        mounts: Vec::new(),
        evidence: vec![format!("{}: {}", experiment.words, experiment.outcome())],
        fix: Fix {
            words: experiment.words.clone(),
            kind: experiment.kind,
            text: experiment.text.clone(),
            inside: None,
        },
        verify: "propagation run   # exit status 0".into(),
        source: "an experiment with the plan of this run on a simulated node".into(),
    }
}
