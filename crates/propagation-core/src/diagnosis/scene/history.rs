//! Which actors were wrong, and from when to when.

use std::collections::{BTreeSet, HashMap};

use super::super::cause::Cause;
use super::Scene;
use crate::observation::{Access, Actor, Observation, Outcome};
use crate::plan::{PhaseName, Repair, Role};
use crate::report::{Act, Capture, Deed};

/// A time in which one actor saw the same trouble in the same way.
#[derive(Debug)]
pub(in super::super) struct Spell<'r> {
    pub(in super::super) actor: &'r Actor,
    /// What was seen, in order: the last look of each step, and those between.
    pub(in super::super) seen: Vec<&'r Observation>,
    /// The step after which that was not seen any more; none when it lasts.
    pub(in super::super) until: Option<&'r str>,
}

impl Spell<'_> {
    /// The step after which it was seen for the first time.
    pub(in super::super) fn from(&self) -> &str {
        &self.seen[0].step
    }

    pub(in super::super) fn lasts(&self) -> bool {
        self.until.is_none()
    }
}

/// A period, from step to step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct When {
    pub(in super::super) from: Option<String>,
    pub(in super::super) until: Option<String>,
}

impl When {
    /// The cause, with this time.
    pub(in super::super) fn of(self, cause: Cause) -> Cause {
        Cause { from_step: self.from, until_step: self.until, ..cause }
    }
}

/// Who looks, as which user, and how.
type Looker<'r> = (&'r Actor, u32, Access);

/// All spells of a report.
#[derive(Debug, Default)]
pub(in super::super) struct History<'r> {
    pub(in super::super) spells: Vec<Spell<'r>>,
    of_actor: HashMap<&'r Actor, Vec<usize>>,
    /// The order of steps.
    steps: HashMap<&'r str, usize>,
}

impl<'r> History<'r> {
    pub(in super::super) fn of(scene: &Scene<'r>) -> Self {
        let report = scene.report;
        let places = report.phases.iter().enumerate();
        let mut history = Self {
            steps: places.map(|(place, phase)| (phase.id.as_str(), place)).collect(),
            ..Self::default()
        };
        // In which steps the mount could be used by its producer or on the node.
        let usable: BTreeSet<&str> = scene
            .asked()
            .filter(|seen| {
                seen.outcome.is_ok() && scene.role_of(&seen.actor) != Some(Role::Consumer)
            })
            .map(|seen| seen.step.as_str())
            .collect();
        let mut could: HashMap<Looker<'r>, bool> = HashMap::new();
        let mut open: HashMap<Looker<'r>, usize> = HashMap::new();
        for seen in scene.asked() {
            if scene.role_of(&seen.actor) == Some(Role::Control)
                || matches!(seen.outcome, Outcome::Skipped { .. })
            {
                continue;
            }
            let looker = (&seen.actor, seen.uid, seen.access);
            let could = could.entry(looker).or_default();
            let there = *could || usable.contains(seen.step.as_str());
            let wrong = is_wrong(seen, there, scene);
            *could |= seen.outcome.is_ok();
            let known = open.get(&looker).copied();
            let same = |index: usize| {
                let before: &Spell<'r> = &history.spells[index];
                before.seen.last().is_some_and(|last| alike(last, seen))
            };
            match known {
                Some(index) if wrong && same(index) => history.spells[index].seen.push(seen),
                // Seeing nothing any more is not a recovery.
                Some(_) if !wrong && !seen.outcome.is_ok() => {}
                _ => {
                    if let Some(index) = open.remove(&looker) {
                        history.spells[index].until = Some(&seen.step);
                    }
                    if wrong {
                        let index = history.spells.len();
                        open.insert(looker, index);
                        history.of_actor.entry(&seen.actor).or_default().push(index);
                        history.spells.push(Spell {
                            actor: &seen.actor,
                            seen: vec![seen],
                            until: None,
                        });
                    }
                }
            }
        }
        history.end_with_its_actors(scene);
        history.go_on_until_helped(scene);
        history
    }

