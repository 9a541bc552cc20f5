//! What workloads share, whatever starts them: the container that they are now and its reports.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::{Connection, Lines, NodeClient, Reported, lock, wait};
use crate::error::{Error, ErrorKind};
use crate::plan::{Fault, FuseSpec, WorkloadSpec};
use crate::program::{Attach, Attached};
use crate::protocol::{Call, Reply};
use crate::workload::{Restart, Until, WorkloadStatus};

/// A workload on an agent's node: a container, or its successor after a restart. The methods do what
/// those of [`Workload`](crate::Workload) with the same names promise.
#[derive(Debug)]
pub struct WorkloadClient<C> {
    /// The node that it is on.
    pub node: Arc<NodeClient<C>>,
    /// What it was started from.
    pub spec: WorkloadSpec,
    current: Mutex<Current>,
}

/// The container that is the workload now.
#[derive(Debug)]
struct Current {
    /// None once it has been stopped.
    container: Option<u32>,
    events: watch::Receiver<Reported>,
    /// Log lines of the containers before it.
    log_before: Lines,
}

impl<C: Connection> WorkloadClient<C> {
    /// The workload that a container is which has been started.
    pub fn new(
        node: Arc<NodeClient<C>>,
        spec: WorkloadSpec,
        container: u32,
        events: watch::Receiver<Reported>,
    ) -> Self {
        let current = Current { container: Some(container), events, log_before: Lines::default() };
        Self { node, spec, current: Mutex::new(current) }
    }

    /// The container that is the workload now.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when it has been stopped.
    pub fn container(&self) -> Result<u32, Error> {
        lock(&self.current).container.ok_or_else(|| {
            let operation = format!("use the workload {:?}", self.spec.name);
            Error::new(ErrorKind::InvalidInput, operation, "it has been stopped")
        })
    }

    /// The reports of the container that is the workload now.
    pub fn events(&self) -> watch::Receiver<Reported> {
        lock(&self.current).events.clone()
    }

    /// What is known of it now.
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

    /// Does the fault; the evidence.
    ///
    /// # Errors
    /// When it could not be done.
    pub async fn inject(&self, fault: &Fault) -> Result<String, Error> {
        let container = self.container()?;
        let (fault, deadline_ms) = (fault.clone(), self.node.plan.deadlines.breakage_ms);
        match self.node.call(Call::Inject { container, fault, deadline_ms }).await? {
            Reply::Injected { evidence } => Ok(evidence),
            other => Err(self.node.unexpected(&other)),
        }
    }

    /// Gives it the node's mount, in its mount namespace.
    ///
    /// # Errors
    /// With the refusal when the kernel refuses.
    pub async fn attach(&self, how: Attach) -> Result<Attached, Error> {
        let container = self.container()?;
        match self.node.call(Call::Attach { container, how }).await? {
            Reply::Attached { attached } => Ok(attached),
            other => Err(self.node.unexpected(&other)),
        }
    }

    /// The lines that its programs have logged.
    pub fn log(&self) -> Vec<String> {
        let current = lock(&self.current);
        let mut lines = current.log_before.clone();
        lines.append(&current.events.borrow().log);
        lines.to_vec()
    }

    /// What it is started from at a restart.
    pub fn spec_for(&self, restart: Restart) -> WorkloadSpec {
        let mut spec = self.spec.clone();
        if let Some(stale) = restart.stale {
            spec.fuse = Some(FuseSpec { stale, ..self.node.plan.fuse_of(&spec).clone() });
        }
        spec
    }

    /// Another container that has been started is the workload from now on.
    pub fn goes_on_as(&self, container: u32, events: watch::Receiver<Reported>) {
        let mut current = lock(&self.current);
        let before = std::mem::replace(&mut current.events, events);
        current.log_before.append(&before.borrow().log);
        current.container = Some(container);
    }

    /// Ends the container that is the workload now, if there is one, as `end` does it. A node that has
    /// ended has taken its containers with it.
    ///
    /// # Errors
    /// That of `end`: the container is the workload still.
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
