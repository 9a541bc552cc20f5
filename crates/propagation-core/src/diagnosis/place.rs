//! Which path on the node is meant: that of the producer, of the volume or of the subPath that is concerned, which is the
//! bridge's for the first producer only.

use super::scene::Scene;
use super::silence::{Silence, silence_after};
use crate::mountinfo::{DeviceId, MountEntry, MountPath, MountTable};
use crate::observation::{Actor, Observation};
use crate::plan::{BindSpec, WorkloadSpec};
use crate::report::Failure;

/// A volume of a workload.
pub(super) struct Bound<'r> {
    /// The directory or file of the node.
    pub(super) source: String,
    /// Its place in the container.
    pub(super) destination: String,
    pub(super) bind: &'r BindSpec,
    /// Whether it is the volume under test, and not one beside it.
    pub(super) is_main: bool,
}

impl<'r> Scene<'r> {
    /// Path on the node of what a producer mounts, if its volume propagates it there.
    pub(super) fn on_node(&self, producer: &WorkloadSpec) -> MountPath {
        producer.path_on_node(&self.report.plan.bridge).as_str().into()
    }

    /// Path on the node of the mount that a workload makes or is to see.
    pub(super) fn wanted_by(&self, spec: &WorkloadSpec) -> MountPath {
        match self.producer_elsewhere(spec).filter(|_| !self.is_on_bridge(spec)) {
            Some(producer) => self.on_node(producer),
            None => self.report.plan.mountpoint_of(spec).as_str().into(),
        }
    }

    /// Path on the node of the mount that an actor makes or is to see.
    pub(super) fn wanted_by_actor(&self, actor: &Actor) -> MountPath {
        let spec = match actor {
            Actor::Workload { name, .. } | Actor::HeldDescriptor { name } => self.spec(name),
            Actor::Node | Actor::Runtime => None,
        };
        spec.map_or_else(|| self.fuse_path.clone(), |spec| self.wanted_by(spec))
    }

    /// Path on the node of the mount that somebody looked at: where its producer mounts it. Where none is known to have
    /// had it, it is the one that the actor is to see.
    pub(super) fn place_of(&self, seen: &Observation) -> MountPath {
        let (Actor::Workload { name, .. } | Actor::HeldDescriptor { name }) = &seen.actor else {
            let mount = seen.mount.as_ref().filter(|mount| mount.is_served());
            return mount.map_or_else(|| self.fuse_path.clone(), |it| it.mount_point.clone());
        };
        let maker = self.device_of(seen).and_then(|device| self.maker_of(device, seen.at_us));
        match (maker, self.spec(name)) {
            (Some(producer), _) => self.on_node(producer),
            (None, Some(spec)) => self.wanted_by(spec),
            (None, None) => self.fuse_path.clone(),
        }
    }

    /// All volumes of a workload, the one under test first.
    fn volumes_of(&self, spec: &'r WorkloadSpec) -> Vec<Bound<'r>> {
        let paths = self.paths(spec);
        let (source, destination) = (paths.source, paths.destination);
        let main = Bound { source, destination, bind: &spec.bind, is_main: true };
        let beside = spec.volumes.iter().map(|volume| Bound {
            source: self.report.plan.bridge.fill(&volume.source),
            destination: volume.destination.clone(),
            bind: &volume.bind,
            is_main: false,
        });
        std::iter::once(main).chain(beside).collect()
    }

    /// The volume whose source the refusal of a start names.
    pub(super) fn named_volume(&self, failure: &Failure) -> Option<Bound<'r>> {
        let all = self.volumes_of(self.spec(&failure.workload)?);
        all.into_iter().find(|volume| is_named(&failure.words, &volume.source))
    }

    /// The volume for which a start was refused: the one that the runtime names, or else the one under test.
    pub(super) fn refused_volume(&self, failure: &Failure) -> Option<Bound<'r>> {
        let under_test = || self.volumes_of(self.spec(&failure.workload)?).into_iter().next();
        self.named_volume(failure).or_else(under_test)
    }

    /// The volume at which a look hung: the one that the runtime names. Some name the first, whichever it is, so a first one
    /// counts after one that lies on a mount whose daemon does not answer by what was done to it; of several it is the first
    /// that nobody has read in the step.
    pub(super) fn hung_volume(
        &self,
        failure: &Failure,
        table: &'r MountTable,
    ) -> Option<(Bound<'r>, Option<&'r MountEntry>)> {
        let on_fuse = |bound: &Bound<'_>| {
            table.covering(&bound.source.as_str().into()).filter(|mount| mount.is_served())
        };
        let all = self.volumes_of(self.spec(&failure.workload)?);
        let found = all.into_iter().filter_map(|bound| Some((on_fuse(&bound)?, bound)));
        let hung = found.min_by_key(|(mount, bound)| {
            let named = is_named(&failure.words, &bound.source);
            let silence = self.silence_until(mount.device, &failure.step);
            let read = self.was_read_in(mount.device, &failure.step);
            (!named || bound.is_main, silence, !named, read)
        });
        match hung {
            Some((mount, bound)) => Some((bound, Some(mount))),
            None => Some((self.refused_volume(failure)?, None)),
        }
    }

    /// Whether the producer of a superblock answers, by the last thing that was done to it up to a step: the most silent
    /// is the least.
    fn silence_until(&self, device: DeviceId, step: &str) -> u8 {
        const ANSWERS: u8 = 2;
        let until = self.history.place(step);
        let Some(producer) = self.maker_of(device, u64::MAX) else { return ANSWERS };
        let before = self.acts_on(producer).filter(|act| self.history.place(&act.step) <= until);
        match before.last().and_then(silence_after) {
            Some(Silence::Stopped) => 0,
            // Without a keeper an access is refused.
            Some(Silence::Ended) if self.report.plan.fuse_of(producer).keeper => 0,
            Some(Silence::Slow(_)) => 1,
            Some(Silence::Ended) | None => ANSWERS,
        }
    }

    /// Whether somebody read a superblock in a step.
    fn was_read_in(&self, device: DeviceId, step: &str) -> bool {
        self.asked().any(|seen| {
            seen.step == step && seen.outcome.is_ok() && self.device_of(seen) == Some(device)
        })
    }
}

/// Whether a text has a path in it as a whole.
fn is_named(text: &str, path: &str) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || "/_-".contains(c);
    text.match_indices(path).any(|(at, _)| {
        let mut after = text[at + path.len()..].chars();
        let next = after.next();
        // A dot ends a sentence, or goes on with a name.
        let is_longer = match next {
            Some('.') => after.next().is_some_and(goes_on),
            Some(c) => goes_on(c),
            None => false,
        };
        !is_longer && !text[..at].chars().next_back().is_some_and(goes_on)
    })
}

#[cfg(test)]
mod tests {
    use super::is_named;

    #[test]
    fn a_path_is_named_as_a_whole_only() {
        let words = "failed to stat \"/srv/second\": stat /srv/second: not connected";
        assert!(is_named(words, "/srv/second"));
        assert!(!is_named(words, "/srv"));
        assert!(!is_named(words, "/second"));
        assert!(!is_named("no /srv/second.old", "/srv/second"));
        assert!(is_named("there is no /srv/second.", "/srv/second"));
    }
}
