//! A node of a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use propagation_core::facts::HostFacts;
use propagation_core::journal::HostChange;
use propagation_core::marker::Marker;
use propagation_core::mountinfo::MountTable;
use propagation_core::node::Probe;
use propagation_core::observation::{Access, Actor, Observation, Outcome, Via};
use propagation_core::plan::WorkloadSpec;
use propagation_core::program::{Executed, StartRefused};
use propagation_core::protocol::{Call, Look, Reply};
use propagation_core::report::{Cleanup, Usage};
use propagation_core::{Capabilities, Error, ErrorKind, Node, Run, Workload};

use crate::clean::{Going, OnNode, finish};
use crate::host::unexpected;
use crate::objects::Record;
use crate::open::NodeFacts;
use crate::shared::{Shared, finished};
use crate::workload::K8sWorkload;

/// A node of a cluster, opened for a run.
pub(crate) struct K8sNode {
    name: String,
    shared: Arc<Shared>,
    facts: Option<NodeFacts>,
    run: Run,
    record: Record,
    closed: AtomicBool,
}

impl K8sNode {
    pub(crate) fn new(
        name: String,
        shared: Arc<Shared>,
        facts: Option<NodeFacts>,
        run: Run,
        record: Record,
    ) -> Self {
        Self { name, shared, facts, run, record, closed: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Node for K8sNode {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            shape_node: false,
            rebind_host: true,
            rebind_consumer: true,
            other_uids: true,
            stop_fault: true,
            replicas: true,
            real_kernel: true,
        }
    }

    fn now_us(&self) -> u64 {
        self.shared.clock.now_us()
    }

    async fn facts(&self) -> Result<HostFacts, Error> {
        let reply = self.shared.host.call(Call::Facts).await?;
        let Reply::Facts { mut facts } = reply else { return Err(unexpected(&reply)) };
        if let Some(known) = &self.facts {
            facts.runtime = Some(known.runtime.clone());
            facts.kubelet = Some(known.kubelet.clone());
        }
        let producer = self.shared.plan.producer();
        if producer.is_some_and(|producer| producer.uid != 0) {
            // fusermount3 runs in the producer's container, whose image has neither.
            facts.fuse_conf.path = "/etc/fuse.conf of the producer's container".into();
            facts.fuse_conf.exists = false;
            facts.fuse_conf.user_allow_other = false;
            facts.fusermount3 = None;
            facts.fusermount = None;
        }
        Ok(*facts)
    }

    async fn apply(&self, change: &HostChange) -> Result<bool, Error> {
        match self.shared.host.call(Call::Apply { change: change.clone() }).await? {
            Reply::Applied { now } => Ok(now),
            other => Err(unexpected(&other)),
        }
    }

    async fn undo(&self, change: &HostChange) -> Result<(), Error> {
        self.shared.host.call(Call::Undo { change: change.clone() }).await.map(drop)
    }

    async fn start(
        &self,
        specs: &[WorkloadSpec],
        marker: &Marker,
    ) -> Result<Vec<Result<Arc<dyn Workload>, StartRefused>>, Error> {
        self.shared.programs.check_names(specs)?;
        // In a task of its own: a caller that does not wait leaves no pod half started.
        let (shared, all, marker) = (Arc::clone(&self.shared), specs.to_vec(), marker.clone());
        let started =
            finished(tokio::spawn(async move { shared.start(&all, &marker).await })).await?;
        let workloads = specs.iter().zip(started).map(|(spec, result)| {
            result.map(|started| {
                let shared = Arc::clone(&self.shared);
                Arc::new(K8sWorkload::new(shared, spec.clone(), started)) as Arc<dyn Workload>
            })
        });
        Ok(workloads.collect())
    }

    async fn observe(&self, actors: &[Actor], probe: &Probe) -> Result<Vec<Observation>, Error> {
        let looks: Vec<Option<Look>> =
            actors.iter().map(|actor| self.shared.look(actor, probe)).collect::<Result<_, _>>()?;
        let call = Call::Observe {
            looks: looks.iter().flatten().cloned().collect(),
            access: probe.access,
            expect: probe.expect.clone(),
            deadline_ms: u64::try_from(probe.deadline.as_millis()).unwrap_or(u64::MAX),
        };
        let asked_at_us = self.now_us();
        let reply = self.shared.host.call(call).await?;
        let Reply::Observed { seen } = reply else { return Err(unexpected(&reply)) };
        let mut seen = seen.into_iter();
        let mut observations = Vec::with_capacity(actors.len() * probe.uids.len());
        for (actor, look) in actors.iter().zip(&looks) {
            for uid in &probe.uids {
                let mut one = match look {
                    Some(_) => {
                        let seen = seen.next().ok_or_else(|| unexpected(&Reply::Done))?;
                        let (actor, step) = (actor.clone(), probe.step.as_str());
                        self.shared.programs.observation(actor, Via::Probe, step, seen)
                    }
                    None => self.nothing_there(actor, *uid, probe),
                };
                // The clocks of two machines agree to a millisecond or so; what was asked for was
                // not seen before.
                one.at_us = one.at_us.max(asked_at_us);
                one.access = probe.access;
                if probe.access == Access::Held {
                    let reason = "only a pod's own program holds a descriptor".into();
                    one.outcome = Outcome::Skipped { reason };
                }
                observations.push(one);
            }
        }
        Ok(observations)
    }

    fn take_reports(&self) -> Vec<Observation> {
        self.shared.programs.take_reports()
    }

    async fn mount_tables(&self, actors: &[Actor]) -> Result<Vec<Option<MountTable>>, Error> {
        let place = |actor: &Actor| match actor {
            Actor::Workload { name, .. }
                if self.shared.programs.knows(name)
                    && self.shared.programs.running(name).is_none() =>
            {
                Ok(None)
            }
            actor => self.shared.place(actor).map(Some),
        };
        let places = actors.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let call = Call::Mounts { places: places.iter().flatten().cloned().collect() };
        let reply = self.shared.host.call(call).await?;
        let Reply::Mounts { mountinfo } = reply else { return Err(unexpected(&reply)) };
        let mut mountinfo = mountinfo.into_iter();
        let parse = |(actor, place): (&Actor, &Option<_>)| {
            let text = place.as_ref().and_then(|_| mountinfo.next()).flatten();
            let parsed = text.map(|text| MountTable::parse(text.as_bytes())).transpose();
            parsed.map_err(|error| {
                let operation = format!("read the mounts of {actor}");
                Error::new(ErrorKind::Internal, operation, error.to_string())
            })
        };
        actors.iter().zip(&places).map(parse).collect()
    }

    async fn rebind_host(&self, deduplicate: bool) -> Result<(), Error> {
        self.shared.host.call(Call::RebindHost { deduplicate }).await.map(drop)
    }

    async fn unmount(&self, lazy: bool) -> Result<(), Error> {
        self.shared.host.call(Call::Unmount { lazy }).await.map(drop)
    }

    async fn execute(
        &self,
        actor: &Actor,
        command: &[String],
        deadline: Duration,
    ) -> Result<Executed, Error> {
        let place = self.shared.place(actor)?;
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let call = Call::Execute { place, command: command.to_vec(), deadline_ms };
        match self.shared.host.call(call).await? {
            Reply::Executed { executed } => Ok(executed),
            other => Err(unexpected(&other)),
        }
    }

    async fn usage(&self) -> Result<Usage, Error> {
        match self.shared.host.call(Call::Usage).await? {
            Reply::Usage { blocked_processes, fuse_connections } => {
                Ok(Usage { blocked_processes, fuse_connections })
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn close(&self) -> Cleanup {
        let started = Instant::now();
        if self.closed.swap(true, Ordering::SeqCst) {
            return Cleanup::default();
        }
        let shared = &self.shared;
        if self.run.keep {
            let run = &self.run.id;
            let kept = format!(
                "the pods of run {run}: look with `kubectl --namespace {} get pods`, remove with \
                 `propagation clean --backend k8s --run-id {run}`",
                shared.namespace
            );
            return Cleanup { kept: vec![kept], ..Cleanup::default() };
        }
        let going = Going {
            client: shared.client.clone(),
            namespace: shared.namespace.clone(),
            record: self.record.clone(),
        };
        // In a task of its own: a caller that does not wait leaves nothing half removed.
        let shared = Arc::clone(shared);
        let finished = tokio::spawn(async move {
            let mut cleanup = finish(&going, OnNode::Reached(&shared.host)).await;
            shared.programs.end_all();
            shared.host.hang_up();
            cleanup.duration_ms = started.elapsed().as_secs_f64() * 1e3;
            cleanup
        });
        finished.await.unwrap_or_else(|error| Cleanup {
            could_not: vec![format!(
                "clean up: {error}; `propagation clean --backend k8s --run-id {}`",
                self.run.id
            )],
            ..Cleanup::default()
        })
    }
}

impl K8sNode {
    /// What an actor sees that has no such path.
    fn nothing_there(&self, actor: &Actor, uid: u32, probe: &Probe) -> Observation {
        let reason = "the bridge is not in this workload's volume".into();
        Observation {
            actor: actor.clone(),
            step: probe.step.clone(),
            at_us: self.now_us(),
            took_us: 0,
            uid,
            via: Via::Probe,
            access: probe.access,
            outcome: Outcome::Skipped { reason },
            generation: None,
            mount: None,
        }
    }
}
