//! Workloads that could not use the mount while the node could.

use std::collections::{BTreeMap, HashMap};

use super::{NAMED, Scene};
use crate::mountinfo::MountPath;
use crate::observation::{Actor, Observation, Outcome};
use crate::plan::{Role, WorkloadSpec};

/// A workload of which replicas could not use the mount while the node could.
#[derive(Clone)]
pub(in crate::diagnosis) struct Stranded<'r> {
    pub(in crate::diagnosis) name: &'r str,
    pub(in crate::diagnosis) spec: &'r WorkloadSpec,
    /// The last such observation of each replica, the first few.
    pub(in crate::diagnosis) seen: Vec<&'r Observation>,
    /// How many replicas.
    pub(in crate::diagnosis) replicas: usize,
    /// Path on the node of the mount that it should see.
    pub(in crate::diagnosis) at: MountPath,
    /// What was seen of that mount at that time: by the node at the bridge, by its producer elsewhere.
    pub(in crate::diagnosis) node: &'r Observation,
    /// The first look of the same trouble of the first replica, with what was seen of that mount then.
    pub(in crate::diagnosis) first: Option<(&'r Observation, &'r Observation)>,
    /// Whether it lasts to the end.
    pub(in crate::diagnosis) lasts: bool,
}

impl<'r> Scene<'r> {
    /// The node's last look in each step decides what counts in that step; where it did not look,
    /// what it saw before does. At other paths the producer's look does.
    pub(super) fn find_stranded(&mut self) {
        let by_step: HashMap<&str, &Observation> =
            self.node.iter().map(|seen| (seen.step.as_str(), *seen)).collect();
        let of_producers: HashMap<(&str, &str), &Observation> = self
            .reads()
            .filter_map(|seen| match &seen.actor {
                Actor::Workload { name, .. } => Some(((name.as_str(), seen.step.as_str()), seen)),
                _ => None,
            })
            .collect();
        let mut before = None;
        let mut without: BTreeMap<(&str, u32), Vec<(&Observation, &Observation)>> = BTreeMap::new();
        for seen in self.reads() {
            let elsewhere = match &seen.actor {
                Actor::Workload { name, .. } => {
                    self.spec(name).filter(|spec| !self.is_on_bridge(spec))
                }
                _ => None,
            };
            let node = match elsewhere.and_then(|spec| self.producer_elsewhere(spec)) {
                Some(producer) => {
                    of_producers.get(&(producer.name.as_str(), seen.step.as_str())).copied()
                }
                None => by_step.get(seen.step.as_str()).copied().or(before),
            };
            if seen.actor == Actor::Node {
                before = Some(seen);
            }
            if let (Actor::Workload { name, replica }, Some(node)) = (&seen.actor, node)
                && node.outcome.is_ok()
                && !matches!(seen.outcome, Outcome::Ok | Outcome::Skipped { .. })
            {
                without.entry((name, *replica)).or_default().push((seen, node));
            }
        }
        for ((name, _), looks) in without {
            let Some((seen, node)) = looks.last().copied() else { continue };
            let first = looks.iter().find(|(one, _)| self.history.is_same(one, seen)).copied();
            let consumes = |spec: &&WorkloadSpec| spec.role == Role::Consumer;
            let Some(spec) = self.spec(name).filter(consumes) else { continue };
            let elsewhere = self.producer_elsewhere(spec).map(|producer| self.on_node(producer));
            let at = match (self.is_on_bridge(spec), elsewhere) {
                (true, _) => self.fuse_path.clone(),
                // Whose volume lies above it looks elsewhere.
                (false, Some(at))
                    if MountPath::from(self.paths(spec).source.as_str()).starts_with(&at) =>
                {
                    at
                }
                (false, _) => continue,
            };
            let lasts = self.history.lasts(seen);
            let first =
                Stranded { name, spec, seen: vec![seen], replicas: 1, at, node, first, lasts };
            match self.stranded.last_mut().filter(|known| known.name == name) {
                // Replicas that recovered are left out where others did not.
                Some(known) if known.lasts && !lasts => {}
                Some(known) if lasts && !known.lasts => *known = first,
                Some(known) => {
                    known.replicas += 1;
                    if known.seen.len() < NAMED {
                        known.seen.push(seen);
                    }
                }
                None => self.stranded.push(first),
            }
        }
    }
}

impl Stranded<'_> {
    /// The last observation of the first replica that is stranded.
    pub(in crate::diagnosis) fn sample(&self) -> &Observation {
        self.seen[0]
    }

    /// The actors, for the field of a cause.
    pub(in crate::diagnosis) fn actors(&self) -> Vec<Actor> {
        self.seen.iter().map(|seen| seen.actor.clone()).collect()
    }

    /// The actors, in words.
    pub(in crate::diagnosis) fn title(&self) -> String {
        match self.replicas {
            1 => self.name.to_owned(),
            count => format!("{} ({count} replicas)", self.name),
        }
    }
}