    /// Lets a spell last to the end where only a repair of the last of the five phases ended it: without help the
    /// actor would still be wrong.
    fn go_on_until_helped(&mut self, scene: &Scene<'r>) {
        let recovery = PhaseName::Recovery.as_str();
        let repair = |act: &&Act| match act.deed {
            Deed::Repair { repair } => act.step == recovery && repair != Repair::Wait,
            _ => false,
        };
        let Some(helped) = scene.report.acts.iter().find(repair) else { return };
        if !scene.report.plan.is_five_phases() {
            return;
        }
        let first_ok = |spell: &Spell<'r>| {
            let last_us = spell.seen.last().map_or(0, |seen| seen.at_us);
            let own = scene.asked().filter(|seen| seen.actor == *spell.actor);
            own.filter(|seen| seen.outcome.is_ok() && seen.at_us > last_us)
                .map(|seen| seen.at_us)
                .min()
        };
        for spell in self.spells.iter_mut().filter(|spell| spell.until == Some(recovery)) {
            let after = first_ok(spell).is_some_and(|at_us| at_us >= helped.from_us);
            if after && matches!(spell.actor, Actor::Workload { .. }) {
                spell.until = None;
            }
        }
    }

    /// Whoever was ended, and does not look any more, was wrong until then. The five phases end a consumer of
    /// their own, which says nothing.
    fn end_with_its_actors(&mut self, scene: &Scene<'r>) {
        let Some(last) = scene.report.captures.last() else { return };
        if scene.report.plan.is_five_phases() {
            return;
        }
        for spell in self.spells.iter_mut().filter(|spell| spell.until.is_none()) {
            let Actor::Workload { name, .. } = spell.actor else { continue };
            let first = Actor::workload(name.clone());
            let refused = scene.report.failures.iter().any(|failure| {
                failure.workload == *name
                    && self.steps.get(failure.step.as_str()) > self.steps.get(spell.from())
            });
            if last.table(&first).is_some() || refused {
                continue;
            }
            let seen_us = spell.seen.last().map_or(0, |seen| seen.at_us);
            let without =
                |capture: &&Capture| capture.at_us > seen_us && capture.table(&first).is_none();
            spell.until = scene.report.captures.iter().find(without).map(|one| one.step.as_str());
        }
    }

    /// The spells of an actor.
    pub(in super::super) fn of_actor(&self, actor: &Actor) -> impl Iterator<Item = &Spell<'r>> {
        self.of_actor.get(actor).into_iter().flatten().map(|index| &self.spells[*index])
    }

    /// The spell in which something was seen.
    fn spell_of(&self, seen: &Observation) -> Option<&Spell<'r>> {
        self.of_actor(&seen.actor)
            .find(|spell| spell.seen.iter().any(|one| std::ptr::eq(*one, seen)))
    }

    /// Whether two looks are of the same spell.
    pub(in super::super) fn is_same(&self, one: &Observation, other: &Observation) -> bool {
        self.spell_of(one)
            .is_some_and(|spell| spell.seen.iter().any(|seen| std::ptr::eq(*seen, other)))
    }

    /// Whether an observation still held at the end.
    pub(in super::super) fn lasts(&self, seen: &Observation) -> bool {
        self.spell_of(seen).is_some_and(Spell::lasts)
    }

    /// From when to when what was seen was so.
    pub(in super::super) fn when(&self, seen: &[&Observation]) -> When {
        self.of_spells(seen.iter().filter_map(|one| self.spell_of(one)))
    }

    fn of_spells<'a>(&self, spells: impl Iterator<Item = &'a Spell<'r>>) -> When
    where
        'r: 'a,
    {
        let mut spells: Vec<&Spell<'r>> = spells.collect();
        if spells.iter().all(|spell| !spell.lasts()) {
            spells = self.last_time(spells);
        }
        let place = |step: &&str| self.steps.get(*step).copied().unwrap_or(usize::MAX);
        let from = spells.iter().map(|spell| spell.from()).min_by_key(place);
        let lasts = spells.is_empty() || spells.iter().any(|spell| spell.lasts());
        let until = spells.iter().filter_map(|spell| spell.until).max_by_key(place);
        When { from: from.map(str::to_owned), until: until.filter(|_| !lasts).map(str::to_owned) }
    }

    /// Of spells that are over, those of the last time: between two times everybody was right.
    fn last_time<'a>(&self, mut spells: Vec<&'a Spell<'r>>) -> Vec<&'a Spell<'r>>
    where
        'r: 'a,
    {
        spells.sort_by_key(|spell| self.place(spell.from()));
        let mut time: Vec<&Spell<'r>> = Vec::new();
        let mut until = 0;
        for spell in spells {
            if self.place(spell.from()) > until {
                time.clear();
            }
            until = until.max(spell.until.map_or(usize::MAX, |step| self.place(step)));
            time.push(spell);
        }
        time
    }

    /// Of what was seen, that of the last time.
    pub(in super::super) fn seen_last_time<'a>(
        &self,
        seen: Vec<&'a Observation>,
    ) -> Vec<&'a Observation> {
        let When { from: Some(from), .. } = self.when(&seen) else { return seen };
        let begins = self.place(&from);
        seen.into_iter().filter(|one| self.place(&one.step) >= begins).collect()
    }

    /// Adds the period to a cause whose rule has not, from the actors that it concerns. Actors that recovered are
    /// left out where others did not.
    pub(in super::super) fn stamp(&self, cause: &mut Cause) {
        if cause.from_step.is_some() || cause.until_step.is_some() {
            return;
        }
        let troubled: Vec<&Actor> =
            cause.actors.iter().filter(|actor| self.of_actor.contains_key(actor)).collect();
        let lasting: Vec<&Actor> = troubled
            .iter()
            .filter(|actor| self.of_actor(actor).any(Spell::lasts))
            .copied()
            .collect();
        let (counted, lasts) = match lasting.is_empty() {
            true => (&troubled, false),
            false => (&lasting, true),
        };
        let spells = counted
            .iter()
            .flat_map(|actor| self.of_actor(actor))
            .filter(|spell| !lasts || spell.lasts());
        let When { from, until } = self.of_spells(spells);
        if lasts {
            let recovered: Vec<Actor> = troubled
                .iter()
                .filter(|actor| !lasting.contains(actor))
                .map(|actor| (*actor).clone())
                .collect();
            cause.actors.retain(|actor| !recovered.contains(actor));
        }
        (cause.from_step, cause.until_step) = (from, until);
    }

    /// The place of a step in the order of the run.
    pub(in super::super) fn place(&self, step: &str) -> usize {
        self.steps.get(step).copied().unwrap_or(usize::MAX)
    }
}

/// Whether two looks show the same trouble: the same mount, and the same kind.
fn alike(one: &Observation, other: &Observation) -> bool {
    let device = |seen: &Observation| seen.mount.as_ref().map(|mount| mount.device);
    let of_one_mount = match (device(one), device(other)) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    of_one_mount && one.outcome.class() == other.outcome.class()
}

/// Whether an observation is trouble, for an actor of which it is known whether there was something to see.
fn is_wrong(seen: &Observation, there: bool, scene: &Scene<'_>) -> bool {
    match &seen.outcome {
        Outcome::Ok | Outcome::Skipped { .. } => false,
        // An empty directory is fine as long as nothing has been mounted.
        Outcome::Absent | Outcome::Empty | Outcome::Lower => {
            there && scene.is_concerned(&seen.actor)
        }
        Outcome::WrongContent { .. } => !scene.is_of_another_producer(seen),
        Outcome::Errno { .. } | Outcome::Hang { .. } => true,
    }
}
