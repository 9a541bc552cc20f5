//! A workload on a simulated node: one container, or its successor after a restart.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use propagation_core::marker::Marker;
use propagation_core::observation::{Observation, Outcome};
use propagation_core::plan::{Fault, FuseSpec, Stale, WorkloadSpec};
use propagation_core::program::{LoadReport, ProgramState, StartRefused};
use propagation_core::protocol::{Call, Reply};
use propagation_core::workload::{Restart, RestartScope, Until, WorkloadStatus};
use propagation_core::{Error, ErrorKind, Workload};
use tokio::sync::watch;

use crate::shared::{Shared, finished, lock, unexpected};

/// What a container's program has reported so far.
#[derive(Debug, Clone)]
pub(crate) struct Reported {
    pub(crate) program: ProgramState,
    pub(crate) mounted_at_us: Option<u64>,
    pub(crate) failure: Option<String>,
    pub(crate) seen: Option<Observation>,
    pub(crate) held: Option<Outcome>,
    pub(crate) log: Vec<String>,
}

impl Default for Reported {
    fn default() -> Self {
        Self {
            program: ProgramState::Running,
            mounted_at_us: None,
            failure: None,
            seen: None,
            held: None,
            log: Vec::new(),
        }
    }
}

impl Reported {
    fn status(&self) -> WorkloadStatus {
        WorkloadStatus {
            program: self.program.clone(),
            mounted_at_us: self.mounted_at_us,
            failure: self.failure.clone(),
            seen: self.seen.clone(),
            held: self.held.clone(),
        }
    }
}

/// A handle on a workload.
#[derive(Debug)]
pub(crate) struct LocalWorkload {
    shared: Arc<Shared>,
    spec: WorkloadSpec,
    current: Arc<Mutex<Current>>,
}

/// The container that is the workload now.
#[derive(Debug)]
struct Current {
    /// None once it has been stopped.
    id: Option<u32>,
    events: watch::Receiver<Reported>,
    /// Log lines of the containers before it.
    log_before: Vec<String>,
}

impl LocalWorkload {
    pub(crate) fn new(
        shared: Arc<Shared>,
        spec: WorkloadSpec,
        id: u32,
        events: watch::Receiver<Reported>,
    ) -> Self {
        let current = Current { id: Some(id), events, log_before: Vec::new() };
        Self { shared, spec, current: Arc::new(Mutex::new(current)) }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        lock(&self.current)
    }

    fn container(&self) -> Result<u32, Error> {
        self.current().id.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                format!("use the workload {:?}", self.spec.name),
                "it has been stopped",
            )
        })
    }

    /// Starts the daemon under its supervisor again, in the same container.
    async fn restart_daemon(
        &self,
        marker: &Marker,
        stale: Option<Stale>,
    ) -> Result<Result<(), StartRefused>, Error> {
        let container = self.container()?;
        self.shared.begins_again(container);
        let call = Call::StartDaemon { container, marker: marker.clone(), stale };
        self.shared.agent.call(call).await?;
        Ok(Ok(()))
    }

    /// How long the agent may take for something that this workload's deadlines bound.
    fn deadline_ms(&self) -> u64 {
        self.shared.plan.deadlines.breakage_ms
    }
}

#[async_trait]
impl Workload for LocalWorkload {
    fn spec(&self) -> &WorkloadSpec {
        &self.spec
    }

    async fn status(&self) -> Result<WorkloadStatus, Error> {
        Ok(self.current().events.borrow().status())
    }

    async fn wait(&self, until: Until, deadline: Duration) -> Result<WorkloadStatus, Error> {
        let mut events = self.current().events.clone();
        let met = events.wait_for(|reported| {
            // Under a supervisor a program goes on that could not mount.
            let failed = until == Until::Mounted && reported.failure.is_some();
            failed
                || until.is_met_by(&reported.status())
                || !matches!(reported.program, ProgramState::Running)
        });
        let met = async { met.await.map(|reported| reported.status()) };
        match tokio::time::timeout(deadline, met).await {
            Ok(Ok(status)) => Ok(status),
            // The container is gone, or the node: what it said last stands.
            Ok(Err(_)) => self.status().await,
            Err(_) => {
                let status = self.status().await?;
                let seen = status.seen.map_or_else(
                    || "nothing seen".to_owned(),
                    |seen| format!("last seen {}", seen.outcome),
                );
                Err(Error::new(
                    ErrorKind::Timeout,
                    format!("wait for {} of {}", words(&until), self.spec.name),
                    format!(
                        "not in {} ms; {seen}; its program is {}",
                        deadline.as_millis(),
                        status.program
                    ),
                ))
            }
        }
    }

