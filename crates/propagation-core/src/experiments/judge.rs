//! Judging a run: how every actor fared, and what a change made different.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::Class;
use crate::observation::{Access, Actor, Observation, Outcome, Via};
use crate::plan::{Fault, PhaseName, Plan, Role, Volume, WorkloadSpec};
use crate::report::{
    After, Capture, CheckId, Deed, FailureOf, Report, SideEffect, Since, Status, Tried,
};
use crate::verdict::{RunOutcome, VerdictOutcome};

/// How every actor fared in a run.
#[derive(Debug, Clone)]
pub(super) struct Fared {
    /// Consumers that were wrong: in the end, or in the five phases by a hang.
    wrong: BTreeSet<Actor>,
    /// Actors that could read in the end as their own user.
    readers: BTreeSet<Actor>,
    /// Number of mounts at the FUSE path of an actor, and in its namespace.
    mounts: BTreeMap<Actor, (u64, u64)>,
    /// Actors with writes that landed beneath the mountpoint.
    lower: BTreeSet<Actor>,
    /// What every actor could not do in the end, or in the five phases at any time because it hung.
    trouble: BTreeMap<Actor, BTreeSet<Trouble>>,
    /// Whether an actor could ever read.
    anybody_read: bool,
    /// Whether something did not come in its time: an answer, or a mount.
    waits: bool,
}

/// An access as a user, and how it failed.
type Trouble = (u32, Access, Class);

impl Fared {
    /// How the workloads of `plan`, and the node, fared in a run of it.
    pub(super) fn of(report: &Report, plan: &Plan) -> Self {
        let ends = Ends::of(report);
        let own = |actor: &Actor| (actor.clone(), plan.uid_of(actor), Access::Read);
        let named = plan.workloads.iter().map(|spec| Actor::workload(spec.name.clone()));
        let everybody: Vec<Actor> = named.chain([Actor::Node]).collect();
        let reads = |actor: &&Actor| ends.last.get(&own(actor)).is_some_and(|end| end.ok);
        let lower = report.timeline.iter().filter(|seen| seen.outcome == Outcome::Lower);
        Self {
            wrong: ends.wrong(plan, five(report)),
            readers: everybody.iter().filter(reads).cloned().collect(),
            mounts: report.captures.last().map(|capture| mounts(capture, plan)).unwrap_or_default(),
            lower: lower.map(|seen| seen.actor.clone()).collect(),
            trouble: trouble(report),
            anybody_read: probes(report).any(|seen| seen.outcome.is_ok()),
            waits: is_late(report) || probes(report).any(is_hang),
        }
    }

    /// Whether these actors are right.
    pub(super) fn works_for(&self, actors: &[Actor]) -> bool {
        actors.iter().all(|actor| !self.wrong.contains(actor))
    }

    /// Whether these actors are wrong in the way in which they were.
    pub(super) fn is_broken_as(&self, before: &Self, actors: &[Actor]) -> bool {
        let same = |actor: &Actor| match (self.trouble.get(actor), before.trouble.get(actor)) {
            (Some(now), Some(before)) => now.intersection(before).next().is_some(),
            // Its start was refused, so that it could not look.
            (now, before) => now == before,
        };
        actors.iter().all(|actor| self.wrong.contains(actor) && same(actor))
    }

    /// Whether something comes in its time that does not in another run.
    fn is_sooner_than(&self, other: &Self) -> bool {
        other.waits && !self.waits
    }

    /// Whether an access got no answer.
    pub(super) fn hangs(&self) -> bool {
        let hang = |(_, _, class): &Trouble| *class == Class::Hang;
        self.trouble.values().flatten().any(hang)
    }

    /// Whether an actor could read before something was done to the mount.
    pub(super) fn worked_once(&self) -> bool {
        self.anybody_read
    }
}

fn trouble(report: &Report) -> BTreeMap<Actor, BTreeSet<Trouble>> {
    let mut last: BTreeMap<(&Actor, u32, Access), &Outcome> = BTreeMap::new();
    let mut trouble: BTreeMap<Actor, BTreeSet<Trouble>> = BTreeMap::new();
    let mut add = |actor: &Actor, uid, access, outcome: &Outcome| {
        trouble.entry(actor.clone()).or_default().insert((uid, access, outcome.class()));
    };
    for seen in probes(report) {
        last.insert((&seen.actor, seen.uid, seen.access), &seen.outcome);
        if five(report) && matches!(seen.outcome, Outcome::Hang { .. }) {
            add(&seen.actor, seen.uid, seen.access, &seen.outcome);
        }
    }
    for ((actor, uid, access), outcome) in last.into_iter().filter(|(_, one)| !one.is_ok()) {
        add(actor, uid, access, outcome);
    }
    trouble
}

/// The last observation of one actor by one access.
#[derive(Debug, Clone, Copy)]
struct End {
    ok: bool,
    /// Whether it was ever right.
    ever: bool,
}

/// The last observations of all actors.
struct Ends {
    last: BTreeMap<(Actor, u32, Access), End>,
    hung: BTreeSet<Actor>,
}

fn five(report: &Report) -> bool {
    report.verdict.answer().is_some()
}

/// Observations that the runner asked for, except for held descriptors, which never recover.
fn probes(report: &Report) -> impl Iterator<Item = &Observation> {
    report.timeline.iter().filter(|seen| {
        seen.via == Via::Probe
            && seen.access != Access::Held
            && !matches!(seen.outcome, Outcome::Skipped { .. })
    })
}

