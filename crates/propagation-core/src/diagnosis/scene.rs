//! What the rules look at: a report, indexed by who saw what while the node saw what.

use std::collections::{BTreeMap, HashMap};

use crate::mountinfo::{MountEntry, MountPath, MountTable};
use crate::observation::{Actor, Observation, Outcome, Via};
use crate::plan::{Role, VolumePaths, WorkloadSpec};
use crate::report::{Capture, Check, Report, Status};

/// How many actors a cause names; the rest are counted.
const NAMED: usize = 8;

/// A report with the indexes that rules need. Made in one pass over the timeline.
pub(super) struct Scene<'r> {
    pub(super) report: &'r Report,
    /// The FUSE mountpoint on the node.
    pub(super) fuse_path: MountPath,
    /// Workloads that could not use the mount at a moment when the node could, in the order of
    /// their names.
    pub(super) stranded: Vec<Stranded<'r>>,
    /// What the node saw, in order.
    pub(super) node: Vec<&'r Observation>,
}

/// A workload of which replicas could not use the mount while the node could.
pub(super) struct Stranded<'r> {
    pub(super) name: &'r str,
    pub(super) spec: &'r WorkloadSpec,
    /// The last such observation of each replica, the first few.
    pub(super) seen: Vec<&'r Observation>,
    /// How many replicas.
    pub(super) replicas: usize,
    /// What the node saw at that time.
    pub(super) node: &'r Observation,
}

impl<'r> Scene<'r> {
    pub(super) fn new(report: &'r Report) -> Self {
        let mut scene = Self {
            report,
            fuse_path: report.plan.bridge.fuse_path().as_str().into(),
            stranded: Vec::new(),
            node: Vec::new(),
        };
        scene.node = scene.probes().filter(|seen| seen.actor == Actor::Node).collect();
        scene.find_stranded();
        scene
    }

    /// What was seen when the runner asked, as root; the order is that of time.
    pub(super) fn probes(&self) -> impl Iterator<Item = &'r Observation> + use<'r> {
        self.report.timeline.iter().filter(|seen| seen.via == Via::Probe && seen.uid == 0)
    }

    /// The node's last look in each step decides what counts in that step; where it did not look,
    /// what it saw before does.
    fn find_stranded(&mut self) {
        let by_step: HashMap<&str, &Observation> =
            self.node.iter().map(|seen| (seen.step.as_str(), *seen)).collect();
        let mut before = None;
        let mut last: BTreeMap<(&str, u32), (&Observation, &Observation)> = BTreeMap::new();
        for seen in self.probes() {
            let node = by_step.get(seen.step.as_str()).copied().or(before);
            if seen.actor == Actor::Node {
                before = Some(seen);
            }
            if let (Actor::Workload { name, replica }, Some(node)) = (&seen.actor, node)
                && node.outcome.is_ok()
                && !matches!(seen.outcome, Outcome::Ok | Outcome::Skipped { .. })
            {
                last.insert((name, *replica), (seen, node));
            }
        }
        for ((name, _), (seen, node)) in last {
            let Some(spec) = self.spec(name).filter(|spec| spec.role == Role::Consumer) else {
                continue;
            };
            match self.stranded.last_mut() {
                Some(known) if known.name == name => {
                    known.replicas += 1;
                    if known.seen.len() < NAMED {
                        known.seen.push(seen);
                    }
                }
                _ => {
                    self.stranded.push(Stranded { name, spec, seen: vec![seen], replicas: 1, node })
                }
            }
        }
    }

