//! A workload on a simulated node: one container, or its successor after a restart.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use propagation_core::client::{WorkloadClient, finished};
use propagation_core::marker::Marker;
use propagation_core::plan::{Fault, Stale, WorkloadSpec};
use propagation_core::program::{
    Attach, Attached, LoadReport, ProgramState, Refused, StartRefused,
};
use propagation_core::protocol::{Call, Reply, SimulatedCall};
use propagation_core::workload::{Restart, RestartScope, Until, WorkloadStatus};
use propagation_core::{Error, ErrorKind, Workload};

use crate::agent::Agent;
use crate::containers;

/// A handle on a workload.
#[derive(Debug)]
pub(crate) struct LocalWorkload {
    client: Arc<WorkloadClient<Agent>>,
}

impl LocalWorkload {
    pub(crate) fn new(client: WorkloadClient<Agent>) -> Self {
        Self { client: Arc::new(client) }
    }

    /// A producer is about to serve again in the container it has; which that is.
    fn begin_again(&self) -> Result<u32, Error> {
        let container = self.client.container()?;
        self.client.node.programs.update(container, |reported| {
            reported.begin_again();
            reported.status.program = ProgramState::Running;
        });
        Ok(container)
    }

    /// Starts the daemon under its supervisor again, in the same container.
    async fn restart_daemon(
        &self,
        marker: &Marker,
        stale: Option<Stale>,
    ) -> Result<Result<(), StartRefused>, Error> {
        let container = self.begin_again()?;
        let call = SimulatedCall::StartDaemon { container, marker: marker.clone(), stale };
        self.client.node.connection.answer(call).await??;
        Ok(Ok(()))
    }
}

#[async_trait]
impl Workload for LocalWorkload {
    fn spec(&self) -> &WorkloadSpec {
        &self.client.spec
    }

    async fn status(&self) -> Result<WorkloadStatus, Error> {
        Ok(self.client.status())
    }

    async fn wait(&self, until: Until, deadline: Duration) -> Result<WorkloadStatus, Error> {
        self.client.wait(until, deadline).await
    }

    async fn inject(&self, fault: &Fault) -> Result<Result<String, Refused>, Error> {
        self.client.inject(fault).await
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
        let (client, marker) = (Arc::clone(&self.client), marker.clone());
        finished(tokio::spawn(async move {
            stop(&client).await?;
            start_again(&client, restart, &marker).await
        }))
        .await
    }

    async fn hand_over(&self, marker: &Marker) -> Result<Result<(), Refused>, Error> {
        let container = self.begin_again()?;
        let call = SimulatedCall::HandOver { container, marker: marker.clone() };
        Ok(self.client.node.connection.ask(call).await?.map(drop))
    }

    async fn load(&self) -> Result<Option<LoadReport>, Error> {
        let container = self.client.container()?;
        match self.client.node.connection.answer(SimulatedCall::Load { container }).await?? {
            Reply::Load { load } => Ok(load),
            other => Err(self.client.node.unexpected(&other)),
        }
    }

    async fn attach(&self, how: Attach) -> Result<Result<Attached, Refused>, Error> {
        self.client.attach(how).await
    }

    async fn log(&self) -> Result<Vec<String>, Error> {
        Ok(self.client.log())
    }

    async fn stop(&self) -> Result<(), Error> {
        stop(&self.client).await
    }
}

/// Ends the container that is the workload now, if there is one.
async fn stop(client: &WorkloadClient<Agent>) -> Result<(), Error> {
    let remove = async |container| client.node.call(Call::Remove { container }).await.map(drop);
    client.stop(remove).await
}

/// Starts a container for a workload that has none.
async fn start_again(
    client: &WorkloadClient<Agent>,
    restart: Restart,
    marker: &Marker,
) -> Result<Result<(), StartRefused>, Error> {
    let specs = [client.spec_for(restart)];
    let fresh_pod = restart.scope == RestartScope::Pod;
    match containers::start(&client.node, &specs, marker, fresh_pod).await?.pop() {
        Some(Ok((container, events))) => {
            client.goes_on_as(container, events);
            Ok(Ok(()))
        }
        Some(Err(refusal)) => Ok(Err(refusal)),
        None => Err(Error::new(
            ErrorKind::Internal,
            format!("restart {:?}", client.spec.name),
            "the node answered for no container",
        )),
    }
}
