//! Looking: the outcome of reading a file from an actor.

use super::files::{File, join};
use super::fuse::Denied;
use super::kernel::{Content, Namespace};
use super::world::World;
use crate::backend::Feature;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind};
use crate::marker::{MARKER_FILE, Marker, PLAIN_FILE};
use crate::mountinfo::MountPath;
use crate::node::{Probe, Target};
use crate::observation::{Access, Actor, MountView, Observation, Outcome, Via};
use crate::plan::WorkloadSpec;

/// Outcome of one look.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) outcome: Outcome,
    pub(super) generation: Option<u64>,
    pub(super) mount: Option<MountView>,
}

/// The place to look from, and the directory to look at.
#[derive(Debug, Clone)]
struct View {
    namespace: Namespace,
    /// The directory, or why it cannot be seen from there.
    directory: Result<String, String>,
}

impl World {
    /// One observation for every actor and user, in that order.
    pub(super) fn observe(
        &mut self,
        actors: &[Actor],
        probe: &Probe,
    ) -> Result<Vec<Observation>, Error> {
        let views: Vec<View> =
            actors.iter().map(|actor| self.view(actor, probe.target)).collect::<Result<_, _>>()?;
        let file = match probe.target {
            Target::Fuse => MARKER_FILE,
            Target::Bridge => PLAIN_FILE,
        };
        let deadline_ms = u64::try_from(probe.deadline.as_millis()).unwrap_or(u64::MAX);
        let mut seen = Vec::with_capacity(actors.len() * probe.uids.len());
        for (actor, view) in actors.iter().zip(views) {
            for &uid in &probe.uids {
                let look = match &view.directory {
                    Err(reason) => skipped(reason.clone()),
                    Ok(_) if uid != 0 && !self.settings.capabilities.has(Feature::OtherUids) => {
                        skipped(format!("cannot become uid {uid}: EINVAL"))
                    }
                    Ok(directory) => {
                        let at = (view.namespace, directory.as_str());
                        let look = self.look(at, file, uid, &probe.expect, deadline_ms);
                        match probe.access {
                            Access::Held => self.look_held(actor, at, look, probe),
                            Access::Write if look.outcome == Outcome::Absent => {
                                Look { outcome: Outcome::Lower, ..look }
                            }
                            _ => look,
                        }
                    }
                };
                let access = probe.access;
                let made = self.observation(actor.clone(), Via::Probe, &probe.step, uid, look);
                seen.push(Observation { access, ..made });
            }
        }
        Ok(seen)
    }

    /// An observation made now.
    pub(super) fn observation(
        &self,
        actor: Actor,
        via: Via,
        step: &str,
        uid: u32,
        look: Look,
    ) -> Observation {
        let Look { outcome, generation, mount } = look;
        let (step, at_us) = (step.into(), self.now_us());
        let (took_us, access) = (0, Access::Read);
        Observation { actor, step, at_us, took_us, uid, via, access, outcome, generation, mount }
    }

    /// Reads a file of a directory of a namespace. Any other marker than those of `expect` is wrong; where
    /// none is expected, every whole marker is `ok`.
    pub(super) fn look(
        &self,
        at: (Namespace, &str),
        file: &str,
        uid: u32,
        expect: &[Marker],
        deadline_ms: u64,
    ) -> Look {
        let (namespace, directory) = at;
        let table = self.kernel.table(namespace);
        let mount = table.at(&MountPath::from(directory)).map(MountView::from);
        let fuse = mount.as_ref().is_some_and(MountView::is_fuse);
        let wrong = |detail: String| Outcome::WrongContent { detail };
        let late = fuse && self.delay_ms(namespace, directory) >= deadline_ms;
        let (outcome, generation) = match self.read(namespace, &join(directory, file), uid) {
            Ok(_) if late => (Outcome::Hang { after_ms: deadline_ms }, None),
            Ok(content) => judge(&content, expect),
            Err(Denied::Hang) => (Outcome::Hang { after_ms: deadline_ms }, None),
            Err(Denied::Errno(Errno::ENOENT)) if fuse => {
                (wrong("the mount is there and the marker is not in it".into()), None)
            }
            Err(Denied::Errno(Errno::ENOENT)) => (Outcome::Absent, None),
            Err(Denied::Errno(errno)) => (Outcome::errno(errno, "open"), None),
        };
        Look { outcome, generation, mount }
    }

