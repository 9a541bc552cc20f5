//! How every actor fared in a run.

use std::collections::{BTreeMap, BTreeSet};

use super::deeds::{self, Done};
use crate::Class;
use crate::act::actor;
use crate::observation::{Access, Actor, Observation, Outcome, Via};
use crate::plan::{Aspect, Plan, Role, Subject, Volume, WorkloadSpec};
use crate::report::{Capture, CheckId, FailureOf, Report, Status};

/// How every actor fared in a run.
#[derive(Debug, Clone)]
pub(super) struct Fared {
    /// Consumers that were wrong: in the end, or in the five phases by a hang. Where a run is judged by what was
    /// expected, the actors of expectations that were not met, too.
    pub(super) wrong: BTreeSet<Actor>,
    /// Whether the run is judged by what was expected: something came out otherwise, and no consumer is wrong in the
    /// end.
    pub(super) by_expectation: bool,
    /// Actors that could read in the end as their own user.
    pub(super) readers: BTreeSet<Actor>,
    /// Actors that could read at some time as their own user.
    ever: BTreeSet<Actor>,
    /// Number of mounts at the FUSE path of an actor, and in its namespace.
    pub(super) mounts: BTreeMap<Actor, (u64, u64)>,
    /// Actors with writes that landed beneath the mountpoint.
    pub(super) lower: BTreeSet<Actor>,
    /// What every actor could not do in the end, or in the five phases at any time because it hung.
    trouble: BTreeMap<Actor, BTreeSet<Trouble>>,
    /// What was done.
    pub(super) deeds: Vec<Done>,
    /// Every look that was made.
    looks: BTreeSet<(Actor, u32, Access)>,
    /// Whether an actor could ever read.
    anybody_read: bool,
    /// Whether something did not come in its time: an answer, or a mount.
    pub(super) waits: bool,
}

/// An access as a user, and how it failed.
type Trouble = (u32, Access, Class);

impl Fared {
    /// How the workloads of `plan`, and the node, fared in a run of it.
    pub(super) fn of(report: &Report, plan: &Plan) -> Self {
        Self::by(report, plan, None, None)
    }

    /// As [`of`](Self::of), for a run that is compared with another. With `step` only the looks of that step show
    /// how somebody fares in the end: what was seen before it says nothing of what it did.
    pub(super) fn beside(report: &Report, plan: &Plan, before: &Self, step: Option<&str>) -> Self {
        Self::by(report, plan, Some(before), step)
    }