impl Ends {
    fn of(report: &Report) -> Self {
        let (mut last, mut hung) = (BTreeMap::<_, End>::new(), BTreeSet::new());
        for seen in probes(report) {
            let ok = seen.outcome.is_ok();
            let end = last
                .entry((seen.actor.clone(), seen.uid, seen.access))
                .or_insert(End { ok, ever: ok });
            *end = End { ok, ever: end.ever || ok };
            if matches!(seen.outcome, Outcome::Hang { .. }) {
                hung.insert(seen.actor.clone());
            }
        }
        Self { last, hung }
    }

    fn wrong(&self, plan: &Plan, five: bool) -> BTreeSet<Actor> {
        let consumers = plan.with_role(Role::Consumer);
        let wrong = consumers.filter(|spec| self.is_wrong(plan, spec, five));
        wrong.map(|spec| Actor::workload(spec.name.clone())).collect()
    }

    /// Whether a consumer is wrong: in the end it cannot read, as itself or as another user, or cannot do what it
    /// could do before.
    fn is_wrong(&self, plan: &Plan, spec: &WorkloadSpec, five: bool) -> bool {
        let actor = Actor::workload(spec.name.clone());
        let own = self.last.get(&(actor.clone(), spec.uid, Access::Read));
        let elsewhere = match &spec.volume {
            Volume::Path(path) => {
                let fuse = plan.bridge.fuse_path();
                !fuse.starts_with(path.as_str()) && !path.starts_with(&fuse)
            }
            _ => false,
        };
        if elsewhere && !own.is_some_and(|end| end.ever) {
            return false;
        }
        let mut of_it = self.last.iter().filter(|((one, ..), _)| *one == actor);
        own.is_none()
            || of_it.any(|((_, _, access), end)| !end.ok && (*access == Access::Read || end.ever))
            || five && self.hung.contains(&actor)
    }
}

/// Whether a consumer of the run is wrong.
pub(crate) fn anybody_is_wrong(report: &Report) -> bool {
    !Ends::of(report).wrong(&report.plan, five(report)).is_empty()
}

/// Whether a repair can still help: a consumer cannot read in the end, or did not recover by itself.
pub(super) fn needs_help_now(report: &Report) -> bool {
    let ends = Ends::of(report);
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

/// The checks that failed, with their phases.
fn failed(report: &Report) -> impl Iterator<Item = (&str, &CheckId)> {
    report.phases.iter().flat_map(|phase| {
        let failed = phase.checks.iter().filter(|check| check.status == Status::Failed);
        failed.map(|check| (phase.id.as_str(), &check.id))
    })
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

fn is_hang(seen: &Observation) -> bool {
    matches!(seen.outcome, Outcome::Hang { .. })
}

/// Whether a mount did not come.
fn is_late(report: &Report) -> bool {
    report.failures.iter().any(|failure| failure.of != FailureOf::Start)
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
    let is_waited_for = |(phase, _): (&str, &CheckId)| phase.ends_with("-wait");
    let waited =
        || not_served() || failed(report).any(is_waited_for) || probes(report).any(is_hang);
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
    let fared = Fared::of(report, plan);
    let now = if for_good {
        fared.wrong.clone()
    } else {
        // What is done once cannot mend what was before it.
        Ends::of(report).wrong(plan, false)
    };
    let (not_healed, healed): (Vec<Actor>, Vec<Actor>) =
        before.wrong.iter().cloned().partition(|actor| now.contains(actor));
    let worse = worse(before, &fared, plan);
    let differs = |actor: &&Actor| !fared.is_broken_as(before, std::slice::from_ref(*actor));
    let otherwise = not_healed.iter().filter(differs).cloned().collect();
    let answered = match report.verdict.outcome() {
        RunOutcome::Answer(outcome) if for_good => outcome == VerdictOutcome::FullSuccess,
        _ => !before.wrong.is_empty(),
    };
    let node_reads = !before.readers.contains(&Actor::Node) || fared.readers.contains(&Actor::Node);
    Tried {
        heals: answered && not_healed.is_empty() && worse.is_empty() && node_reads,
        after: after(report, &healed, plan, for_good),
        healed,
        not_healed,
        otherwise,
        worse,
        side_effects: side_effects(before, &fared),
        added: None,
        short_of_time: false,
        took_ms: milliseconds(took),
    }
}

/// Actors that could read and no longer can, and controls that can.
fn worse(before: &Fared, now: &Fared, plan: &Plan) -> Vec<Actor> {
    let named = plan.workloads.iter().map(|spec| (Actor::workload(spec.name.clone()), spec.role));
    let everybody = named.chain([(Actor::Node, Role::Consumer)]);
    let worse = everybody.filter(|(actor, role)| {
        let (could, can) = (before.readers.contains(actor), now.readers.contains(actor));
        if *role == Role::Control { can && !could } else { could && !can }
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

fn mounts(capture: &Capture, plan: &Plan) -> BTreeMap<Actor, (u64, u64)> {
    let path_of = |actor: &Actor| match actor {
        Actor::Workload { name, .. } => plan
            .workload(name)
            .map_or_else(|| plan.bridge.fuse_path(), |spec| spec.paths(&plan.bridge).fuse),
        _ => plan.bridge.fuse_path(),
    };
    let tables = capture.tables.iter().map(|one| {
        let layers = one.table.stack_at(&path_of(&one.actor).as_str().into()).len();
        (one.actor.clone(), (layers as u64, one.table.entries().len() as u64))
    });
    tables.collect()
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
