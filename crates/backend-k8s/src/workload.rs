//! A workload on a real node: a pod, or its successor after it was recreated.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use propagation_core::client::{Reported, WorkloadClient, lock};
use propagation_core::host::HostCall;
use propagation_core::marker::Marker;
use propagation_core::plan::{Fault, Role, Stale, WorkloadSpec};
use propagation_core::program::{
    Attach, Attached, LoadReport, ProgramState, Refused, StartRefused,
};
use propagation_core::protocol::Call;
use propagation_core::report::time::WaitedOn;
use propagation_core::workload::{Restart, RestartScope, Until, WorkloadStatus};
use propagation_core::{Error, ErrorKind, Workload};
use serde_json::json;

use crate::failure::{or_gone, persist};
use crate::host::Host;
use crate::shared::Shared;

/// How long a kubelet may take to end the program of a pod that is deleted: one that has missed the deletion
/// sees it when it looks at all pods again, after 60 to 90 s.
const ENDED_WITHIN: Duration = Duration::from_secs(120);

/// Time after which a kubelet that has not ended a pod is told again.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How long it may take until a process is stopped, in milliseconds.
const STOP_MS: u64 = 1_000;

/// A handle on a workload.
pub(crate) struct K8sWorkload {
    shared: Arc<Shared>,
    client: Arc<WorkloadClient<Host>>,
}

impl K8sWorkload {
    pub(crate) fn new(shared: Arc<Shared>, client: WorkloadClient<Host>) -> Self {
        Self { shared, client: Arc::new(client) }
    }

    /// Starts the daemon under its supervisor again, in the same container.
    async fn restart_daemon(
        &self,
        marker: &Marker,
        stale: Option<Stale>,
    ) -> Result<Result<(), StartRefused>, Error> {
        let container = self.client.container()?;
        let node = &self.shared.node;
        node.programs.update(container, |reported| {
            reported.begin_again();
            reported.status.program = ProgramState::Running;
        });
        let call = HostCall::StartDaemon { container, marker: marker.clone(), stale };
        node.connection.ask(call).await?;
        Ok(Ok(()))
    }
}

#[async_trait]
impl Workload for K8sWorkload {
    fn spec(&self) -> &WorkloadSpec {
        &self.client.spec
    }

    async fn status(&self) -> Result<WorkloadStatus, Error> {
        self.shared.pods.undisturbed(Ok(self.client.status())).await
    }

    async fn wait(&self, until: Until, deadline: Duration) -> Result<WorkloadStatus, Error> {
        let waited = tokio::select! {
            biased;
            waited = self.client.wait(until, deadline) => waited,
            error = self.shared.node.connection.given_up() => Err(error),
        };
        self.shared.pods.undisturbed(waited).await
    }