    fn by(report: &Report, plan: &Plan, before: Option<&Self>, step: Option<&str>) -> Self {
        let five = five(report) && step.is_none();
        let ends = Ends::of(report, step);
        let own = |actor: &Actor| (actor.clone(), plan.uid_of(actor), Access::Read);
        let named = plan.workloads.iter().map(|spec| Actor::workload(spec.name.clone()));
        let everybody: Vec<Actor> = named.chain([Actor::Node]).collect();
        let reads = |actor: &&Actor| ends.last.get(&own(actor)).is_some_and(|end| end.ok);
        let ever = |actor: &&Actor| ends.ever.contains(&own(actor));
        let lower = report.timeline.iter().filter(|seen| seen.outcome == Outcome::Lower);
        let nobody = BTreeSet::new();
        let mut wrong = ends.wrong(plan, five, before.map_or(&nobody, |before| &before.ever));
        let by_expectation = match before {
            Some(before) => before.by_expectation,
            None => !five && wrong.is_empty() && failed(report).next().is_some(),
        };
        if by_expectation {
            wrong.extend(unmet(report, &everybody));
        }
        Self {
            wrong,
            by_expectation,
            readers: everybody.iter().filter(reads).cloned().collect(),
            ever: everybody.iter().filter(ever).cloned().collect(),
            mounts: report.captures.last().map(|capture| mounts(capture, plan)).unwrap_or_default(),
            lower: lower.map(|seen| seen.actor.clone()).collect(),
            trouble: trouble(report, five, step),
            deeds: deeds::of(report),
            looks: ends
                .last
                .keys()
                .filter(|(actor, ..)| everybody.contains(actor))
                .cloned()
                .collect(),
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
    pub(super) fn is_sooner_than(&self, other: &Self) -> bool {
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

    /// Every look that was made, as keys of expectations.
    pub(super) fn looks(&self) -> impl Iterator<Item = String> {
        self.looks.iter().filter_map(|(actor, uid, access)| {
            let aspect = |(_, aspect): &&(&str, Aspect)| aspect.access() == Some(*access);
            let (word, _) = Aspect::NAMES.iter().find(aspect)?;
            Some(format!("{actor}@{uid}.{word}"))
        })
    }
}

/// Actors of expectations that were not met.
fn unmet(report: &Report, everybody: &[Actor]) -> Vec<Actor> {
    let of = |id: &CheckId| match id {
        CheckId::Expect(key) => Subject::parse(key).ok().map(|subject| actor(&subject.actor)),
        _ => None,
    };
    failed(report).filter_map(|(_, id)| of(id)).filter(|one| everybody.contains(one)).collect()
}

fn trouble(report: &Report, five: bool, step: Option<&str>) -> BTreeMap<Actor, BTreeSet<Trouble>> {
    let mut last: BTreeMap<(&Actor, u32, Access), &Outcome> = BTreeMap::new();
    let mut trouble: BTreeMap<Actor, BTreeSet<Trouble>> = BTreeMap::new();
    let mut add = |actor: &Actor, uid, access, outcome: &Outcome| {
        trouble.entry(actor.clone()).or_default().insert((uid, access, outcome.class()));
    };
    for seen in probes(report).filter(|seen| step.is_none_or(|step| seen.step == step)) {
        last.insert((&seen.actor, seen.uid, seen.access), &seen.outcome);
        if five && is_hang(seen) {
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
pub(super) struct End {
    pub(super) ok: bool,
}

/// The last observations of all actors.
pub(super) struct Ends {
    pub(super) last: BTreeMap<(Actor, u32, Access), End>,
    /// Whoever was right at some time.
    ever: BTreeSet<(Actor, u32, Access)>,
    pub(super) hung: BTreeSet<Actor>,
}

pub(super) fn five(report: &Report) -> bool {
    report.verdict.answer().is_some()
}

/// Observations that the runner asked for, except for held descriptors, which never recover.
pub(super) fn probes(report: &Report) -> impl Iterator<Item = &Observation> {
    report.timeline.iter().filter(|seen| {
        seen.via == Via::Probe
            && seen.access != Access::Held
            && !matches!(seen.outcome, Outcome::Skipped { .. })
    })
}

pub(super) fn is_hang(seen: &Observation) -> bool {
    matches!(seen.outcome, Outcome::Hang { .. })
}

/// Whether a mount did not come.
pub(super) fn is_late(report: &Report) -> bool {
    report.failures.iter().any(|failure| failure.of != FailureOf::Start)
}

/// The checks that failed, with their phases.
pub(super) fn failed(report: &Report) -> impl Iterator<Item = (&str, &CheckId)> {
    report.phases.iter().flat_map(|phase| {
        let failed = phase.checks.iter().filter(|check| check.status == Status::Failed);
        failed.map(|check| (phase.id.as_str(), &check.id))
    })
}

impl Ends {
    /// With `step` only what was seen in it is the last.
    pub(super) fn of(report: &Report, step: Option<&str>) -> Self {
        let (mut last, mut ever, mut hung) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        for seen in probes(report) {
            let (ok, key) = (seen.outcome.is_ok(), (seen.actor.clone(), seen.uid, seen.access));
            if ok {
                ever.insert(key.clone());
            }
            if step.is_none_or(|step| seen.step == step) {
                last.insert(key, End { ok });
            }
            if is_hang(seen) {
                hung.insert(seen.actor.clone());
            }
        }
        Self { last, ever, hung }
    }

    /// `read_before`: whoever could read at some time in the run that this one is compared with.
    pub(super) fn wrong(
        &self,
        plan: &Plan,
        five: bool,
        read_before: &BTreeSet<Actor>,
    ) -> BTreeSet<Actor> {
        let consumers = plan.with_role(Role::Consumer);
        let wrong = consumers.filter(|spec| self.is_wrong(plan, spec, five, read_before));
        wrong.map(|spec| Actor::workload(spec.name.clone())).collect()
    }

    /// Whether a consumer is wrong: in the end it cannot read, as itself or as another user, or cannot do what it
    /// could do before.
    fn is_wrong(
        &self,
        plan: &Plan,
        spec: &WorkloadSpec,
        five: bool,
        read_before: &BTreeSet<Actor>,
    ) -> bool {
        let actor = Actor::workload(spec.name.clone());
        let key = (actor.clone(), spec.uid, Access::Read);
        let elsewhere = match &spec.volume {
            Volume::Path(path) => {
                let fuse = plan.bridge.fuse_path();
                !fuse.starts_with(path.as_str()) && !path.starts_with(&fuse)
            }
            _ => false,
        };
        if elsewhere && !self.ever.contains(&key) && !read_before.contains(&actor) {
            return false;
        }
        let mut of_it = self.last.iter().filter(|((one, ..), _)| *one == actor);
        !self.last.contains_key(&key)
            || of_it.any(|(key, end)| !end.ok && (key.2 == Access::Read || self.ever.contains(key)))
            || five && self.hung.contains(&actor)
    }
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
