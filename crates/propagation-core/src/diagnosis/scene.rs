//! The rules' view of a report: observations indexed by actor, by what the node saw at that time, and by period.

mod failures;
mod history;
mod producers;
mod stranded;

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::Class;
use crate::errno::Errno;
use crate::mountinfo::{DeviceId, MountEntry, MountPath, MountTable};
use crate::observation::{Access, Actor, Observation, Via};
use crate::plan::{Repair, Role, Subject, Volume, VolumePaths, WorkloadSpec};
use crate::report::{Act, Capture, Check, CheckId, Deed, Report, Status};
pub(super) use history::{History, Spell, When};
pub(super) use stranded::Stranded;

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
    /// What the node read, in order.
    pub(super) node: Vec<&'r Observation>,
    /// Superblocks, and the errors that somebody got from them who could read them before.
    answers: BTreeSet<(Superblock, Class)>,
    /// What was seen when the runner asked, by everybody as the user that it is.
    probes: Vec<&'r Observation>,
    /// Superblocks with those who could read them.
    readers: HashSet<(Superblock, &'r Actor)>,
    /// Consumers with a volume of another path that shows the bridge or what lies under the mount.
    related: HashSet<&'r str>,
    /// Actors that were wrong, and when.
    pub(super) history: History<'r>,
}

/// A superblock: its device number, which the kernel gives again once it is free, and how often a producer had been
/// started by then.
type Superblock = (DeviceId, usize);

/// Observations that the runner asked for, of every actor as its own user, in order of time.
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

/// Which superblock somebody looked at.
fn superblock_of(report: &Report, seen: &Observation) -> Option<Superblock> {
    let device = seen.mount.as_ref()?.device;
    let is_producer =
        |name: &String| report.plan.workload(name).is_some_and(|spec| spec.role == Role::Producer);
    let mounts_anew = |act: &&Act| match act.deed {
        Deed::Start | Deed::Restart { .. } => act.on.iter().any(is_producer),
        // Without a name it is the first producer that is started again.
        Deed::Repair {
            repair:
                Repair::UnmountMount | Repair::LazyUnmountMount | Repair::MountOnTop | Repair::Remount,
        } => true,
        Deed::Repair {
            repair: Repair::LivenessProbe | Repair::RestartConsumer | Repair::RecreateConsumer,
        } => act.on.iter().any(is_producer),
        _ => false,
    };
    let before = report.acts.iter().take_while(|act| act.from_us <= seen.at_us);
    Some((device, before.filter(mounts_anew).count()))
}

