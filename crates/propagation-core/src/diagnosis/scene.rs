//! What the rules look at: a report, indexed by who saw what while the node saw what.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::Class;
use crate::errno::Errno;
use crate::mountinfo::{DeviceId, MountEntry, MountPath, MountTable};
use crate::observation::{Actor, Observation, Outcome, Via};
use crate::plan::{Role, Volume, VolumePaths, WorkloadSpec};
use crate::program::RefusalKind;
use crate::report::{Capture, Check, CheckId, Deed, Failure, FailureOf, Report, Status};

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
    /// Superblocks, and the errors that somebody got from them who could read them before.
    answers: BTreeSet<(DeviceId, Class)>,
    /// What was seen when the runner asked, by everybody as the user that it is.
    probes: Vec<&'r Observation>,
    /// Superblocks with those who could read them.
    readers: HashSet<(DeviceId, &'r Actor)>,
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

/// What was seen when the runner asked, by everybody as the user that it is; the order is that of time.
fn as_themselves(report: &Report) -> Vec<&Observation> {
    let plan = &report.plan;
    let named: HashMap<&str, u32> =
        plan.workloads.iter().map(|spec| (spec.name.as_str(), spec.uid)).collect();
    let uid_of = |actor: &Actor| match actor {
        Actor::Workload { name, .. } | Actor::HeldDescriptor { name } => {
            named.get(name.as_str()).copied().unwrap_or_else(|| plan.uid_of(actor))
        }
        Actor::Node | Actor::Runtime => 0,
    };
    let asked = report.timeline.iter().filter(|seen| seen.via == Via::Probe);
    asked.filter(|seen| seen.uid == uid_of(&seen.actor)).collect()
}

/// Errors that somebody got from a superblock who could read it before in the same way.
fn answers(report: &Report) -> BTreeSet<(DeviceId, Class)> {
    let (mut readers, mut answers) = (HashSet::new(), BTreeSet::new());
    for seen in &report.timeline {
        let Some(mount) = &seen.mount else { continue };
        let reader = (mount.device, &seen.actor, seen.uid, seen.access);
        if seen.outcome.is_ok() {
            readers.insert(reader);
        } else if readers.contains(&reader) {
            answers.insert((mount.device, seen.outcome.class()));
        }
    }
    answers
}

impl<'r> Scene<'r> {
    pub(super) fn new(report: &'r Report) -> Self {
        let mut scene = Self {
            report,
            fuse_path: report.plan.bridge.fuse_path().as_str().into(),
            stranded: Vec::new(),
            node: Vec::new(),
            answers: answers(report),
            probes: as_themselves(report),
            readers: HashSet::new(),
        };
        scene.readers = scene
            .probes()
            .filter(|seen| seen.outcome.is_ok())
            .filter_map(|seen| Some((seen.mount.as_ref()?.device, &seen.actor)))
            .collect();
        scene.node = scene.probes().filter(|seen| seen.actor == Actor::Node).collect();
        scene.find_stranded();
        scene
    }

    /// What was seen when the runner asked, by everybody as the user that it is; the order is that of
    /// time.
    pub(super) fn probes(&self) -> impl Iterator<Item = &'r Observation> + '_ {
        self.probes.iter().copied()
    }

    /// Whether a workload has to do with the mount at the bridge: its volume is of it, or shows it because
    /// somebody has bound it there. What others see cannot be compared with what the node sees.
    pub(super) fn is_on_bridge(&self, spec: &WorkloadSpec) -> bool {
        let Volume::Path(path) = &spec.volume else { return true };
        let path = MountPath::from(path.as_str());
        if spec.host || self.fuse_path.starts_with(&path) || path.starts_with(&self.fuse_path) {
            return true;
        }
        let actor = Actor::workload(spec.name.clone());
        let of_node = self.readers.iter().filter(|(_, reader)| **reader == Actor::Node);
        of_node.map(|(device, _)| device).any(|device| self.readers.contains(&(*device, &actor)))
    }

    /// Whether an old generation is that of a producer that went on while another one started: whoever read
    /// it before reads it still.
    pub(super) fn is_of_another_producer(&self, seen: &Observation) -> bool {
        let several = self.report.plan.with_role(Role::Producer).nth(1).is_some();
        let device = seen.mount.as_ref().map(|mount| mount.device);
        let could_read = |device| self.readers.contains(&(device, &seen.actor));
        several && seen.generation.is_some() && device.is_some_and(could_read)
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
            let consumes =
                |spec: &&WorkloadSpec| spec.role == Role::Consumer && self.is_on_bridge(spec);
            let Some(spec) = self.spec(name).filter(consumes) else { continue };
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
        self.report.plan.workload_or_like(name)
    }

    /// The role of an actor that is a workload.
    pub(super) fn role_of(&self, actor: &Actor) -> Option<Role> {
        match actor {
            Actor::Workload { name, .. } => Some(self.spec(name)?.role),
            _ => None,
        }
    }

    /// Where the volume of a workload lies.
    pub(super) fn paths(&self, spec: &WorkloadSpec) -> VolumePaths {
        spec.paths(&self.report.plan.bridge)
    }

    /// The first check about `id` that failed, in any phase.
    pub(super) fn failed(&self, id: &CheckId) -> Option<&'r Check> {
        self.failures().find(|check| check.id == *id)
    }

    /// The checks that failed, in order.
    pub(super) fn failures(&self) -> impl Iterator<Item = &'r Check> {
        let checks = self.report.phases.iter().flat_map(|phase| &phase.checks);
        checks.filter(|check| check.status == Status::Failed)
    }

    /// Whether an error is the daemon's own answer: somebody who could read that superblock before gets
    /// the same error from it, so that nothing in front of the mount keeps people out.
    pub(super) fn is_answered(&self, seen: &Observation) -> bool {
        let device = seen.mount.as_ref().map(|mount| mount.device);
        device.is_some_and(|device| self.answers.contains(&(device, seen.outcome.class())))
    }

    /// The first who has seen that nobody serves a superblock any more.
    pub(super) fn seen_dead(&self, device: DeviceId) -> Option<&'r Observation> {
        self.report.timeline.iter().find(|seen| {
            let on_it = seen.mount.as_ref().is_some_and(|mount| mount.device == device);
            let dead = [Errno::ENOTCONN.into(), Errno::ECONNABORTED.into(), Class::Hang];
            on_it && dead.contains(&seen.outcome.class())
        })
    }

    /// Starts that were refused for a reason, each workload and each text once: whose, and the runtime's
    /// words.
    pub(super) fn refusals(&self, kind: RefusalKind) -> Vec<(&'r str, &'r str)> {
        self.failures_of(|failure| failure.refusal == Some(kind))
    }

    /// What producers said that did not mount: which, and its words.
    pub(super) fn mount_failures(&self) -> Vec<(&'r str, &'r str)> {
        self.failures_of(|failure| failure.of != FailureOf::Start)
    }

    fn failures_of(&self, of: impl Fn(&Failure) -> bool) -> Vec<(&'r str, &'r str)> {
        let mut found = Vec::new();
        for failure in self.report.failures.iter().filter(|failure| of(failure)) {
            let one = (failure.workload.as_str(), failure.words.as_str());
            if !found.contains(&one) {
                found.push(one);
            }
        }
        found
    }

    /// What proves the faults that were done.
    pub(super) fn proofs_of_faults(&self) -> Vec<String> {
        let faults = self.report.acts.iter().filter(|act| matches!(act.deed, Deed::Fault { .. }));
        faults.flat_map(|act| act.proof.clone()).collect()
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
                let spec = self.spec(name).map(|spec| self.paths(spec).mount_point);
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
