//! A workload on a real node: a pod, or its successor after it was recreated.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use propagation_core::marker::Marker;
use propagation_core::plan::{Fault, FuseSpec, Role, WorkloadSpec};
use propagation_core::program::{LoadReport, ProgramState, StartRefused};
use propagation_core::protocol::{Call, Reply};
use propagation_core::workload::{Restart, RestartScope, Until, WorkloadStatus};
use propagation_core::{Error, ErrorKind, Workload};
use tokio::sync::watch;

use crate::host::unexpected;
use crate::programs::Reported;
use crate::shared::{Shared, Started, finished, lock};

/// How long it may take until a process is stopped, in milliseconds.
const STOP_MS: u64 = 1_000;

/// A handle on a workload.
pub(crate) struct K8sWorkload {
    shared: Arc<Shared>,
    spec: WorkloadSpec,
    current: Arc<Mutex<Current>>,
}

/// The pods that are the workload now.
struct Current {
    /// None once it has been stopped.
    container: Option<u32>,
    pods: Vec<String>,
    events: watch::Receiver<Reported>,
    /// Log lines of the pods before.
    log_before: Vec<String>,
}

impl K8sWorkload {
    pub(crate) fn new(shared: Arc<Shared>, spec: WorkloadSpec, started: Started) -> Self {
        let Started { container, pods, events } = started;
        let current = Current { container: Some(container), pods, events, log_before: Vec::new() };
        Self { shared, spec, current: Arc::new(Mutex::new(current)) }
    }

    fn container(&self) -> Result<u32, Error> {
        lock(&self.current).container.ok_or_else(|| {
            let operation = format!("use the workload {:?}", self.spec.name);
            Error::new(ErrorKind::InvalidInput, operation, "it has been stopped")
        })
    }

    fn reported(&self) -> Reported {
        lock(&self.current).events.borrow().clone()
    }

    fn unsupported(&self, what: &str, reason: &str) -> Error {
        let operation = format!("{what} of {:?}", self.spec.name);
        Error::new(ErrorKind::Unsupported, operation, reason).with_fix("use --backend local for it")
    }

    /// How long the node may take for something that this workload's deadlines bound.
    fn deadline_ms(&self) -> u64 {
        self.shared.plan.deadlines.breakage_ms
    }
}

#[async_trait]
impl Workload for K8sWorkload {
    fn spec(&self) -> &WorkloadSpec {
        &self.spec
    }

    async fn status(&self) -> Result<WorkloadStatus, Error> {
        Ok(self.reported().status())
    }

    async fn wait(&self, until: Until, deadline: Duration) -> Result<WorkloadStatus, Error> {
        let mut events = lock(&self.current).events.clone();
        let met = events.wait_for(|reported| {
            until.is_met_by(&reported.status())
                || !matches!(reported.program, ProgramState::Running)
        });
        let met = async { met.await.map(|reported| reported.status()) };
        match tokio::time::timeout(deadline, met).await {
            Ok(Ok(status)) => Ok(status),
            // It is gone, or the node: what it said last stands.
            Ok(Err(_)) => self.status().await,
            Err(_) => {
                let status = self.status().await?;
                let seen = status.seen.map_or_else(
                    || "nothing seen".to_owned(),
                    |seen| format!("last seen {}", seen.outcome),
                );
                let reason = format!(
                    "not in {} ms; {seen}; its program is {}",
                    deadline.as_millis(),
                    status.program
                );
                let operation = format!("wait for {until:?} of {}", self.spec.name);
                Err(Error::new(ErrorKind::Timeout, operation, reason))
            }
        }
    }

    async fn inject(&self, fault: &Fault) -> Result<String, Error> {
        let container = self.container()?;
        let (fault, deadline_ms) = (fault.clone(), self.deadline_ms());
        match self.shared.host.call(Call::Inject { container, fault, deadline_ms }).await? {
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
            return Err(
                self.unsupported("restart the daemon alone", "it is process 1 of its container")
            );
        }
        // In a task of its own: a caller that does not wait leaves no workload half restarted.
        let (shared, current) = (Arc::clone(&self.shared), Arc::clone(&self.current));
        let (mut spec, marker) = (self.spec.clone(), marker.clone());
        if let Some(stale) = restart.stale {
            spec.fuse = Some(FuseSpec { stale, ..self.shared.plan.fuse_of(&spec).clone() });
        }
        finished(tokio::spawn(async move {
            let container = lock(&current).container;
            let standing = container.filter(|_| restart.scope == RestartScope::Container);
            if let Some(container) = standing
                && shared.can_restart(&lock(&current).pods.clone())
            {
                return restart_container(&shared, &current, container, &spec, &marker).await;
            }
            stop(&shared, &current, &spec).await?;
            start_again(&shared, &current, &spec, &marker).await
        }))
        .await
    }