/// Errors that somebody got from a superblock who could read it before in the same way.
fn answers(report: &Report) -> BTreeSet<(Superblock, Class)> {
    let (mut readers, mut answers) = (HashSet::new(), BTreeSet::new());
    for seen in &report.timeline {
        let Some(superblock) = superblock_of(report, seen) else { continue };
        let reader = (superblock, &seen.actor, seen.uid, seen.access);
        if seen.outcome.is_ok() {
            readers.insert(reader);
        } else if readers.contains(&reader) {
            answers.insert((superblock, seen.outcome.class()));
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
            related: HashSet::new(),
            history: History::default(),
        };
        scene.readers = scene
            .probes()
            .filter(|seen| seen.outcome.is_ok())
            .filter_map(|seen| Some((superblock_of(report, seen)?, &seen.actor)))
            .collect();
        scene.node = scene.reads().filter(|seen| seen.actor == Actor::Node).collect();
        scene.related = scene.with_a_bind_of_the_bridge();
        scene.history = History::of(&scene);
        scene.find_stranded();
        scene
    }

    /// Observations that the runner asked for, of every actor as its own user, in order of time.
    pub(super) fn probes(&self) -> impl Iterator<Item = &'r Observation> + '_ {
        self.probes.iter().copied()
    }

    /// Reads of every actor as its own user.
    fn reads(&self) -> impl Iterator<Item = &'r Observation> + '_ {
        self.probes().filter(|seen| seen.access == Access::Read)
    }

    /// All observations that the runner asked for, in order: of any actor, as any user and by any access.
    pub(super) fn asked(&self) -> impl Iterator<Item = &'r Observation> + 'r {
        self.report.timeline.iter().filter(|seen| seen.via == Via::Probe)
    }

    /// Whether an actor should see what is mounted at the bridge.
    pub(super) fn is_concerned(&self, actor: &Actor) -> bool {
        match actor {
            Actor::Workload { name, .. } => self.spec(name).is_some_and(|spec| {
                self.is_on_bridge(spec) || self.producer_elsewhere(spec).is_some()
            }),
            _ => true,
        }
    }

    /// Consumers whose volume is a path of the node at which the mount was published or bound, or that shows the
    /// directory under the mountpoint, because the bridge was bound there.
    fn with_a_bind_of_the_bridge(&self) -> HashSet<&'r str> {
        let consumers = self.report.plan.with_role(Role::Consumer);
        let elsewhere = consumers.filter(|spec| matches!(spec.volume, Volume::Path(_)));
        let bound = elsewhere.filter(|spec| {
            let path = MountPath::from(self.paths(spec).source.as_str());
            let published = |act: &Act| act.deed == Deed::Publish && act.on.contains(&spec.name);
            let mut tables = self.report.captures.iter().filter_map(|one| one.table(&Actor::Node));
            self.report.acts.iter().any(published)
                || tables.any(|table| {
                    self.has_the_mount(table, &path)
                        || self.shows_what_is_under_the_mount(table, &path)
                })
        });
        bound.map(|spec| spec.name.as_str()).collect()
    }

    /// Whether the filesystem at the bridge is mounted at `path` of the node too.
    fn has_the_mount(&self, table: &MountTable, path: &MountPath) -> bool {
        let fuse = |path| table.at(path).filter(|mount: &&MountEntry| mount.is_served());
        let same =
            |one: &MountEntry| fuse(&self.fuse_path).is_some_and(|it| it.device == one.device);
        fuse(path).is_some_and(same)
    }

    /// Whether `path` of the node is the directory on which the mount at the bridge lies, by another way.
    pub(super) fn shows_what_is_under_the_mount(
        &self,
        table: &MountTable,
        path: &MountPath,
    ) -> bool {
        let Some(there) = table.covering(path).filter(|mount| !mount.is_served()) else {
            return false;
        };
        let stack = table.stack_at(&self.fuse_path);
        let below = match stack.iter().find(|mount| mount.is_served()) {
            Some(bottom) => table.by_id(bottom.parent_id),
            None => table.covering(&self.fuse_path),
        };
        below.is_some_and(|below| {
            *path != self.fuse_path
                && below.device == there.device
                && there.directory_of(path) == below.directory_of(&self.fuse_path)
        })
    }

    /// Whether a workload depends on the mount at the bridge: its volume is part of it, or shows it because it was
    /// bound there. Other workloads cannot be compared with what the node sees.
    pub(super) fn is_on_bridge(&self, spec: &WorkloadSpec) -> bool {
        let Volume::Path(path) = &spec.volume else { return true };
        let path = MountPath::from(path.as_str());
        if spec.host
            || self.fuse_path.starts_with(&path)
            || path.starts_with(&self.fuse_path)
            || self.related.contains(spec.name.as_str())
        {
            return true;
        }
        // A number that the kernel gave again does not make the mount of another producer the bridge's.
        let own = self.report.plan.mountpoint_of(spec);
        if spec.role == Role::Consumer && self.fuse_path != own.as_str().into() {
            return false;
        }
        let actor = Actor::workload(spec.name.clone());
        let of_node = self.readers.iter().filter(|(_, reader)| **reader == Actor::Node);
        of_node.map(|(one, _)| *one).any(|one| self.readers.contains(&(one, &actor)))
    }

    /// Whether an old generation belongs to a producer that went on while another one started: those that read it
    /// before still do.
    pub(super) fn is_of_another_producer(&self, seen: &Observation) -> bool {
        let several = self.report.plan.with_role(Role::Producer).nth(1).is_some();
        // The old generation shows that its number has not been given to another superblock since.
        let could_read = |device| {
            self.readers.iter().any(|((of, _), reader)| *of == device && **reader == seen.actor)
        };
        let device = seen.mount.as_ref().map(|mount| mount.device);
        several && seen.generation.is_some() && device.is_some_and(could_read)
    }

    /// The producer that mounts at another path than the bridge's, where the volume of a workload is that path, a part
    /// of it or a directory above it.
    pub(super) fn producer_elsewhere(&self, spec: &WorkloadSpec) -> Option<&'r WorkloadSpec> {
        let Volume::Path(path) = &spec.volume else { return None };
        let path = MountPath::from(path.as_str());
        let mut producers = self.report.plan.with_role(Role::Producer);
        producers.find(|producer| {
            let at = self.on_node(producer);
            producer.name != spec.name
                && at != self.fuse_path
                && (at.starts_with(&path) || path.starts_with(&at))
        })
    }

    /// Whether the five phases came out as they should: the breakage that they cause is not trouble.
    pub(super) fn is_in_order(&self) -> bool {
        self.report.plan.is_five_phases() && self.failures().next().is_none()
    }

    /// Whether the observation's step expects it.
    pub(super) fn is_expected(&self, seen: &Observation) -> bool {
        let Some(phase) = self.report.phase(&seen.step) else { return false };
        phase.checks.iter().filter(|check| check.status == Status::Passed).any(|check| {
            let CheckId::Expect(key) = &check.id else { return false };
            Subject::parse(key).is_ok_and(|subject| {
                subject.actor == seen.actor.to_string() && !check.expected.is_empty()
            })
        })
    }

    /// Whether an expectation of the step asks for just that access to come out as it was seen.
    pub(super) fn is_expected_as_seen(&self, seen: &Observation) -> bool {
        let Some(phase) = self.report.phase(&seen.step) else { return false };
        phase.checks.iter().filter(|check| check.status == Status::Passed).any(|check| {
            let CheckId::Expect(key) = &check.id else { return false };
            Subject::parse(key).is_ok_and(|subject| {
                subject.actor == seen.actor.to_string()
                    && subject.uid.is_none_or(|uid| uid == seen.uid)
                    && subject.aspect.access() == Some(seen.access)
            })
        })
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

    /// Whether an error is the daemon's own answer: an actor that could read that superblock before gets the same
    /// error from it, so nothing in front of the mount denies access.
    pub(super) fn is_answered(&self, seen: &Observation) -> bool {
        let superblock = superblock_of(self.report, seen);
        superblock.is_some_and(|it| self.answers.contains(&(it, seen.outcome.class())))
    }

    /// The first who has seen that nobody serves the superblock which had a device number at a time. A number of
    /// which a dead one was seen belongs to another superblock, or to a daemon that goes on, once it is read.
    pub(super) fn seen_dead(&self, device: DeviceId, at_us: u64) -> Option<&'r Observation> {
        let dead = [Errno::ENOTCONN.into(), Errno::ECONNABORTED.into(), Class::Hang];
        let mut first: Option<&Observation> = None;
        let on_it =
            |seen: &&Observation| seen.mount.as_ref().is_some_and(|mount| mount.device == device);
        for seen in self.report.timeline.iter().filter(on_it) {
            if dead.contains(&seen.outcome.class()) {
                first = first.or(Some(seen));
            } else if seen.outcome.is_ok() && matches!(seen.access, Access::Read | Access::List) {
                // Of a later time nothing is told any more.
                if first.is_some() && seen.at_us > at_us {
                    break;
                }
                first = None;
            }
        }
        first
    }

    /// The mount table of an actor as it was in a step: at its end, or after the last one before that was
    /// captured.
    pub(super) fn table_in(&self, actor: &Actor, step: &str) -> Option<&'r MountTable> {
        let place = self.history.place(step);
        let captures = self.report.captures.iter();
        let own =
            captures.clone().rev().find(|one| one.step == step).and_then(|one| one.table(actor));
        own.or_else(|| {
            let known = |one: &&Capture| {
                let at = self.history.place(&one.step);
                at == usize::MAX || at <= place
            };
            captures.rev().filter(known).find_map(|one| one.table(actor))
        })
    }

    /// The superblock of a look, by the look itself or by the mount table of that time.
    pub(super) fn device_of(&self, seen: &Observation) -> Option<DeviceId> {
        let told = seen.mount.as_ref().map(|mount| mount.device);
        told.or_else(|| Some(self.table_for(seen)?.at(&self.path_of(&seen.actor))?.device))
    }

    /// Number of acts that had begun when a look began.
    pub(super) fn acts_before(&self, seen: &Observation) -> usize {
        let began_us = seen.at_us.saturating_sub(seen.took_us);
        self.report.acts.partition_point(|act| act.from_us <= began_us)
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

    /// All FUSE mounts at any actor's own mountpoint, in all captures.
    pub(super) fn fuse_mounts(&self) -> Vec<(&'r Actor, &'r MountEntry)> {
        let mut found: Vec<(&Actor, &MountEntry)> = Vec::new();
        for capture in &self.report.captures {
            for one in &capture.tables {
                let path = self.path_of(&one.actor);
                found.extend(
                    one.table.at(&path).filter(|e| e.is_served()).map(|entry| (&one.actor, entry)),
                );
            }
        }
        found
    }

    /// Path of the FUSE mount in an actor's view.
    pub(super) fn path_of(&self, actor: &Actor) -> MountPath {
        match actor {
            Actor::Workload { name, .. } | Actor::HeldDescriptor { name } => {
                let spec = self.spec(name).map(|spec| self.paths(spec).mount_point);
                spec.map_or_else(|| self.fuse_path.clone(), |path| path.as_str().into())
            }
            Actor::Node | Actor::Runtime => self.fuse_path.clone(),
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
