//! Judging a run: what a change made different.

use std::collections::BTreeSet;
use std::time::Duration;

use super::deeds;
use super::fared::{Ends, Fared, failed, five, is_hang, is_late, probes};
use crate::observation::{Access, Actor};
use crate::plan::{Action, Fault, PhaseName, Plan, Role, WorkloadSpec};
use crate::report::{
    After, CheckId, Deed, FailureOf, JudgedBy, Report, SideEffect, Since, Status, Tried,
};
use crate::verdict::{RunOutcome, VerdictOutcome};

/// Whether a consumer of the run is wrong.
pub(crate) fn anybody_is_wrong(report: &Report) -> bool {
    let nobody = BTreeSet::new();
    !Ends::of(report, None).wrong(&report.plan, five(report), &nobody).is_empty()
}

/// Whether a repair can still help: a consumer cannot read in the end, or did not recover by itself.
pub(super) fn needs_help_now(report: &Report) -> bool {
    let ends = Ends::of(report, None);
    let as_itself = |spec: &WorkloadSpec| {
        let actor = Actor::workload(spec.name.clone());
        let end = ends.last.get(&(actor.clone(), spec.uid, Access::Read));
        end.is_some_and(|end| !end.ok) || five(report) && ends.hung.contains(&actor)
    };
    let helped = report
        .phase(PhaseName::Recovery.as_str())
        .and_then(|phase| phase.check(&CheckId::RecoversByItself))
        .is_some_and(|check| check.status == Status::Failed);
    helped || report.plan.with_role(Role::Consumer).any(as_itself)
}

/// Trouble of a run that its repetition does not show; none when it shows all of it.
pub(super) fn differs(report: &Report, repeated: &Report) -> Option<String> {
    let there: Vec<(&str, &CheckId)> = failed(repeated).collect();
    let missing = failed(report).find(|one| !there.contains(one));
    if let Some((phase, check)) = missing {
        return Some(format!("{check} in {phase} comes out as expected there"));
    }
    let (here, there) = (report.verdict.outcome(), repeated.verdict.outcome());
    let other = matches!(here, RunOutcome::Answer(_)) && here != there;
    other.then(|| format!("the answer there is {}", there.as_str()))
}

/// Whether longer deadlines might change the result. Where a daemon is told not to answer, a hang is one for a change
/// that is to end it.
pub(super) fn undecided(report: &Report, plan: &Plan, for_good: bool, is_to_end_it: bool) -> bool {
    let fared = Fared::of(report, plan);
    let slow = |fault: &Fault| matches!(fault, Fault::Stop | Fault::Slow(_));
    let may_hang = slow(&plan.fault)
        || report.acts.iter().any(|act| matches!(&act.deed, Deed::Fault { fault } if slow(fault)));
    let hung = match may_hang {
        false => probes(report).any(is_hang),
        true => is_to_end_it && fared.hangs(),
    };
    let late = is_late(report);
    let not_noticed = for_good
        && five(report)
        && fared.wrong.is_empty()
        && failed(report).any(|(_, check)| {
            matches!(check, CheckId::FindsMarker(_) | CheckId::Noticed | CheckId::RecoversByItself)
        });
    hung || late || not_noticed
}

/// Whether a run did not heal, and waited in vain for what comes in its time without the change: a machine that is
/// busy does that too.
pub(super) fn ran_out_of_time(before: &Fared, report: &Report, plan: &Plan, tried: &Tried) -> bool {
    !tried.heals && before.is_sooner_than(&Fared::of(report, plan))
}

/// Whether a change left somebody wrong that may heal on a slow machine where there is more time: something did not come
/// within its deadline. The five phases wait at every turn.
pub(super) fn may_need_longer(report: &Report, tried: &Tried) -> bool {
    let not_served = || report.failures.iter().any(|failure| failure.of == FailureOf::Serve);
    let waits = || report.plan.any_step(&|step| matches!(step.action, Action::Wait(_)));
    let in_vain = || waits() && failed(report).any(|(_, check)| check.is_expectation());
    let waited = || not_served() || in_vain() || probes(report).any(is_hang);
    !tried.heals && (five(report) || !tried.not_healed.is_empty() && waited())
}

