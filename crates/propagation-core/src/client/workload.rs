//! Shared by workloads, whatever starts them: the current container and its reports.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::{Connection, Lines, NodeClient, Reported, lock, wait};
use crate::error::{Error, ErrorKind};
use crate::plan::{Fault, FuseSpec, WorkloadSpec};
use crate::program::{Attach, Attached, Refused};
use crate::protocol::{Call, Reply};
use crate::workload::{Restart, Until, WorkloadStatus};

/// A workload on an agent's node: a container, or its successor after a restart. Its methods keep the contracts of
/// those of [`Workload`](crate::Workload) with the same names.
#[derive(Debug)]
pub struct WorkloadClient<C> {
    /// The node of the workload.
    pub node: Arc<NodeClient<C>>,
    /// The specification that it was started from.
    pub spec: WorkloadSpec,
    current: Mutex<Current>,
}

/// The current container of a workload.
#[derive(Debug)]
struct Current {
    /// None once it has been stopped.
    container: Option<u32>,
    events: watch::Receiver<Reported>,
    /// Log lines of the containers before it.
    log_before: Lines,
}

impl<C: Connection> WorkloadClient<C> {
    /// A workload from a container that has been started.
    pub fn new(
        node: Arc<NodeClient<C>>,
        spec: WorkloadSpec,
        container: u32,
        events: watch::Receiver<Reported>,
    ) -> Self {
        let current = Current { container: Some(container), events, log_before: Lines::default() };
        Self { node, spec, current: Mutex::new(current) }
    }

    /// Number of the current container.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when it has been stopped.
    pub fn container(&self) -> Result<u32, Error> {
        lock(&self.current).container.ok_or_else(|| {
            let operation = format!("use the workload {:?}", self.spec.name);
            Error::new(ErrorKind::InvalidInput, operation, "it has been stopped")
        })
    }

    /// Reports of the current container.
    pub fn events(&self) -> watch::Receiver<Reported> {
        lock(&self.current).events.clone()
    }

    /// Status of the workload now.
    pub fn status(&self) -> WorkloadStatus {
        lock(&self.current).events.borrow().status.clone()
    }

    /// Waits until the condition is met, or no longer can be.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after `deadline`.
    pub async fn wait(&self, until: Until, deadline: Duration) -> Result<WorkloadStatus, Error> {
        wait(self.events(), &self.spec.name, until, deadline).await
    }

    /// Injects the fault; returns the evidence.
    ///
    /// # Errors
    /// As [`NodeClient::ask`].
    pub async fn inject(&self, fault: &Fault) -> Result<Result<String, Refused>, Error> {
        let container = self.container()?;
        let (fault, deadline_ms) = (fault.clone(), self.node.plan.deadlines.breakage_ms);
        match self.node.ask(Call::Inject { container, fault, deadline_ms }).await? {
            Ok(Reply::Injected { evidence }) => Ok(Ok(evidence)),
            Ok(other) => Err(self.node.unexpected(&other)),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// Gives the workload the node's mount, in its own mount namespace.
    ///
    /// # Errors
    /// As [`NodeClient::ask`].
    pub async fn attach(&self, how: Attach) -> Result<Result<Attached, Refused>, Error> {
        let container = self.container()?;
        let path = self.node.plan.mountpoint_of(&self.spec);
        match self.node.ask(Call::Attach { container, path, how }).await? {
            Ok(Reply::Attached { attached }) => Ok(Ok(attached)),
            Ok(other) => Err(self.node.unexpected(&other)),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// Lines that its programs have logged.
    pub fn log(&self) -> Vec<String> {
        let current = lock(&self.current);
        let mut lines = current.log_before.clone();
        lines.append(&current.events.borrow().log);
        lines.to_vec()
    }

    /// Specification for a restart.
    pub fn spec_for(&self, restart: Restart) -> WorkloadSpec {
        let mut spec = self.spec.clone();
        if let Some(stale) = restart.stale {
            spec.fuse = Some(FuseSpec { stale, ..self.node.plan.fuse_of(&spec).clone() });
        }
        spec
    }

    /// Makes another container that has been started the current one.
    pub fn goes_on_as(&self, container: u32, events: watch::Receiver<Reported>) {
        let mut current = lock(&self.current);
        let before = std::mem::replace(&mut current.events, events);
        current.log_before.append(&before.borrow().log);
        current.container = Some(container);
    }

    /// Ends the current container, if there is one, by `end`. A node that has ended has taken its containers with
    /// it.
    ///
    /// # Errors
    /// The error of `end`: the container then stays the current one.
    pub async fn stop<E>(&self, end: impl FnOnce(u32) -> E) -> Result<(), Error>
    where
        E: Future<Output = Result<(), Error>>,
    {
        let Some(container) = lock(&self.current).container.take() else { return Ok(()) };
        match end(container).await {
            Err(error) if error.kind() != ErrorKind::Disconnected => {
                lock(&self.current).container = Some(container);
                Err(error)
            }
            _ => {
                self.node.programs.forget(container);
                Ok(())
            }
        }
    }
}