    /// Reads through the descriptor that the actor holds; opens it where there is none and the look succeeds.
    fn look_held(
        &mut self,
        actor: &Actor,
        at: (Namespace, &str),
        look: Look,
        probe: &Probe,
    ) -> Look {
        let (namespace, directory) = at;
        let Some(held) = self.held.get(actor).copied() else {
            let place = self.kernel.walk(namespace, directory).filter(|_| look.outcome.is_ok());
            self.held.extend(place.map(|place| (actor.clone(), place.superblock)));
            return look;
        };
        let content = self.kernel.superblock(held).map(|superblock| &superblock.content);
        let read = match content {
            Some(Content::Fuse(connection)) => connection.read(MARKER_FILE, 0),
            _ => Err(Denied::Errno(Errno::ENOTCONN)),
        };
        let after_ms = u64::try_from(probe.deadline.as_millis()).unwrap_or(u64::MAX);
        let (outcome, generation) = match read {
            Ok(content) => judge(&content, &probe.expect),
            Err(Denied::Hang) => (Outcome::Hang { after_ms }, None),
            Err(Denied::Errno(errno)) => (Outcome::errno(errno, "read"), None),
        };
        Look { outcome, generation, mount: look.mount }
    }

    /// Delay of a directory's daemon, in milliseconds.
    fn delay_ms(&self, namespace: Namespace, directory: &str) -> u64 {
        let place = self.kernel.walk(namespace, directory);
        match place.and_then(|place| self.kernel.superblock(place.superblock)).map(|it| &it.content)
        {
            Some(Content::Fuse(connection)) => connection.delay_ms(),
            _ => 0,
        }
    }

    fn read(&self, namespace: Namespace, path: &str, uid: u32) -> Result<String, Denied> {
        let absent = Denied::Errno(Errno::ENOENT);
        let place = self.kernel.walk(namespace, path).ok_or(absent)?;
        match &self.kernel.superblock(place.superblock).ok_or(absent)?.content {
            Content::Fuse(connection) => connection.read(&place.directory, uid),
            Content::Lower(files) => match files.get(&place.directory) {
                Some(File::Regular(content)) => Ok(content.clone()),
                Some(_) => Err(Denied::Errno(Errno::EISDIR)),
                None => Err(absent),
            },
        }
    }

    /// Whether an actor is a workload that was started and has ended.
    pub(super) fn has_ended(&self, actor: &Actor) -> bool {
        let Actor::Workload { name, .. } = actor else { return false };
        self.running(name).is_none() && self.workloads.values().any(|r| r.spec.name == *name)
    }

    /// The namespace that an actor looks from, and its workload if it is one.
    pub(super) fn place_of(
        &self,
        actor: &Actor,
    ) -> Result<(Namespace, Option<&WorkloadSpec>), Error> {
        let unknown = || {
            Error::new(
                ErrorKind::InvalidInput,
                format!("look from {actor}"),
                "unknown actor on this node",
            )
        };
        match actor {
            Actor::Node | Actor::Runtime => Ok((self.node, None)),
            Actor::Workload { name, replica } => {
                let record = self.running(name).ok_or_else(unknown)?;
                let namespaces = record.namespaces();
                let namespace = namespaces.get(*replica as usize).ok_or_else(unknown)?;
                Ok((*namespace, Some(record.spec())))
            }
            Actor::HeldDescriptor { .. } => Err(unknown()),
        }
    }

    fn view(&self, actor: &Actor, target: Target) -> Result<View, Error> {
        let (namespace, spec) = self.place_of(actor)?;
        let bridge = &self.plan.bridge;
        let directory = match (target, spec) {
            (Target::Fuse, None) => Ok(bridge.fuse_path()),
            (Target::Bridge, None) => Ok(bridge.path.clone()),
            (Target::Fuse, Some(spec)) => Ok(spec.paths(bridge).fuse),
            (Target::Bridge, Some(spec)) => spec
                .paths(bridge)
                .bridge
                .ok_or_else(|| format!("the volume of {} does not contain the bridge", spec.name)),
        };
        Ok(View { namespace, directory })
    }
}

fn skipped(reason: String) -> Look {
    Look { outcome: Outcome::Skipped { reason }, generation: None, mount: None }
}

fn judge(content: &str, expect: &[Marker]) -> (Outcome, Option<u64>) {
    let Some(marker) = Marker::parse(content.as_bytes()) else {
        let detail = format!("{} bytes that are not a marker", content.len());
        return (Outcome::WrongContent { detail }, None);
    };
    let generation = Some(marker.generation);
    match marker.differs_from(expect) {
        Some(detail) => (Outcome::WrongContent { detail }, generation),
        None => (Outcome::Ok, generation),
    }
}
