//! Looking at the marker from every actor, and at the mount tables.

use super::RunContext;
use crate::error::Error;
use crate::event::Event;
use crate::marker::Marker;
use crate::mountinfo::{MountPath, MountTable};
use crate::node::{Look, Probe, Target};
use crate::observation::{Access, Actor, Observation, Outcome};
use crate::plan::WorkloadSpec;
use crate::report::{ActorTable, Capture};

impl RunContext<'_> {
    /// Has actors look, records what they saw, and returns it: one observation for every actor and user.
    ///
    /// # Errors
    /// As [`Node::observe`](crate::Node::observe).
    pub async fn observe(
        &mut self,
        actors: &[Actor],
        how: &Look,
    ) -> Result<Vec<Observation>, Error> {
        // Those that look as the same users and expect the same markers look together.
        let mut together: Vec<(Vec<u32>, Vec<Marker>, Vec<Actor>)> = Vec::new();
        let fresh = self.fresh_markers().await?;
        let began_us = self.node.now_us();
        for actor in actors {
            let users = how.users.clone().unwrap_or_else(|| vec![self.plan.uid_of(actor)]);
            let markers = fresh.for_actor(self.plan, actor);
            let alike = together.iter_mut().find(|(uids, expect, _)| {
                (uids.as_slice(), expect.as_slice()) == (users.as_slice(), markers.as_slice())
            });
            match alike {
                Some((.., looking)) => looking.push(actor.clone()),
                None => together.push((users, markers, vec![actor.clone()])),
            }
        }
        let mut seen = Vec::with_capacity(actors.len());
        for (uids, expect, actors) in together {
            let probe = Probe {
                target: how.target,
                access: how.access,
                expect,
                uids,
                deadline: self.plan.probe_deadline(),
                step: self.step().to_owned(),
            };
            let looked = self.node.observe(&actors, &probe).await?;
            seen.extend(looked.into_iter().map(|one| without_others(one, &probe.expect)));
        }
        if seen.iter().any(|one| matches!(one.outcome, Outcome::Hang { .. })) {
            let waited_us = self.node.now_us().saturating_sub(began_us);
            self.measurements.waited_in_vain_ms += waited_us as f64 / 1e3;
        }
        for observation in &seen {
            if how.access == Access::Held && observation.outcome.is_ok() {
                self.holding.insert(observation.actor.clone());
            }
            self.record(observation.clone(), how.target);
        }
        Ok(seen)
    }

    /// Takes the mount tables of the node, of the runtime where it is apart, and of the first replica
    /// of every workload that runs; the runner does so at the end of every phase that has not.
    ///
    /// # Errors
    /// As [`Node::mount_tables`](crate::Node::mount_tables).
    pub async fn capture(&mut self) -> Result<&Capture, Error> {
        let step = self.step().to_owned();
        self.capture_as(step).await
    }

    /// As [`capture`](Self::capture), in the middle of a phase and under another name.
    ///
    /// # Errors
    /// As [`Node::mount_tables`](crate::Node::mount_tables).
    pub async fn capture_as(&mut self, step: impl Into<String>) -> Result<&Capture, Error> {
        let mut actors = vec![Actor::Node];
        if self.plan.node.runtime.is_apart() {
            actors.push(Actor::Runtime);
        }
        actors.extend(self.workloads.iter().map(|w| Actor::workload(w.spec().name.clone())));
        let tables = self.node.mount_tables(&actors).await?;
        let tables = actors.into_iter().zip(tables);
        let tables =
            tables.filter_map(|(actor, table)| table.map(|table| ActorTable::new(actor, table)));
        let capture = Capture::new(step, self.node.now_us(), tables.collect());
        // Of several of one name the last one counts.
        self.captures.retain(|before| before.step != capture.step);
        self.captures.push(capture);
        Ok(&self.captures[self.captures.len() - 1])
    }

    /// As [`RunContext::capture`], with what the node's processes are doing.
    pub(crate) async fn capture_with_usage(&mut self) -> Result<(), Error> {
        let usage = self.node.usage().await?;
        self.capture().await?;
        if let Some(capture) = self.captures.last_mut() {
            capture.usage = usage;
        }
        Ok(())
    }

    /// Names of the started workloads among these whose container has ended, and its mount namespace with it.
    ///
    /// # Errors
    /// As [`Node::mount_tables`](crate::Node::mount_tables).
    pub(crate) async fn ended(&self, specs: &[WorkloadSpec]) -> Result<Vec<String>, Error> {
        let started = specs.iter().map(|spec| spec.name.clone());
        let started: Vec<String> = started.filter(|name| self.runs(name)).collect();
        let actors: Vec<Actor> = started.iter().map(|name| Actor::workload(name.clone())).collect();
        let tables = self.node.mount_tables(&actors).await?;
        let all = started.into_iter().zip(tables);
        Ok(all.filter(|(_, table)| table.is_none()).map(|(name, _)| name).collect())
    }

    /// Whether the running phase has taken the mount tables already.
    pub(crate) fn has_captured(&self) -> bool {
        let step = self.phases.last().map(|phase| phase.id.as_str());
        self.captures.last().map(|capture| capture.step.as_str()) == step
    }

    /// The latest capture of the mount tables.
    pub(crate) fn last_capture(&self) -> Option<&Capture> {
        self.captures.last()
    }

    /// Actors of the latest capture.
    pub(crate) fn captured_actors(&self) -> Vec<Actor> {
        let tables = self.last_capture().map_or(&[][..], |capture| &capture.tables);
        tables.iter().map(|one| one.actor.clone()).collect()
    }

    /// The mount tables of an actor in the previous and in the latest capture.
    pub(crate) fn last_two_tables(
        &self,
        actor: &Actor,
    ) -> (Option<&MountTable>, Option<&MountTable>) {
        let mut newest_first = self.captures.iter().rev();
        let now = newest_first.next().and_then(|capture| capture.table(actor));
        (newest_first.next().and_then(|capture| capture.table(actor)), now)
    }

    /// The first captured mount table of an actor.
    pub(crate) fn first_table(&self, actor: &Actor) -> Option<&MountTable> {
        self.captures.iter().find_map(|capture| capture.table(actor))
    }

    /// Path of the FUSE mount in an actor's view, whether it is mounted or not.
    pub(crate) fn fuse_path_of(&self, actor: &Actor) -> MountPath {
        let bridge = &self.plan.bridge;
        let spec = match actor {
            Actor::Workload { name, .. } => self.plan.workload(name),
            _ => None,
        };
        match (spec, &self.on_node) {
            (Some(spec), _) => spec.paths(bridge).mount_point.as_str().into(),
            (None, Some(path)) => path.clone(),
            (None, None) => bridge.fuse_path().as_str().into(),
        }
    }

    /// Whether the actor has ever read a fresh marker: only then can it lose the mount.
    pub fn could_read(&self, actor: &Actor) -> bool {
        self.could_read.contains(actor)
    }

    /// Closes the descriptor that is held for an actor.
    pub(crate) async fn let_go(&mut self, actor: &Actor) -> Result<(), Error> {
        self.node.let_go(actor).await?;
        self.holding.remove(actor);
        Ok(())
    }

    /// Whether a descriptor is held for the actor.
    pub(crate) fn holds(&self, actor: &Actor) -> bool {
        self.holding.contains(actor)
    }

    /// Records what the node's workloads have reported by themselves in this phase.
    pub(super) fn collect_reports(&mut self) {
        let step = self.step().to_owned();
        for mut observation in self.node.take_reports() {
            observation.step.clone_from(&step);
            self.record(observation, Target::Fuse);
        }
    }

    fn record(&mut self, observation: Observation, target: Target) {
        (self.events)(&Event::Observed(&observation));
        let reads = target == Target::Fuse && observation.access == Access::Read;
        if target == Target::Fuse
            && observation.actor == Actor::Node
            && let Some(mount) = &observation.mount
        {
            self.on_node = Some(mount.mount_point.clone());
        }
        let as_itself = || observation.uid == self.plan.uid_of(&observation.actor);
        if reads && observation.outcome.is_ok() && as_itself() {
            self.could_read.insert(observation.actor.clone());
        }
        self.timeline.push(observation);
    }
}

/// An observation that says "old" of earlier generations only. Any other wrong marker is another mountpoint's, or another
/// run's, and its generation is left out.
fn without_others(mut seen: Observation, expect: &[Marker]) -> Observation {
    let wrong = matches!(seen.outcome, Outcome::WrongContent { .. });
    if wrong && !expect.iter().any(|marker| Some(marker.generation) > seen.generation) {
        seen.generation = None;
    }
    seen
}