    async fn inject(&self, fault: &Fault) -> Result<String, Error> {
        let container = self.container()?;
        let fault = fault.clone();
        let call = Call::Inject { container, fault, deadline_ms: self.deadline_ms() };
        match self.shared.agent.call(call).await? {
            Reply::Injected { evidence } => Ok(evidence),
            other => Err(unexpected(&other)),
        }
    }

    async fn restart(
        &self,
        marker: &Marker,
        restart: Restart,
    ) -> Result<Result<(), StartRefused>, Error> {
        if restart.scope == RestartScope::Daemon {
            return self.restart_daemon(marker, restart.stale).await;
        }
        // In a task of its own: a workload that is being restarted is not left half way.
        let (shared, current) = (Arc::clone(&self.shared), Arc::clone(&self.current));
        let (mut spec, marker) = (self.spec.clone(), marker.clone());
        if let Some(stale) = restart.stale {
            spec.fuse = Some(FuseSpec { stale, ..self.shared.plan.fuse_of(&spec).clone() });
        }
        let fresh_pod = restart.scope == RestartScope::Pod;
        finished(tokio::spawn(async move {
            stop(&shared, &current).await?;
            start_again(&shared, &current, spec, &marker, fresh_pod).await
        }))
        .await
    }

    async fn hand_over(&self, marker: &Marker) -> Result<(), Error> {
        let container = self.container()?;
        self.shared.begins_again(container);
        let call = Call::HandOver { container, marker: marker.clone() };
        self.shared.agent.call(call).await.map(drop)
    }

    async fn load(&self) -> Result<Option<LoadReport>, Error> {
        let container = self.container()?;
        match self.shared.agent.call(Call::Load { container }).await? {
            Reply::Load { load } => Ok(load),
            other => Err(unexpected(&other)),
        }
    }

    async fn rebind(&self) -> Result<(), Error> {
        let container = self.container()?;
        let call = Call::RebindContainer { container, deadline_ms: self.deadline_ms() };
        self.shared.agent.call(call).await.map(drop)
    }

    async fn log(&self) -> Result<Vec<String>, Error> {
        let current = self.current();
        let mut lines = current.log_before.clone();
        lines.extend(current.events.borrow().log.iter().cloned());
        Ok(lines)
    }

    async fn stop(&self) -> Result<(), Error> {
        stop(&self.shared, &self.current).await
    }
}

/// Ends the container that is the workload now, if there is one.
async fn stop(shared: &Shared, current: &Mutex<Current>) -> Result<(), Error> {
    let Some(id) = lock(current).id.take() else { return Ok(()) };
    match shared.agent.call(Call::Remove { container: id }).await {
        // A node that has ended has taken the container with it.
        Err(error) if error.kind() != ErrorKind::Disconnected => {
            lock(current).id = Some(id);
            Err(error)
        }
        _ => {
            shared.forget(id);
            Ok(())
        }
    }
}

/// Starts a container for a workload that has none.
async fn start_again(
    shared: &Shared,
    current: &Mutex<Current>,
    spec: WorkloadSpec,
    marker: &Marker,
    fresh_pod: bool,
) -> Result<Result<(), StartRefused>, Error> {
    let name = spec.name.clone();
    match shared.start_containers(&[spec], marker, fresh_pod).await?.pop() {
        Some(Ok((id, events))) => {
            let mut current = lock(current);
            let before = std::mem::replace(&mut current.events, events);
            current.log_before.extend(before.borrow().log.iter().cloned());
            current.id = Some(id);
            Ok(Ok(()))
        }
        Some(Err(refusal)) => Ok(Err(refusal)),
        None => Err(Error::new(
            ErrorKind::Internal,
            format!("restart {name:?}"),
            "the node answered for no container",
        )),
    }
}

fn words(until: &Until) -> String {
    match until {
        Until::Mounted => "the mount".into(),
        Until::SeesGeneration(generation) => format!("a look at generation {generation}"),
        Until::SeesBreakage => "a look that fails".into(),
        Until::Ended => "the end".into(),
    }
}
