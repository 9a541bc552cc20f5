//! A node that breaks its contract.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::workload::SabotagedWorkload;
use super::{Memory, Sabotage, Saboteur};
use crate::backend::Capabilities;
use crate::error::{Error, ErrorKind};
use crate::facts::{HostFacts, PathState};
use crate::journal::HostChange;
use crate::marker::Marker;
use crate::mountinfo::MountTable;
use crate::node::{Node, Probe};
use crate::observation::{Actor, Observation, Outcome, Via};
use crate::plan::{Propagation, Role, WorkloadSpec};
use crate::program::StartRefused;
use crate::report::Cleanup;
use crate::workload::Workload;

/// What starting gives.
type Started = Vec<Result<Arc<dyn Workload>, StartRefused>>;

pub(super) struct SabotagedNode {
    inner: Box<dyn Node>,
    saboteur: Arc<Saboteur>,
}

impl SabotagedNode {
    pub(super) fn new(sabotage: Sabotage, inner: Box<dyn Node>) -> Self {
        let saboteur = Saboteur { sabotage, memory: Mutex::new(Memory::default()) };
        Self { inner, saboteur: Arc::new(saboteur) }
    }

    fn does(&self, sabotage: Sabotage) -> bool {
        self.saboteur.does(sabotage)
    }

    fn spec_of(&self, actor: &Actor) -> Option<WorkloadSpec> {
        let Actor::Workload { name, .. } = actor else { return None };
        let memory = self.saboteur.memory();
        let found = memory.workloads.iter().rev().find(|workload| workload.spec().name == *name);
        found.map(|workload| workload.spec().clone())
    }

    /// What is made of an honest observation.
    fn bend(&self, observation: &mut Observation, probe: &Probe, node: Option<&Observation>) {
        let spec = self.spec_of(&observation.actor);
        let role = spec.as_ref().map(|spec| spec.role);
        let slave = spec.is_some_and(|spec| spec.propagation == Propagation::HostToContainer);
        let same_generation = observation.generation == Some(probe.expect.generation);
        let dead = observation.outcome.class() == "ENOTCONN";
        let absent = observation.outcome == Outcome::Absent;
        let new = match self.saboteur.sabotage {
            Sabotage::LiesAboutFresh if observation.generation.is_some() => Some(Outcome::Ok),
            Sabotage::IgnoresNonce if same_generation => Some(Outcome::Ok),
            Sabotage::ControlSeesMount if role == Some(Role::Control) => Some(Outcome::Ok),
            Sabotage::SlavesMissMounts if slave => Some(Outcome::Absent),
            Sabotage::NeverBreaks if dead => Some(Outcome::Ok),
            Sabotage::HidesDeadMounts if dead => Some(Outcome::Absent),
            Sabotage::AbsentLooksDead if absent => Some(Outcome::errno("ENOTCONN", "open")),
            Sabotage::LetsEverybodyIn if observation.outcome.class() == "EACCES" => {
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

    fn keep_together(&self, actors: &[Actor]) -> Vec<Actor> {
        let one = |actor: &Actor| match actor {
            Actor::Workload { name, .. } if self.does(Sabotage::ReplicasShareOneView) => {
                Actor::workload(name.clone())
            }
            actor => actor.clone(),
        };
        actors.iter().map(one).collect()
    }

    async fn start_bent(&self, specs: &[WorkloadSpec], marker: &Marker) -> Result<Started, Error> {
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

    async fn observe_bent(
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

    /// Starting with the results spoilt.
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

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Node for SabotagedNode {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        if self.does(Sabotage::CapabilitiesChange) && self.saboteur.memory().calls > 0 {
            capabilities.rebind_host = !capabilities.rebind_host;
        }
        capabilities
    }

    fn now_us(&self) -> u64 {
        self.inner.now_us()
    }

    async fn facts(&self) -> Result<HostFacts, Error> {
        let call = self.saboteur.begin()?;
        let facts = self.inner.facts().await;
        call.over();
        let mut facts = facts?;
        let memory = self.saboteur.memory();
        if self.does(Sabotage::FactsChange) {
            facts.hostname = format!("{}-{}", facts.hostname, memory.calls);
        }
        if self.does(Sabotage::UndoRemovesWhatWasThere)
            && memory.found_there.iter().any(|change| memory.undone.contains(change))
        {
            facts.bridge = PathState::Missing;
        }
        drop(memory);
        Ok(facts)
    }

    async fn apply(&self, change: &HostChange) -> Result<bool, Error> {
        let call = self.saboteur.begin()?;
        let now = self.inner.apply(change).await;
        call.over();
        let now = now?;
        let mut memory = self.saboteur.memory();
        if !now {
            memory.found_there.push(change.clone());
        }
        let lost = self.does(Sabotage::UndoRemovesWhatWasThere) && memory.undone.contains(change);
        Ok(now || lost || self.does(Sabotage::ApplyNotIdempotent))
    }

    async fn undo(&self, change: &HostChange) -> Result<(), Error> {
        let call = self.saboteur.begin()?;
        let undone = self.inner.undo(change).await;
        call.over();
        let mut memory = self.saboteur.memory();
        let again = memory.undone.contains(change);
        memory.undone.push(change.clone());
        if again && self.does(Sabotage::UndoNotIdempotent) {
            return Err(Error::new(ErrorKind::Environment, "undo", "it has been undone already"));
        }
        if self.does(Sabotage::UndoIgnoresUse) { Ok(()) } else { undone }
    }

    async fn start(
        &self,
        specs: &[WorkloadSpec],
        marker: &Marker,
    ) -> Result<Vec<Result<Arc<dyn Workload>, StartRefused>>, Error> {
        let call = self.saboteur.begin()?;
        let started = self.start_bent(specs, marker).await;
        call.over();
        started
    }

    async fn observe(&self, actors: &[Actor], probe: &Probe) -> Result<Vec<Observation>, Error> {
        let call = self.saboteur.begin()?;
        let seen = self.observe_bent(actors, probe).await;
        call.over();
        seen
    }

    fn take_reports(&self) -> Vec<Observation> {
        let reports = self.inner.take_reports();
        match self.saboteur.sabotage {
            Sabotage::LosesReports => Vec::new(),
            Sabotage::RepeatsReports => {
                let mut memory = self.saboteur.memory();
                memory.reports.extend(reports);
                memory.reports.clone()
            }
            _ => reports,
        }
    }

    async fn mount_table(&self, actor: &Actor) -> Result<MountTable, Error> {
        let call = self.saboteur.begin()?;
        let actors = self.keep_together(std::slice::from_ref(actor));
        let actor = match actors.first() {
            Some(actor) if !self.does(Sabotage::ShowsTheNodesTable) => actor,
            _ => &Actor::Node,
        };
        let table = self.inner.mount_table(actor).await;
        call.over();
        table
    }

    async fn rebind_host(&self) -> Result<(), Error> {
        if self.does(Sabotage::RebindDoesNothing) {
            return Ok(());
        }
        let call = self.saboteur.begin()?;
        let done = self.inner.rebind_host().await;
        call.over();
        done
    }

    async fn close(&self) -> Cleanup {
        let again = std::mem::replace(&mut self.saboteur.memory().closed, true);
        if self.does(Sabotage::CloseLeavesWorkloads) {
            return Cleanup::default();
        }
        let mut cleanup = self.inner.close().await;
        if again && self.does(Sabotage::CloseNotIdempotent) {
            cleanup.could_not.push("end the node: it has been closed already".into());
        }
        cleanup
    }
}

fn made_up(actor: &Actor, probe: &Probe, at_us: u64) -> Observation {
    Observation {
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
