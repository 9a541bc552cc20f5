//! A node that breaks its contract.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::{Memory, Sabotage, Saboteur};
use crate::backend::Capabilities;
use crate::error::{Error, ErrorKind};
use crate::facts::{HostFacts, PathState};
use crate::journal::HostChange;
use crate::marker::Marker;
use crate::mountinfo::MountTable;
use crate::node::{Node, Probe};
use crate::observation::{Actor, Observation};
use crate::plan::{FaultKind, Repair, WorkloadSpec};
use crate::program::{Executed, Refused, StartRefused};
use crate::report::time::Wait;
use crate::report::{Cleanup, ClusterAccess, Usage};
use crate::workload::Workload;

/// What starting gives.
pub(super) type Started = Vec<Result<Arc<dyn Workload>, StartRefused>>;

pub(super) struct SabotagedNode {
    pub(super) inner: Box<dyn Node>,
    pub(super) saboteur: Arc<Saboteur>,
}

impl SabotagedNode {
    pub(super) fn new(sabotage: Sabotage, inner: Box<dyn Node>) -> Self {
        let saboteur = Saboteur { sabotage, memory: Mutex::new(Memory::default()) };
        Self { inner, saboteur: Arc::new(saboteur) }
    }

    pub(super) fn does(&self, sabotage: Sabotage) -> bool {
        self.saboteur.does(sabotage)
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
            capabilities.repairs.remove(&Repair::RebindHost);
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

    fn cluster(&self) -> Option<ClusterAccess> {
        self.inner.cluster()
    }

    fn take_waits(&self) -> Vec<Wait> {
        self.inner.take_waits()
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

    async fn mount_tables(&self, actors: &[Actor]) -> Result<Vec<Option<MountTable>>, Error> {
        let call = self.saboteur.begin()?;
        let mut actors = self.keep_together(actors);
        if self.does(Sabotage::ShowsTheNodesTable) {
            actors.fill(Actor::Node);
        }
        let tables = self.inner.mount_tables(&actors).await;
        call.over();
        tables
    }

    async fn rebind_host(
        &self,
        path: &str,
        deduplicate: bool,
    ) -> Result<Result<(), Refused>, Error> {
        let repair = match deduplicate {
            true => Repair::RebindHostDeduplicated,
            false => Repair::RebindHost,
        };
        if self.does(Sabotage::RebindDoesNothing) || self.does(Sabotage::Repair(repair)) {
            return Ok(Ok(()));
        }
        let call = self.saboteur.begin()?;
        let done = self.inner.rebind_host(path, deduplicate).await;
        call.over();
        done
    }

    async fn unmount(&self, path: &str, lazy: bool) -> Result<Result<(), Refused>, Error> {
        let (fault, repair) = match lazy {
            true => (FaultKind::LazyUnmount, Repair::LazyUnmountMount),
            false => (FaultKind::Unmount, Repair::UnmountMount),
        };
        if self.does(Sabotage::Fault(fault)) || self.does(Sabotage::Repair(repair)) {
            return Ok(Ok(()));
        }
        self.inner.unmount(path, lazy).await
    }

    async fn publish(&self, path: &str) -> Result<Result<(), Refused>, Error> {
        self.inner.publish(path).await
    }

    async fn unpublish(&self, path: &str) -> Result<Result<(), Refused>, Error> {
        self.inner.unpublish(path).await
    }

    async fn let_go(&self, actor: &Actor) -> Result<(), Error> {
        self.inner.let_go(actor).await
    }

    async fn execute(
        &self,
        actor: &Actor,
        command: &[String],
        deadline: Duration,
    ) -> Result<Result<Executed, Refused>, Error> {
        self.inner.execute(actor, command, deadline).await
    }

    async fn usage(&self) -> Result<Usage, Error> {
        self.inner.usage().await
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