/// Effect of a change on a run.
pub(super) fn compare(
    before: &Fared,
    report: &Report,
    plan: &Plan,
    for_good: bool,
    took: Duration,
) -> Tried {
    // What is done once cannot mend what was before it.
    let step = report.phases.last().filter(|_| !for_good).map(|phase| phase.id.as_str());
    let fared = Fared::beside(report, plan, before, step);
    let (mut not_healed, mut healed): (Vec<Actor>, Vec<Actor>) =
        before.wrong.iter().cloned().partition(|actor| fared.wrong.contains(actor));
    let worse = worse(before, &fared, plan);
    let differs = |actor: &&Actor| !fared.is_broken_as(before, std::slice::from_ref(*actor));
    let mut otherwise: Vec<Actor> = not_healed.iter().filter(differs).cloned().collect();
    let fails = deeds::fails(&before.deeds, &fared.deeds);
    if !fails.is_empty() {
        // What would have broken them did not happen, so nothing is known of them.
        otherwise.extend(healed.iter().cloned());
        not_healed.append(&mut healed);
    }
    let answered = match report.verdict.outcome() {
        RunOutcome::Answer(outcome) if for_good => outcome == VerdictOutcome::FullSuccess,
        _ if before.by_expectation => for_good && failed(report).next().is_none(),
        _ => !before.wrong.is_empty(),
    };
    let node_reads = !before.readers.contains(&Actor::Node) || fared.readers.contains(&Actor::Node);
    let judged_by = match before.by_expectation {
        true => JudgedBy::Expectations,
        false => JudgedBy::Readers,
    };
    let after = match judged_by {
        JudgedBy::Readers => after(report, &healed, plan, for_good),
        JudgedBy::Expectations => None,
    };
    Tried {
        heals: answered
            && not_healed.is_empty()
            && worse.is_empty()
            && fails.is_empty()
            && node_reads,
        judged_by,
        after,
        healed,
        not_healed,
        otherwise,
        worse,
        fails,
        side_effects: side_effects(before, &fared),
        added: None,
        short_of_time: false,
        took_ms: milliseconds(took),
    }
}

/// Actors that could read and no longer can, consumers that are wrong and were not, and controls that can read.
fn worse(before: &Fared, now: &Fared, plan: &Plan) -> Vec<Actor> {
    let named = plan.workloads.iter().map(|spec| (Actor::workload(spec.name.clone()), spec.role));
    let everybody = named.chain([(Actor::Node, Role::Consumer)]);
    let worse = everybody.filter(|(actor, role)| {
        let (could, can) = (before.readers.contains(actor), now.readers.contains(actor));
        let is_wrong = now.wrong.contains(actor) && !before.wrong.contains(actor);
        if *role == Role::Control { can && !could } else { could && !can || is_wrong }
    });
    worse.map(|(actor, _)| actor).collect()
}

/// Time until the last healed consumer could read.
fn after(report: &Report, healed: &[Actor], plan: &Plan, for_good: bool) -> Option<After> {
    if let Some(ms) = report.measurements.remount_to_fresh_read_ms.filter(|_| for_good) {
        return Some(After { since: Since::Remount, ms });
    }
    let first_of_the_last = |actor: &Actor| {
        let uid = plan.uid_of(actor);
        let mut first = None;
        let reads = report
            .timeline
            .iter()
            .filter(|seen| seen.actor == *actor && seen.uid == uid && seen.access == Access::Read);
        for seen in reads {
            match (seen.outcome.is_ok(), first) {
                (true, None) => first = Some(seen.at_us),
                (true, Some(_)) => {}
                (false, _) => first = None,
            }
        }
        first
    };
    let last_us = healed.iter().filter_map(first_of_the_last).max()?;
    let act = report.acts.iter().rev().find(|act| act.from_us <= last_us)?;
    let ms = last_us.saturating_sub(act.from_us) as f64 / 1e3;
    Some(After { since: Since::Act, ms })
}

fn side_effects(before: &Fared, now: &Fared) -> Vec<SideEffect> {
    let mut effects = Vec::new();
    for (actor, (layers, all)) in &now.mounts {
        let Some((layers_before, all_before)) = before.mounts.get(actor) else { continue };
        let (actor, without) = (actor.clone(), *layers_before);
        if *layers > without.max(1) {
            effects.push(SideEffect::Layers { actor, without, with: *layers });
        } else if *all > all_before + 1 {
            effects.push(SideEffect::Mounts { actor, without: *all_before, with: *all });
        }
    }
    let lower = now.lower.difference(&before.lower);
    effects.extend(lower.map(|actor| SideEffect::LowerWrite { actor: actor.clone() }));
    effects
}

/// How long something took, in milliseconds.
pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
