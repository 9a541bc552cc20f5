//! Spoiling the honest answers of a node.

use std::sync::Arc;

use super::Sabotage;
use super::node::{SabotagedNode, Started};
use super::workload::SabotagedWorkload;
use crate::Class;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind};
use crate::marker::Marker;
use crate::node::{Node, Probe};
use crate::observation::{Actor, Observation, Outcome, Via};
use crate::plan::{Propagation, Role, WorkloadSpec};
use crate::workload::Workload;

impl SabotagedNode {
    fn spec_of(&self, actor: &Actor) -> Option<WorkloadSpec> {
        let Actor::Workload { name, .. } = actor else { return None };
        let memory = self.saboteur.memory();
        let found = memory.workloads.iter().rev().find(|workload| workload.spec().name == *name);
        found.map(|workload| workload.spec().clone())
    }

    /// Spoils an honest observation.
    fn bend(&self, observation: &mut Observation, probe: &Probe, node: Option<&Observation>) {
        let spec = self.spec_of(&observation.actor);
        let role = spec.as_ref().map(|spec| spec.role);
        let slave = spec.is_some_and(|spec| spec.propagation == Propagation::HostToContainer);
        let mut expected = probe.expect.iter().map(|marker| marker.generation);
        let same_generation = expected.any(|one| observation.generation == Some(one));
        let dead = observation.outcome.class() == Class::Errno(Errno::ENOTCONN);
        let absent = observation.outcome == Outcome::Absent;
        let new = match self.saboteur.sabotage {
            Sabotage::Access(access) if access == probe.access => Some(Outcome::Ok),
            Sabotage::LiesAboutFresh if observation.generation.is_some() => Some(Outcome::Ok),
            Sabotage::IgnoresNonce if same_generation => Some(Outcome::Ok),
            Sabotage::ControlSeesMount if role == Some(Role::Control) => Some(Outcome::Ok),
            Sabotage::SlavesMissMounts if slave => Some(Outcome::Absent),
            Sabotage::NeverBreaks if dead => Some(Outcome::Ok),
            Sabotage::HidesDeadMounts if dead => Some(Outcome::Absent),
            Sabotage::AbsentLooksDead if absent => Some(Outcome::errno(Errno::ENOTCONN, "open")),
            Sabotage::LetsEverybodyIn
                if observation.outcome.class() == Class::Errno(Errno::EACCES) =>
            {
                Some(Outcome::Ok)
            }
            _ => None,
        };
        observation.outcome = new.unwrap_or_else(|| observation.outcome.clone());
        match self.saboteur.sabotage {
            Sabotage::TimesFromAnotherClock => observation.at_us += 3_600_000_000,
            Sabotage::ShowsTheNodesMount => {
                observation.mount = node.and_then(|node| node.mount.clone());
            }
            _ => {}
        }
    }

    pub(super) fn keep_together(&self, actors: &[Actor]) -> Vec<Actor> {
        let one = |actor: &Actor| match actor {
            Actor::Workload { name, .. } if self.does(Sabotage::ReplicasShareOneView) => {
                Actor::workload(name.clone())
            }
            actor => actor.clone(),
        };
        actors.iter().map(one).collect()
    }

    pub(super) async fn start_bent(
        &self,
        specs: &[WorkloadSpec],
        marker: &Marker,
    ) -> Result<Started, Error> {
        self.saboteur.memory().first_marker.get_or_insert_with(|| marker.clone());
        let started = match self.inner.start(specs, marker).await {
            Err(error)
                if error.kind() == ErrorKind::InvalidInput
                    && self.does(Sabotage::AcceptsNameInUse) =>
            {
                Ok(self
                    .saboteur
                    .memory()
                    .workloads
                    .iter()
                    .take(specs.len())
                    .cloned()
                    .map(Ok)
                    .collect())
            }
            started => started,
        };
        let started: Vec<_> = started?
            .into_iter()
            .map(|result| {
                result.map(|inner| {
                    let saboteur = Arc::clone(&self.saboteur);
                    Arc::new(SabotagedWorkload::new(inner, saboteur)) as Arc<dyn Workload>
                })
            })
            .collect();
        let started = self.spoil(started).await?;
        let handles = started.iter().filter_map(|result| result.as_ref().ok()).cloned();
        self.saboteur.memory().workloads.extend(handles);
        Ok(started)
    }

    pub(super) async fn observe_bent(
        &self,
        actors: &[Actor],
        probe: &Probe,
    ) -> Result<Vec<Observation>, Error> {
        let mut asked = probe.clone();
        if self.does(Sabotage::DropsSecondUid) {
            asked.uids.truncate(1);
        }
        let seen = match self.inner.observe(&self.keep_together(actors), &asked).await {
            Err(error)
                if error.kind() == ErrorKind::InvalidInput
                    && self.does(Sabotage::AcceptsUnknownActors) =>
            {
                Ok(actors.iter().map(|actor| made_up(actor, probe, self.now_us())).collect())
            }
            seen => seen,
        };
        let mut seen = seen?;
        let node = self.inner.observe(&[Actor::Node], &asked).await?;
        for (position, observation) in seen.iter_mut().enumerate() {
            self.bend(observation, probe, node.first());
            if let Some(actor) = actors.get(position / asked.uids.len().max(1)) {
                observation.actor.clone_from(actor);
            }
        }
        if self.does(Sabotage::WrongOrderOfObservations) {
            seen.reverse();
        }
        let hangs = seen.iter().any(|seen| matches!(seen.outcome, Outcome::Hang { .. }));
        if hangs && self.does(Sabotage::BlocksOnHang) {
            std::future::pending::<()>().await;
        }
        Ok(seen)
    }

    /// Spoils the results of starting.
    async fn spoil(&self, mut started: Started) -> Result<Started, Error> {
        if self.does(Sabotage::StartMixesUpResults) {
            started.reverse();
        }
        if self.does(Sabotage::StartStopsAtFirstRefusal)
            && let Some(first) = started.iter().position(Result::is_err)
            && let Some(Err(refusal)) = started.get(first).map(|result| result.as_ref().map(drop))
        {
            let refusal = refusal.clone();
            for result in &mut started[first + 1..] {
                if let Ok(workload) = result {
                    workload.stop().await?;
                }
                *result = Err(refusal.clone());
            }
        }
        Ok(started)
    }
}

fn made_up(actor: &Actor, probe: &Probe, at_us: u64) -> Observation {
    Observation {
        access: probe.access,
        actor: actor.clone(),
        step: probe.step.clone(),
        at_us,
        took_us: 0,
        uid: 0,
        via: Via::Probe,
        outcome: Outcome::Absent,
        generation: None,
        mount: None,
    }
}