    async fn hand_over(&self, _marker: &Marker) -> Result<(), Error> {
        Err(self.unsupported("hand its mount over", "nobody keeps its descriptor"))
    }

    async fn load(&self) -> Result<Option<LoadReport>, Error> {
        Ok(None)
    }

    async fn rebind(&self) -> Result<(), Error> {
        let container = self.container()?;
        let call = Call::RebindContainer { container, deadline_ms: self.deadline_ms() };
        self.shared.host.call(call).await.map(drop)
    }

    async fn log(&self) -> Result<Vec<String>, Error> {
        let current = lock(&self.current);
        let mut lines = current.log_before.clone();
        lines.extend(current.events.borrow().log.iter().cloned());
        Ok(lines)
    }

    async fn stop(&self) -> Result<(), Error> {
        stop(&self.shared, &self.current, &self.spec).await
    }
}

impl Shared {
    /// Whether the kubelet still looks after these pods.
    fn can_restart(&self, pods: &[String]) -> bool {
        pods.iter().all(|name| {
            self.pods.get(name).is_some_and(|pod| {
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                pod.metadata.deletion_timestamp.is_none()
                    && !matches!(phase, Some("Failed" | "Succeeded"))
            })
        })
    }
}

/// Ends the program, which ends the container; the kubelet starts a new one in the same pod, whose
/// program then waits to be told.
async fn restart_container(
    shared: &Shared,
    current: &Mutex<Current>,
    container: u32,
    spec: &WorkloadSpec,
    marker: &Marker,
) -> Result<Result<(), StartRefused>, Error> {
    let (pods, mut events) = {
        let current = lock(current);
        (current.pods.clone(), current.events.clone())
    };
    if events.borrow_and_update().program == ProgramState::Running {
        let deadline_ms = shared.plan.deadlines.breakage_ms;
        let call = Call::Inject { container, fault: Fault::Kill, deadline_ms };
        shared.host.call(call).await?;
        // That it has ended is told before the answer.
    }
    shared.programs.begin_again(container);
    shared.tell(std::iter::once(shared.told(container, spec, marker))).await?;
    let result = shared.wait_for_restart(container, spec, &pods, events).await;
    if !matches!(result, Ok(Ok(()))) {
        // Should the kubelet succeed later, the program goes on waiting.
        shared.host.call(Call::Remove { container }).await?;
    }
    result
}

/// Ends the pods that are the workload now, if there are any.
async fn stop(shared: &Shared, current: &Mutex<Current>, spec: &WorkloadSpec) -> Result<(), Error> {
    let Some(container) = lock(current).container.take() else { return Ok(()) };
    let pods = lock(current).pods.clone();
    let ended = async {
        // The kubelet ends them: what is killed before it knows, it starts again. A producer is
        // stopped, so that it is killed when its grace period has passed and does not unmount.
        if spec.role == Role::Producer && shared.programs.runs(container) {
            let call = Call::Inject { container, fault: Fault::Stop, deadline_ms: STOP_MS };
            // One that has just ended needs no stopping.
            let _ = shared.host.call(call).await;
        }
        shared.delete_pods(&pods).await?;
        shared.host.call(Call::Remove { container }).await
    };
    match ended.await {
        Err(error) if error.kind() != ErrorKind::Disconnected => {
            lock(current).container = Some(container);
            Err(error)
        }
        _ => {
            shared.programs.forget(container);
            Ok(())
        }
    }
}

/// Makes new pods for a workload that has none.
async fn start_again(
    shared: &Shared,
    current: &Mutex<Current>,
    spec: &WorkloadSpec,
    marker: &Marker,
) -> Result<Result<(), StartRefused>, Error> {
    match shared.start(std::slice::from_ref(spec), marker).await?.pop() {
        Some(Ok(started)) => {
            let mut current = lock(current);
            let before = std::mem::replace(&mut current.events, started.events);
            current.log_before.extend(before.borrow().log.iter().cloned());
            current.container = Some(started.container);
            current.pods = started.pods;
            Ok(Ok(()))
        }
        Some(Err(refusal)) => Ok(Err(refusal)),
        None => {
            let operation = format!("restart {:?}", spec.name);
            Err(Error::new(ErrorKind::Internal, operation, "no pod was made"))
        }
    }
}
