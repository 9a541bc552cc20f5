//! A simulated node.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::time::{ClockId, clock_gettime};
use propagation_core::client::{Clock, NodeClient, Programs, WorkloadClient, finished, lock};
use propagation_core::facts::HostFacts;
use propagation_core::journal::HostChange;
use propagation_core::marker::Marker;
use propagation_core::mountinfo::MountTable;
use propagation_core::node::Probe;
use propagation_core::observation::{Actor, Observation};
use propagation_core::plan::{OTHER_UID, Plan, WorkloadSpec};
use propagation_core::program::{Executed, Refused, StartRefused};
use propagation_core::protocol::{Call, NodeSetup, SimulatedCall};
use propagation_core::report::{Cleanup, Usage};
use propagation_core::{Capabilities, Error, Feature, Node, Run, Workload};

use crate::agent::{Agent, Hello};
use crate::within::ends_within;
use crate::workload::LocalWorkload;
use crate::{containers, runtime};

/// How long the node's processes may take to end.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// A simulated node: a handle on the agent that is it.
#[derive(Debug)]
pub struct LocalNode {
    client: Arc<NodeClient<Agent>>,
    hello: Hello,
    run: Run,
    /// What has been changed and not taken back: what was there before is never undone.
    made: Arc<Mutex<Vec<HostChange>>>,
}

impl LocalNode {
    /// Makes a node for a run.
    ///
    /// # Errors
    /// As [`propagation_core::Backend::open`].
    pub async fn open(plan: &Plan, run: &Run) -> Result<Self, Error> {
        let programs = Arc::new(Programs::new(clock(run.started), true));
        let setup = NodeSetup {
            run_id: run.id.to_string(),
            spec: runtime::with_path(&plan.node),
            bridge: plan.bridge.path.clone(),
            mountpoint: plan.bridge.mountpoint.clone(),
            files_by_handle: run.files_by_handle,
        };
        let (connection, hello) = Agent::start(&setup, run.keep, Arc::clone(&programs)).await?;
        let client = NodeClient { connection, plan: plan.clone(), programs };
        let client = Arc::new(client);
        Ok(Self { client, hello, run: run.clone(), made: Arc::default() })
    }
}

#[async_trait]
impl Node for LocalNode {
    fn name(&self) -> &str {
        "local"
    }

    fn capabilities(&self) -> Capabilities {
        match self.hello.mapped_uids > u64::from(OTHER_UID) {
            true => Capabilities::all(),
            false => Capabilities::all().without(&[Feature::OtherUids]),
        }
    }

    fn now_us(&self) -> u64 {
        self.client.programs.clock().now_us()
    }

    async fn facts(&self) -> Result<HostFacts, Error> {
        let mut facts = self.client.facts().await?;
        let bridge = self.client.plan.bridge.path.as_str().into();
        let machine = crate::mounts::own_mounts().ok();
        facts.machine_covering_mount = machine.and_then(|table| table.covering(&bridge).cloned());
        Ok(facts)
    }

    async fn apply(&self, change: &HostChange) -> Result<bool, Error> {
        let (client, made) = (Arc::clone(&self.client), Arc::clone(&self.made));
        let change = change.clone();
        // In a task of its own: a change that is made is noted, whether the caller waits or not.
        finished(tokio::spawn(async move {
            let now = client.apply(&change).await?;
            if now {
                lock(&made).push(change);
            }
            Ok(now)
        }))
        .await
    }

    async fn undo(&self, change: &HostChange) -> Result<(), Error> {
        if !lock(&self.made).contains(change) {
            return Ok(());
        }
        self.client.call(Call::Undo { change: change.clone() }).await?;
        lock(&self.made).retain(|made| made != change);
        Ok(())
    }

