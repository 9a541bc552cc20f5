//! Starting workloads, and the outcomes of their starts.

use std::sync::Arc;
use std::time::Duration;

use super::RunContext;
use crate::error::{Error, ErrorKind};
use crate::observation::Actor;
use crate::plan::{Role, WorkloadSpec};
use crate::program::{RefusalKind, StartRefused};
use crate::report::{Failure, FailureOf};
use crate::workload::{Until, Workload};

impl RunContext<'_> {
    /// Starts workloads and keeps those that started; returns the refusals.
    ///
    /// # Errors
    /// As [`Node::start`](crate::Node::start).
    pub async fn start(
        &mut self,
        specs: &[WorkloadSpec],
    ) -> Result<Vec<(String, StartRefused)>, Error> {
        let producer = specs.iter().find(|spec| spec.role == Role::Producer);
        let marker = producer.map_or_else(|| self.marker(), |spec| self.marker_for(spec))?.clone();
        let results = self.node.start(specs, &marker).await?;
        let mut refusals = Vec::new();
        for (spec, result) in specs.iter().zip(results) {
            match result {
                Ok(workload) => {
                    self.note_start(&spec.name, None);
                    self.workloads.retain(|before| before.spec().name != spec.name);
                    self.workloads.push(workload);
                }
                Err(refusal) => {
                    self.note_start(&spec.name, Some(refusal.clone()));
                    refusals.push((spec.name.clone(), refusal));
                }
            }
        }
        Ok(refusals)
    }

    /// Notes how the last start of a workload came out.
    pub(crate) fn note_start(&mut self, name: &str, refused: Option<StartRefused>) {
        self.mount_failures.remove(name);
        self.holding.remove(&Actor::workload(name));
        if let Some(refusal) = &refused {
            self.note_failure(name, FailureOf::Start, &refusal.text, Some(refusal.kind));
        }
        match refused {
            Some(refusal) => self.refusals.insert(name.to_owned(), refusal),
            None => self.refusals.remove(name),
        };
    }

    /// Notes whether a producer that was started has mounted.
    fn note_mount(&mut self, name: &str, of: FailureOf, failure: Option<String>) {
        if let Some(words) = &failure {
            self.note_failure(name, of, words, None);
        }
        match failure {
            Some(words) => self.mount_failures.insert(name.to_owned(), words),
            None => self.mount_failures.remove(name),
        };
    }

    fn note_failure(
        &mut self,
        name: &str,
        of: FailureOf,
        words: &str,
        refusal: Option<RefusalKind>,
    ) {
        self.failures.push(Failure {
            workload: name.to_owned(),
            step: self.step().to_owned(),
            of,
            words: words.to_owned(),
            refusal,
        });
    }

    /// Waits for a started producer to serve, notes the outcome, and returns why it does not serve, if so.
    ///
    /// # Errors
    /// As [`Workload::wait`], except for the timeout.
    pub(crate) async fn until_mounted(
        &mut self,
        producer: &dyn Workload,
    ) -> Result<Option<String>, Error> {
        let deadline = Duration::from_millis(self.plan.deadlines.marker_ms);
        let mut of = FailureOf::Mount;
        let failure = match producer.wait(Until::Mounted, deadline).await {
            Ok(status) if status.mounted_at_us.is_some() => None,
            Ok(status) => Some(status.failure.unwrap_or_else(|| format!("it {}", status.program))),
            Err(error) if error.kind() == ErrorKind::Timeout => {
                of = FailureOf::Serve;
                Some(error.to_string())
            }
            Err(error) => return Err(error),
        };
        self.note_mount(&producer.spec().name, of, failure.clone());
        Ok(failure)
    }

    /// Notes that a workload has been stopped: its name is free for another start.
    pub(crate) fn note_stopped(&mut self, name: &str) {
        self.note_start(name, None);
        self.workloads.retain(|workload| workload.spec().name != name);
    }

    /// Failed starts and mounts since the previous call.
    pub(crate) fn new_failures(&mut self) -> &[Failure] {
        let asked = std::mem::replace(&mut self.failures_asked, self.failures.len());
        &self.failures[asked..]
    }

    /// Why the last start of a workload was refused, if it was.
    pub fn refusal(&self, name: &str) -> Option<&StartRefused> {
        self.refusals.get(name)
    }

    /// Why a producer could not mount when it was started last, if it could not.
    pub fn mount_failure(&self, name: &str) -> Option<&str> {
        self.mount_failures.get(name).map(String::as_str)
    }

    /// Whether a workload has been started, and its last start was not refused.
    pub fn runs(&self, name: &str) -> bool {
        self.workload(name).is_some() && !self.refusals.contains_key(name)
    }

    /// The started workload called `name`.
    pub fn workload(&self, name: &str) -> Option<Arc<dyn Workload>> {
        self.workloads.iter().find(|workload| workload.spec().name == name).cloned()
    }

    /// All started workloads.
    pub fn workloads(&self) -> &[Arc<dyn Workload>] {
        &self.workloads
    }

    /// All replicas of a started workload.
    pub fn actors_of(&self, spec: &WorkloadSpec) -> Vec<Actor> {
        (0..spec.replicas)
            .map(|replica| Actor::Workload { name: spec.name.clone(), replica })
            .collect()
    }
}
