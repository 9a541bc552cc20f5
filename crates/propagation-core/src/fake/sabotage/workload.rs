//! A workload that breaks its contract.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Sabotage, Saboteur};
use crate::error::{Error, ErrorKind};
use crate::marker::Marker;
use crate::observation::Outcome;
use crate::plan::{Fault, Repair, Role, WorkloadSpec};
use crate::program::{Attach, Attached, LoadReport, Refused, StartRefused};
use crate::workload::{Restart, RestartScope, Until, Workload, WorkloadStatus};

pub(super) struct SabotagedWorkload {
    inner: Arc<dyn Workload>,
    saboteur: Arc<Saboteur>,
}

impl SabotagedWorkload {
    pub(super) fn new(inner: Arc<dyn Workload>, saboteur: Arc<Saboteur>) -> Self {
        Self { inner, saboteur }
    }

    fn does(&self, sabotage: Sabotage) -> bool {
        self.saboteur.does(sabotage)
    }

    fn bend(&self, mut status: WorkloadStatus) -> WorkloadStatus {
        if self.does(Sabotage::HeldDescriptorRecovers) && status.held.is_some() {
            status.held = Some(Outcome::Ok);
        }
        status
    }
}

fn timeout(operation: &str) -> Error {
    Error::new(ErrorKind::Timeout, operation, "sabotaged")
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Workload for SabotagedWorkload {
    fn spec(&self) -> &WorkloadSpec {
        self.inner.spec()
    }

    async fn status(&self) -> Result<WorkloadStatus, Error> {
        self.inner.status().await.map(|status| self.bend(status))
    }

    async fn wait(&self, until: Until, deadline: Duration) -> Result<WorkloadStatus, Error> {
        let now = self.inner.status().await?;
        if self.does(Sabotage::WaitGivesUpAtOnce) && !until.is_met_by(&now) {
            return Err(timeout("wait"));
        }
        let waited = self.inner.wait(until.clone(), deadline).await;
        match waited {
            Err(error)
                if error.kind() == ErrorKind::Timeout
                    && self.does(Sabotage::WaitIgnoresDeadline) =>
            {
                std::future::pending().await
            }
            Ok(status) if self.does(Sabotage::WaitMissesTheEnd) && !until.is_met_by(&status) => {
                let never = std::future::pending::<()>();
                // Ends with the deadline, as a wait does that has missed what it waits for.
                let _ = tokio::time::timeout(deadline, never).await;
                Err(timeout("wait"))
            }
            waited => waited.map(|status| self.bend(status)),
        }
    }

    async fn inject(&self, fault: &Fault) -> Result<Result<String, Refused>, Error> {
        if self.does(Sabotage::InjectDoesNothing) || self.does(Sabotage::Fault(fault.kind())) {
            return Ok(Ok("sabotaged: nothing was done".into()));
        }
        let call = self.saboteur.begin()?;
        let done = self.inner.inject(fault).await;
        call.over();
        match done {
            Ok(Err(_)) | Err(_) if self.does(Sabotage::InjectsIntoTheDead) => {
                Ok(Ok("sabotaged".into()))
            }
            done => done,
        }
    }

    async fn restart(
        &self,
        marker: &Marker,
        restart: Restart,
    ) -> Result<Result<(), StartRefused>, Error> {
        let is_producer = self.spec().role == Role::Producer;
        let broken = match (is_producer, restart.scope) {
            (true, _) => self.does(Sabotage::Repair(Repair::Remount)),
            (false, RestartScope::Pod) => self.does(Sabotage::Repair(Repair::RecreateConsumer)),
            (false, _) => {
                self.does(Sabotage::Repair(Repair::RestartConsumer))
                    || self.does(Sabotage::Repair(Repair::LivenessProbe))
            }
        };
        if broken || self.does(Sabotage::RestartDoesNothing) {
            return Ok(Ok(()));
        }
        let stale = restart.stale.filter(|_| !self.does(Sabotage::Repair(Repair::MountOnTop)));
        let restart = Restart { stale, ..restart };
        let first = self.saboteur.memory().first_marker.clone();
        let marker = match first {
            Some(first) if self.does(Sabotage::RestartKeepsOldMarker) => first,
            _ => marker.clone(),
        };
        let call = self.saboteur.begin()?;
        let done = self.inner.restart(&marker, restart).await;
        call.over();
        done
    }

    async fn hand_over(&self, marker: &Marker) -> Result<Result<(), Refused>, Error> {
        if self.does(Sabotage::Repair(Repair::HandOver)) {
            return Ok(Ok(()));
        }
        self.inner.hand_over(marker).await
    }

    async fn load(&self) -> Result<Option<LoadReport>, Error> {
        self.inner.load().await
    }

    async fn attach(&self, how: Attach) -> Result<Result<Attached, Refused>, Error> {
        if self.does(Sabotage::RebindDoesNothing) || self.does(Sabotage::Repair(how.into())) {
            return Ok(Ok(Attached::default()));
        }
        let call = self.saboteur.begin()?;
        let done = self.inner.attach(how).await;
        call.over();
        done
    }

    async fn log(&self) -> Result<Vec<String>, Error> {
        if self.does(Sabotage::LogsNothing) { Ok(Vec::new()) } else { self.inner.log().await }
    }

    async fn stop(&self) -> Result<(), Error> {
        if self.does(Sabotage::StopDoesNothing) {
            return Ok(());
        }
        let ended =
            !self.inner.status().await.is_ok_and(|status| {
                matches!(status.program, crate::program::ProgramState::Running)
            });
        if ended && self.does(Sabotage::StopNotIdempotent) {
            return Err(Error::new(ErrorKind::Environment, "stop", "it has ended already"));
        }
        self.inner.stop().await
    }
}