    async fn start(
        &self,
        specs: &[WorkloadSpec],
        marker: &Marker,
    ) -> Result<Vec<Result<Arc<dyn Workload>, StartRefused>>, Error> {
        self.client.programs.check_names(specs)?;
        let started = containers::start(&self.client, specs, marker, true).await?;
        let workloads = specs.iter().zip(started).map(|(spec, result)| {
            result.map(|(container, events)| {
                let node = Arc::clone(&self.client);
                let client = WorkloadClient::new(node, spec.clone(), container, events);
                Arc::new(LocalWorkload::new(client)) as Arc<dyn Workload>
            })
        });
        Ok(workloads.collect())
    }

    async fn observe(&self, actors: &[Actor], probe: &Probe) -> Result<Vec<Observation>, Error> {
        self.client.observe(actors, probe).await
    }

    fn take_reports(&self) -> Vec<Observation> {
        self.client.programs.take_reports()
    }

    async fn mount_tables(&self, actors: &[Actor]) -> Result<Vec<Option<MountTable>>, Error> {
        self.client.mount_tables(actors).await
    }

    async fn rebind_host(
        &self,
        path: &str,
        deduplicate: bool,
    ) -> Result<Result<(), Refused>, Error> {
        self.client.rebind_host(path, deduplicate).await
    }

    async fn unmount(&self, path: &str, lazy: bool) -> Result<Result<(), Refused>, Error> {
        self.client.unmount(path, lazy).await
    }

    async fn let_go(&self, actor: &Actor) -> Result<(), Error> {
        let (place, _) = self.client.programs.place(actor)?;
        self.client.connection.answer(SimulatedCall::LetGo { place }).await??;
        Ok(())
    }

    async fn publish(&self, path: &str) -> Result<Result<(), Refused>, Error> {
        let call = SimulatedCall::Publish { path: path.into() };
        Ok(self.client.connection.ask(call).await?.map(drop))
    }

    async fn unpublish(&self, path: &str) -> Result<Result<(), Refused>, Error> {
        let call = SimulatedCall::Unpublish { path: path.into() };
        Ok(self.client.connection.ask(call).await?.map(drop))
    }

    async fn execute(
        &self,
        actor: &Actor,
        command: &[String],
        deadline: Duration,
    ) -> Result<Result<Executed, Refused>, Error> {
        self.client.execute(actor, command, deadline).await
    }

    async fn usage(&self) -> Result<Usage, Error> {
        self.client.usage().await
    }

    async fn close(&self) -> Cleanup {
        let started = Instant::now();
        let agent = &self.client.connection;
        let mut cleanup = Cleanup::default();
        let run_id = &self.run.id;
        if self.run.keep && matches!(agent.answer(SimulatedCall::Keep).await, Ok(Ok(_))) {
            // The process belongs to `propagation clean` from here on.
            drop(agent.take_process());
            cleanup.kept.push(format!(
                "the node of run {run_id}: look with `nsenter --all --target $(pgrep --parent {})`, \
                 remove with `propagation clean --run-id {run_id}`",
                agent.pid()
            ));
            return cleanup;
        }
        agent.close_socket();
        self.client.programs.end_all();
        if let Some(process) = agent.take_process() {
            match ends_within(CLOSE_WITHIN, process).await {
                true => cleanup.undone.push(format!(
                    "ended the node of run {run_id} with its processes, mounts and namespaces"
                )),
                false => cleanup.could_not.push(format!(
                    "the node of run {run_id} (process {}) has not ended in {} s: a process in it \
                     is stuck in the kernel; try `propagation clean --run-id {run_id}`",
                    agent.pid(),
                    CLOSE_WITHIN.as_secs()
                )),
            }
        }
        cleanup.duration_ms = started.elapsed().as_secs_f64() * 1e3;
        cleanup
    }
}

/// A clock that knows the agent's, which is CLOCK_MONOTONIC of this very kernel.
fn clock(started: Instant) -> Clock {
    const READINGS: usize = 3;
    let clock = Clock::starting_at(started);
    for _ in 0..READINGS {
        let asked_ns = clock.elapsed_ns();
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        clock.take(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), asked_ns);
    }
    clock
}
