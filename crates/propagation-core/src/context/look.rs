//! Looking: at the marker from every actor, and at the mount tables.

use std::collections::BTreeMap;

use super::RunContext;
use crate::error::Error;
use crate::event::Event;
use crate::mountinfo::{MountPath, MountTable};
use crate::node::{Probe, Target};
use crate::observation::{Access, Actor, Observation};
use crate::report::{ActorTable, Capture, Usage};

impl RunContext<'_> {
    /// Looks at the marker (or the plain file) from all actors, records what they saw, and returns
    /// it.
    ///
    /// # Errors
    /// As [`Node::observe`](crate::Node::observe).
    pub async fn observe(
        &mut self,
        actors: &[Actor],
        target: Target,
        uids: &[u32],
    ) -> Result<Vec<Observation>, Error> {
        self.observe_by(Access::Read, actors, target, uids).await
    }

    /// Looks at the marker from all actors, each as the user that it is ([`Plan::uid_of`]).
    ///
    /// [`Plan::uid_of`]: crate::Plan::uid_of
    ///
    /// # Errors
    /// As [`Node::observe`](crate::Node::observe).
    pub async fn look(&mut self, actors: &[Actor]) -> Result<Vec<Observation>, Error> {
        self.look_by(Access::Read, actors).await
    }

    /// As [`RunContext::look`], by another access than reading.
    ///
    /// # Errors
    /// As [`Node::observe`](crate::Node::observe).
    pub async fn look_by(
        &mut self,
        access: Access,
        actors: &[Actor],
    ) -> Result<Vec<Observation>, Error> {
        let mut as_users: BTreeMap<u32, Vec<Actor>> = BTreeMap::new();
        for actor in actors {
            as_users.entry(self.plan.uid_of(actor)).or_default().push(actor.clone());
        }
        let mut seen = Vec::with_capacity(actors.len());
        for (uid, actors) in as_users {
            seen.extend(self.observe_by(access, &actors, Target::Fuse, &[uid]).await?);
        }
        Ok(seen)
    }

    /// As [`RunContext::observe`], by another access than reading.
    ///
    /// # Errors
    /// As [`Node::observe`](crate::Node::observe).
    pub async fn observe_by(
        &mut self,
        access: Access,
        actors: &[Actor],
        target: Target,
        uids: &[u32],
    ) -> Result<Vec<Observation>, Error> {
        if actors.is_empty() {
            return Ok(Vec::new());
        }
        let probe = Probe {
            target,
            access,
            expect: self.fresh_markers()?,
            uids: uids.to_vec(),
            deadline: self.plan.probe_deadline(),
            step: self.step().to_owned(),
        };
        let seen = self.node.observe(actors, &probe).await?;
        for observation in &seen {
            if access == Access::Held && observation.outcome.is_ok() {
                self.holding.insert(observation.actor.clone());
            }
            self.record(observation.clone(), target);
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

    /// As [`capture`](Self::capture), in the middle of a phase and under a name of its own.
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
            tables.filter_map(|(actor, table)| table.map(|table| ActorTable { actor, table }));
        let (at_us, usage) = (self.node.now_us(), Usage::default());
        let capture = Capture { step: step.into(), at_us, tables: tables.collect(), usage };
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

    /// Whether the running phase has taken the mount tables already.
    pub(crate) fn has_captured(&self) -> bool {
        let step = self.phases.last().map(|phase| phase.id.as_str());
        self.captures.last().map(|capture| capture.step.as_str()) == step
    }

    /// Those whose mount tables were taken last.
    pub(crate) fn captured_actors(&self) -> Vec<Actor> {
        let tables = self.captures.last().map_or(&[][..], |capture| &capture.tables);
        tables.iter().map(|one| one.actor.clone()).collect()
    }

    /// The mount table of an actor as it was taken before the last time, and the last time.
    pub(crate) fn last_two_tables(
        &self,
        actor: &Actor,
    ) -> (Option<&MountTable>, Option<&MountTable>) {
        let mut newest_first = self.captures.iter().rev();
        let now = newest_first.next().and_then(|capture| capture.table(actor));
        (newest_first.next().and_then(|capture| capture.table(actor)), now)
    }

    /// The first mount table of an actor that was taken.
    pub(crate) fn first_table(&self, actor: &Actor) -> Option<&MountTable> {
        self.captures.iter().find_map(|capture| capture.table(actor))
    }

    /// Where the FUSE mount is or would be, as an actor has it.
    pub(crate) fn fuse_path_of(&self, actor: &Actor) -> MountPath {
        let bridge = &self.plan.bridge;
        let spec = match actor {
            Actor::Workload { name, .. } => self.plan.workload(name),
            _ => None,
        };
        let path = spec.map(|spec| spec.paths(bridge).mount_point);
        path.unwrap_or_else(|| bridge.fuse_path()).as_str().into()
    }

    /// Whether the actor has read a fresh marker at some time: only then can it lose it.
    pub fn could_read(&self, actor: &Actor) -> bool {
        self.could_read.contains(actor)
    }

    /// Closes the descriptor that is kept for an actor.
    pub(crate) async fn let_go(&mut self, actor: &Actor) -> Result<(), Error> {
        self.node.let_go(actor).await?;
        self.holding.remove(actor);
        Ok(())
    }

    /// Whether a descriptor has been opened from the actor and is kept.
    pub(crate) fn holds(&self, actor: &Actor) -> bool {
        self.holding.contains(actor)
    }

    /// Ends the run of a phase with what the node's workloads have reported by themselves.
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
        let as_itself = || observation.uid == self.plan.uid_of(&observation.actor);
        if reads && observation.outcome.is_ok() && as_itself() {
            self.could_read.insert(observation.actor.clone());
        }
        self.timeline.push(observation);
    }
}
