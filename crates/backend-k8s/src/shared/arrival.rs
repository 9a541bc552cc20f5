//! The wait for programs that start: they arrive, their pods say that they cannot, or time is over.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use propagation_core::client::Reported;
use propagation_core::marker::MARKER_FILE;
use propagation_core::observation::{Access, Outcome};
use propagation_core::plan::{User, WorkloadSpec};
use propagation_core::program::{RefusalKind, StartRefused};
use propagation_core::protocol::{Call, Look, Place, Reply};
use propagation_core::{Error, ErrorKind};
use tokio::sync::watch;

use super::Shared;
use crate::kinds::{Kind, Pod};
use crate::standing::{Heard, Standing, back_off, standing};
use crate::told::{Told, of_pod};

/// Time after which the source of the volume of a container that does not start is looked at.
const SUSPICIOUS_AFTER: Duration = Duration::from_secs(3);

impl Shared {
    /// The same after a restart: what a pod's status said before it says nothing.
    pub(crate) async fn wait_for_restart(
        &self,
        container: u32,
        spec: &WorkloadSpec,
        pods: &[String],
        events: watch::Receiver<Reported>,
    ) -> Result<Result<(), StartRefused>, Error> {
        let heard = pods.iter().filter_map(|name| {
            let pod = self.pods.get(name)?;
            Some((name.clone(), Heard::of(&pod)))
        });
        self.wait_for_arrival(container, spec, pods, events, heard.collect()).await
    }

    /// Waits until the programs of a workload have been told what to do, or its pods say that they
    /// cannot start.
    pub(super) async fn wait_for_arrival(
        &self,
        container: u32,
        spec: &WorkloadSpec,
        pods: &[String],
        mut events: watch::Receiver<Reported>,
        mut heard: HashMap<String, Heard>,
    ) -> Result<Result<(), StartRefused>, Error> {
        let began = Instant::now();
        let limit = Duration::from_millis(self.node.plan.deadlines.start_ms);
        let replicas = usize::try_from(spec.replicas).unwrap_or(usize::MAX);
        let arrived = events.wait_for(|reported| reported.arrived.len() == replicas);
        let failing = self.pods.until(|known| {
            pods.iter().find_map(|name| {
                let news = heard.entry(name.clone()).or_default().news(known.get(name)?)?;
                Some((name.clone(), news))
            })
        });
        let suspicious = async {
            tokio::time::sleep(SUSPICIOUS_AFTER).await;
            if !self.source_hangs(spec).await {
                std::future::pending::<()>().await;
            }
        };
        let impatient = async {
            self.patience(pods, limit).await;
            let refused = pods.iter().find_map(|name| match standing(&*self.pods.get(name)?) {
                Standing::Refused(refusal) => Some(refusal),
                _ => None,
            });
            // The kubelet has tried again, or would hear the same.
            match refused {
                Some(refusal) if self.is_so_still(spec, &refusal).await => Ok(Err(refusal)),
                _ => Err(self.too_late(spec, pods, began.elapsed()).await),
            }
        };
        let operation = || format!("start {}", spec.name);
        tokio::select! {
            biased;
            arrived = arrived => match arrived {
                Ok(_) => Ok(Ok(())),
                Err(_) => Err(Error::new(ErrorKind::Disconnected, operation(), "the node was closed")),
            },
            Some((pod, bad)) = failing => match bad {
                Standing::Refused(refusal) => Ok(Err(refusal)),
                Standing::Broken { reason, fix } => {
                    let reason = format!("pod {pod}: {reason}");
                    Err(Error::new(ErrorKind::Environment, operation(), reason).with_fix(fix))
                }
                Standing::Over { reason } => {
                    let reason = reason.unwrap_or_else(|| "it has ended".into());
                    let reason = format!("pod {pod} did not run: {reason}");
                    Err(Error::new(ErrorKind::Environment, operation(), reason)
                        .with_fix("see what else happens on the node: kubectl get events"))
                }
                Standing::Pending | Standing::Running => {
                    Err(Error::new(ErrorKind::Internal, operation(), "it stands well and failed"))
                }
            },
            error = self.pods.disturbance() => Err(error),
            error = self.tasks.ending() => Err(error),
            error = self.node.connection.given_up() => Err(error),
            () = suspicious => Ok(Err(StartRefused::of(
                RefusalKind::Hangs,
                format!(
                    "the runtime does not get past the volume's source {:?}: looking at it hangs",
                    spec.paths(&self.node.plan.bridge).source
                ),
            ))),
            outcome = impatient => {
                tracing::debug!(container, after = ?began.elapsed(), "a program did not arrive");
                outcome
            }
        }
    }