    async fn inject(&self, fault: &Fault) -> Result<Result<String, Refused>, Error> {
        match fault {
            Fault::Delete | Fault::ForceDelete if !self.client.spec.host => {
                // In a task of its own: a caller that does not wait leaves no pod half deleted.
                let (shared, client) = (Arc::clone(&self.shared), Arc::clone(&self.client));
                let force = *fault == Fault::ForceDelete;
                let tasks = self.shared.tasks.clone();
                tasks.run(async move { delete(&shared, &client, force).await }).await.map(Ok)
            }
            fault => self.client.inject(fault).await,
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
        // In a task of its own: a caller that does not wait leaves no workload half restarted.
        let (shared, client) = (Arc::clone(&self.shared), Arc::clone(&self.client));
        let marker = marker.clone();
        let tasks = shared.tasks.clone();
        let again = async move {
            shared.pods.undisturbed(Ok(())).await?;
            let spec = client.spec_for(restart);
            if restart.scope == RestartScope::Container
                && let Ok(container) = client.container()
                && shared.can_restart(&shared.pod_names(&spec, container))
            {
                return restart_container(&shared, &client, container, &spec, &marker).await;
            }
            stop(&shared, &client).await?;
            *lock(&shared.stopping) = None;
            start_again(&shared, &client, &spec, &marker).await
        };
        tasks.run(again).await
    }

    async fn hand_over(&self, marker: &Marker) -> Result<Result<(), Refused>, Error> {
        // In a task of its own: a caller that does not wait leaves nothing half handed over.
        let (shared, client) = (Arc::clone(&self.shared), Arc::clone(&self.client));
        let marker = marker.clone();
        self.shared.tasks.run(async move { hand_over(&shared, &client, marker).await }).await
    }

    async fn load(&self) -> Result<Option<LoadReport>, Error> {
        Ok(None)
    }

    async fn attach(&self, how: Attach) -> Result<Result<Attached, Refused>, Error> {
        self.client.attach(how).await
    }

    async fn log(&self) -> Result<Vec<String>, Error> {
        Ok(self.client.log())
    }

    async fn stop(&self) -> Result<(), Error> {
        stop(&self.shared, &self.client).await
    }
}

impl Shared {
    /// Changes pods, so that their kubelet looks at them; deleted pods do not need that.
    async fn tell_again(&self, pods: &[String]) -> Result<(), Error> {
        let api = self.pod_api();
        let change = json!({ "metadata": { "annotations": { "propagation/told": "again" } } });
        for name in pods {
            let operation = format!("annotate pod {}/{name}", self.namespace);
            persist(&operation, || async { or_gone(api.merge(name, &change).await) }).await?;
        }
        Ok(())
    }

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

/// Ends the program, and with it the container; the kubelet starts a new one in the same pod, and its program
/// waits for orders.
async fn restart_container(
    shared: &Shared,
    client: &WorkloadClient<Host>,
    container: u32,
    spec: &WorkloadSpec,
    marker: &Marker,
) -> Result<Result<(), StartRefused>, Error> {
    let (pods, events) = (shared.pod_names(spec, container), client.events());
    if shared.node.programs.runs(container) {
        // That it has ended is told before the answer.
        client.inject(&Fault::Kill).await??;
    }
    shared.node.programs.update(container, Reported::begin_again);
    let since_us = shared.node.programs.clock().now_us();
    shared.tell(std::iter::once(shared.told(container, spec, marker))).await?;
    let result = shared.wait_for_restart(container, spec, &pods, events).await;
    shared.waited(&spec.name, since_us, &client.events());
    if !matches!(result, Ok(Ok(()))) {
        // Should the kubelet succeed later, the program goes on waiting.
        shared.node.call(Call::Remove { container }).await?;
    }
    result
}

/// Lets the next program of the container, which the kubelet starts, serve the connection that is kept.
async fn hand_over(
    shared: &Shared,
    client: &WorkloadClient<Host>,
    marker: Marker,
) -> Result<Result<(), Refused>, Error> {
    let (container, spec) = (client.container()?, &client.spec);
    let pods = shared.pod_names(spec, container);
    let before = shared.node.programs.clock().now_us();
    shared.node.programs.update(container, Reported::begin_again);
    let call = HostCall::HandOver { container, marker };
    if let Err(failure) = shared.node.connection.answer(call).await? {
        return Ok(Err(failure.refused()?));
    }
    let started = shared.wait_for_restart(container, spec, &pods, client.events()).await?;
    shared.waited(&spec.name, before, &client.events());
    let operation = format!("start a successor of {}", spec.name);
    Ok(started.map_err(|refusal| Refused::new(operation, refusal.text)))
}

/// Ends the pods that are the workload now, if there are any.
async fn stop(shared: &Shared, client: &WorkloadClient<Host>) -> Result<(), Error> {
    let end = async |container| {
        // The kubelet ends them: what is killed before it knows, it starts again. A producer is
        // stopped, so that it is killed when its grace period has passed and does not unmount.
        if client.spec.role == Role::Producer && shared.node.programs.runs(container) {
            let call = Call::Inject { container, fault: Fault::Stop, deadline_ms: STOP_MS };
            // One that has just ended needs no stopping.
            let _ = shared.node.call(call).await;
        }
        shared.delete_pods(&shared.pod_names(&client.spec, container)).await?;
        shared.node.call(Call::Remove { container }).await.map(drop)
    };
    let since = Instant::now();
    let stopped = client.stop(end).await;
    shared.waited_to_stop(since);
    stopped
}

/// Deletes the pods that are the workload now, and waits until the kubelet has ended the program; what
/// shows it. The workload can be started again.
async fn delete(
    shared: &Shared,
    client: &WorkloadClient<Host>,
    force: bool,
) -> Result<String, Error> {
    let container = client.container()?;
    let pods = shared.pod_names(&client.spec, container);
    shared.delete_pods_with(&pods, force.then_some(0)).await?;
    let programs = &shared.node.programs;
    let since_us = programs.clock().now_us();
    let ended = tokio::select! {
        ended = client.wait(Until::Ended, TOLD_AGAIN_AFTER) => ended,
        error = shared.tasks.ending() => return Err(error),
    };
    let ended = match ended {
        Err(error) if error.kind() == ErrorKind::Timeout => {
            shared.tell_again(&pods).await?;
            tokio::select! {
                ended = client.wait(Until::Ended, ENDED_WITHIN) => ended.map_err(|_| late(&pods))?,
                error = shared.tasks.ending() => return Err(error),
            }
        }
        ended => ended?,
    };
    programs.waited(WaitedOn::Kubelet, &client.spec.name, since_us, programs.clock().now_us());
    Ok(format!("pod {} deleted; its program {}", pods.join(", "), ended.program))
}

/// The kubelet has not ended pods that are deleted.
fn late(pods: &[String]) -> Error {
    let operation = format!("delete pod {}", pods.join(", "));
    let reason = format!("its kubelet has not ended it in {} s", ENDED_WITHIN.as_secs());
    Error::new(ErrorKind::Timeout, operation, reason)
        .with_fix("see whether the kubelet of the node is alive: kubectl get nodes")
}

/// Makes new pods for a workload that has none.
async fn start_again(
    shared: &Shared,
    client: &WorkloadClient<Host>,
    spec: &WorkloadSpec,
    marker: &Marker,
) -> Result<Result<(), StartRefused>, Error> {
    match shared.start(std::slice::from_ref(spec), marker).await?.pop() {
        Some(Ok((container, events))) => {
            client.goes_on_as(container, events);
            Ok(Ok(()))
        }
        Some(Err(refusal)) => Ok(Err(refusal)),
        None => {
            let operation = format!("restart {:?}", spec.name);
            Err(Error::new(ErrorKind::Internal, operation, "no pod was made"))
        }
    }
}