    /// The workload called `name`. One that a phase made by itself is made like the first consumer.
    pub(super) fn spec(&self, name: &str) -> Option<&'r WorkloadSpec> {
        let plan = &self.report.plan;
        plan.workloads
            .iter()
            .find(|spec| spec.name == name)
            .or_else(|| plan.with_role(Role::Consumer).next())
    }

    /// Where the volume of a workload lies.
    pub(super) fn paths(&self, spec: &WorkloadSpec) -> VolumePaths {
        spec.paths(&self.report.plan.bridge)
    }

    /// Checks that failed, in any phase, whose id is `id` or begins with `id` and a colon.
    pub(super) fn failed(&self, id: &str) -> impl Iterator<Item = &'r Check> {
        let checks = self.report.phases.iter().flat_map(|phase| &phase.checks);
        checks.filter(move |check| {
            let begins = check.id.strip_prefix(id);
            check.status == Status::Failed
                && begins.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        })
    }

    /// The latest capture with a table of `actor`.
    pub(super) fn last_table(&self, actor: &Actor) -> Option<(&'r Capture, &'r MountTable)> {
        self.report.captures.iter().rev().find_map(|one| Some((one, one.table(actor)?)))
    }

    /// The capture that shows what an actor had when it saw `seen`: the last one before, so that
    /// interventions of the same step are not in it, or else the first one.
    pub(super) fn capture_for(&self, seen: &Observation) -> Option<&'r Capture> {
        let actor = first_replica(&seen.actor);
        let with_table = || self.report.captures.iter().filter(|one| one.table(&actor).is_some());
        with_table().rev().find(|one| one.at_us <= seen.at_us).or_else(|| with_table().next())
    }

    /// The mount table of an actor when it saw `seen`.
    pub(super) fn table_for(&self, seen: &Observation) -> Option<&'r MountTable> {
        self.capture_for(seen)?.table(&first_replica(&seen.actor))
    }

    /// All FUSE mounts that any actor had at its own path of the mountpoint, in all captures.
    pub(super) fn fuse_mounts(&self) -> Vec<(&'r Actor, &'r MountEntry)> {
        let mut found: Vec<(&Actor, &MountEntry)> = Vec::new();
        for capture in &self.report.captures {
            for one in &capture.tables {
                let path = self.path_of(&one.actor);
                found.extend(
                    one.table.at(&path).filter(|e| e.is_fuse()).map(|entry| (&one.actor, entry)),
                );
            }
        }
        found
    }

    /// Where an actor has the FUSE mount.
    pub(super) fn path_of(&self, actor: &Actor) -> MountPath {
        match actor {
            Actor::Workload { name, .. } | Actor::HeldDescriptor { name } => {
                let spec = self.spec(name).map(|spec| self.paths(spec).fuse);
                spec.map_or_else(|| self.fuse_path.clone(), |path| path.as_str().into())
            }
            Actor::Node | Actor::Runtime => self.fuse_path.clone(),
        }
    }

    /// Whether the node, or anybody, read the marker at some time before `seen`.
    pub(super) fn was_ok_before(&self, seen: &Observation) -> bool {
        self.probes()
            .any(|other| other.outcome.is_ok() && other.mount.is_some() && other.at_us < seen.at_us)
    }
}

impl Stranded<'_> {
    /// The last observation of the first replica that is stranded.
    pub(super) fn sample(&self) -> &Observation {
        self.seen[0]
    }

    /// Who, for the field of a cause.
    pub(super) fn actors(&self) -> Vec<Actor> {
        self.seen.iter().map(|seen| seen.actor.clone()).collect()
    }

    /// Who, in words.
    pub(super) fn title(&self) -> String {
        match self.replicas {
            1 => self.name.to_owned(),
            count => format!("{} ({count} replicas)", self.name),
        }
    }
}

/// The actors of observations, each once, all replicas of a workload as its first.
pub(super) fn first_replicas(seen: &[&Observation]) -> Vec<Actor> {
    let mut actors: Vec<Actor> = Vec::new();
    for actor in seen.iter().map(|one| first_replica(&one.actor)) {
        if !actors.contains(&actor) {
            actors.push(actor);
        }
    }
    actors
}

/// The replica whose table is captured.
fn first_replica(actor: &Actor) -> Actor {
    match actor {
        Actor::Workload { name, .. } | Actor::HeldDescriptor { name } => {
            Actor::workload(name.clone())
        }
        other => other.clone(),
    }
}