    /// Whether what the runtime has refused a source for is still so, as far as a look can tell.
    async fn is_so_still(&self, spec: &WorkloadSpec, refusal: &StartRefused) -> bool {
        let seen = self.look_at_source(spec).await;
        let of_the_source = refusal.errno.is_some() && refusal.kind != RefusalKind::NotPermitted;
        !of_the_source
            || seen.is_none_or(|seen| matches!(seen, Outcome::Errno { .. } | Outcome::Hang { .. }))
    }

    /// Waits for a time; and for as long as the kubelet says that it waits between its tries, which
    /// gets longer each time.
    async fn patience(&self, pods: &[String], limit: Duration) {
        tokio::time::sleep(limit).await;
        let pauses = pods.iter().filter_map(|name| back_off(&*self.pods.get(name)?));
        if let Some(pause) = pauses.max() {
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether the runtime would hang at the source of a volume that is the mountpoint itself.
    async fn source_hangs(&self, spec: &WorkloadSpec) -> bool {
        matches!(self.look_at_source(spec).await, Some(Outcome::Hang { .. }))
    }

    /// Looks at the source of a volume that is the mountpoint itself.
    async fn look_at_source(&self, spec: &WorkloadSpec) -> Option<Outcome> {
        let source = spec.paths(&self.node.plan.bridge).source;
        if source != self.node.plan.bridge.fuse_path() {
            return None;
        }
        let look = Look {
            place: Place::Node,
            mount_point: source.clone(),
            directory: source,
            file: MARKER_FILE.into(),
            belongs_to: None,
            users: vec![User::default()],
        };
        let deadline_ms = self.node.plan.deadlines.probe_ms;
        let (looks, access) = (vec![look], Access::Read);
        let call = Call::Observe { looks, access, expect: Vec::new(), deadline_ms };
        match self.node.call(call).await {
            Ok(Reply::Observed { mut seen }) => seen.pop().map(|seen| seen.outcome),
            _ => None,
        }
    }

    async fn too_late(&self, spec: &WorkloadSpec, pods: &[String], waited: Duration) -> Error {
        let states: Vec<String> = pods
            .iter()
            .map(|name| match self.pods.get(name) {
                Some(pod) => format!("{name}: {}", in_words(&pod)),
                None => format!("{name}: the API server does not tell of it"),
            })
            .collect();
        let reason = format!("not in {} s; {}", waited.as_secs(), states.join("; "));
        let told = match pods.first() {
            Some(pod) => of_pod(&self.client, &self.namespace, pod, &self.node_name).await,
            None => Told::default(),
        };
        let operation = format!("start {}", spec.name);
        let error = Error::new(ErrorKind::Timeout, operation, told.after(&reason));
        error.with_fix(told.fix.unwrap_or_else(|| {
            "look at its events: kubectl describe pod; a pod that runs and does not report cannot \
             reach the socket of the host agent (SELinux, or another host) or was refused there (the \
             host agent's log says why)"
                .into()
        }))
    }
}

/// How a pod stands, for the message of a deadline.
fn in_words(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.clone()).unwrap_or_default();
    let container = status.and_then(|s| s.container_statuses.as_ref()?.first()?.state.clone());
    let waiting = container.and_then(|state| state.waiting);
    match waiting {
        Some(waiting) => {
            let words = [waiting.reason, waiting.message].into_iter().flatten();
            format!("{phase} ({})", words.collect::<Vec<_>>().join(": "))
        }
        None => format!(
            "{phase}, on {}",
            pod.spec.clone().and_then(|s| s.node_name).unwrap_or_else(|| pod.name())
        ),
    }
}
