//! A backend of one's own: it wraps another one and records every call, with its time and result.
//!
//! The same three traits are what a backend for a new kind of node implements: [`Backend`] opens,
//! [`Node`] is a host, [`Workload`] is a container on it.
//!
//! `cargo run --example own_backend`
#![expect(clippy::print_stdout, reason = "examples print")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use propagation_core::facts::HostFacts;
use propagation_core::fake::FakeBackend;
use propagation_core::journal::HostChange;
use propagation_core::marker::Marker;
use propagation_core::mountinfo::MountTable;
use propagation_core::node::Probe;
use propagation_core::prelude::*;
use propagation_core::program::{Attach, Attached, Executed, LoadReport, Refused, StartRefused};
use propagation_core::report::time::Wait;
use propagation_core::report::{Cleanup, ClusterAccess, Usage};
use propagation_core::workload::{Restart, Until, WorkloadStatus};

/// What was called, how long it took, and whether it gave an error.
#[derive(Debug, Clone)]
struct Call {
    what: String,
    took: Duration,
    failed: bool,
}

/// The calls of all nodes of a backend, in the order in which they ended.
#[derive(Debug, Clone, Default)]
struct Recording(Arc<Mutex<Vec<Call>>>);

impl Recording {
    async fn of<T>(
        &self,
        what: impl Into<String>,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        let result = call.await;
        let call = Call { what: what.into(), took: started.elapsed(), failed: result.is_err() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        result
    }

    fn calls(&self) -> Vec<Call> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A backend that records what is asked of another.
struct Recorder<B> {
    inner: B,
    recording: Recording,
}

#[async_trait]
impl<B: Backend> Backend for Recorder<B> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn missing(&self, plan: &Plan) -> Option<String> {
        self.inner.missing(plan)
    }

    async fn open(&self, plan: &Plan, run: &Run) -> Result<Box<dyn Node>, Error> {
        let inner = self.recording.of("open", self.inner.open(plan, run)).await?;
        Ok(Box::new(RecordedNode { inner, recording: self.recording.clone() }))
    }
}

struct RecordedNode {
    inner: Box<dyn Node>,
    recording: Recording,
}

// A wrapper that left out a method with a default would lose it without a word.
#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Node for RecordedNode {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn now_us(&self) -> u64 {
        self.inner.now_us()
    }

    async fn facts(&self) -> Result<HostFacts, Error> {
        self.recording.of("facts", self.inner.facts()).await
    }

    async fn apply(&self, change: &HostChange) -> Result<bool, Error> {
        self.recording.of(format!("apply: {change}"), self.inner.apply(change)).await
    }

    async fn undo(&self, change: &HostChange) -> Result<(), Error> {
        self.recording.of(format!("undo: {change}"), self.inner.undo(change)).await
    }

    async fn start(
        &self,
        specs: &[WorkloadSpec],
        marker: &Marker,
    ) -> Result<Vec<Result<Arc<dyn Workload>, StartRefused>>, Error> {
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let what = format!("start {}", names.join(", "));
        let started = self.recording.of(what, self.inner.start(specs, marker)).await?;
        let recorded = started.into_iter().map(|result| {
            result.map(|inner| {
                let recording = self.recording.clone();
                Arc::new(RecordedWorkload { inner, recording }) as Arc<dyn Workload>
            })
        });
        Ok(recorded.collect())
    }

    async fn observe(&self, actors: &[Actor], probe: &Probe) -> Result<Vec<Observation>, Error> {
        let what = format!("observe {} actors in {}", actors.len(), probe.step);
        self.recording.of(what, self.inner.observe(actors, probe)).await
    }

    fn take_waits(&self) -> Vec<Wait> {
        self.inner.take_waits()
    }

    fn cluster(&self) -> Option<ClusterAccess> {
        self.inner.cluster()
    }

    fn take_reports(&self) -> Vec<Observation> {
        self.inner.take_reports()
    }

    async fn mount_tables(&self, actors: &[Actor]) -> Result<Vec<Option<MountTable>>, Error> {
        let what = format!("mount tables of {} actors", actors.len());
        self.recording.of(what, self.inner.mount_tables(actors)).await
    }

    async fn rebind_host(
        &self,
        path: &str,
        deduplicate: bool,
    ) -> Result<Result<(), Refused>, Error> {
        self.recording.of("re-bind on the host", self.inner.rebind_host(path, deduplicate)).await
    }

    async fn unmount(&self, path: &str, lazy: bool) -> Result<Result<(), Refused>, Error> {
        self.recording.of("unmount on the host", self.inner.unmount(path, lazy)).await
    }

    async fn publish(&self, path: &str) -> Result<Result<(), Refused>, Error> {
        self.recording.of(format!("publish at {path}"), self.inner.publish(path)).await
    }

    async fn unpublish(&self, path: &str) -> Result<Result<(), Refused>, Error> {
        self.recording.of(format!("unpublish at {path}"), self.inner.unpublish(path)).await
    }

    async fn let_go(&self, actor: &Actor) -> Result<(), Error> {
        self.recording.of(format!("let go in {actor}"), self.inner.let_go(actor)).await
    }

    async fn execute(
        &self,
        actor: &Actor,
        command: &[String],
        deadline: Duration,
    ) -> Result<Result<Executed, Refused>, Error> {
        let what = format!("run {command:?} in {actor}");
        self.recording.of(what, self.inner.execute(actor, command, deadline)).await
    }

    async fn usage(&self) -> Result<Usage, Error> {
        self.recording.of("usage", self.inner.usage()).await
    }

    async fn close(&self) -> Cleanup {
        let closed = async { Ok(self.inner.close().await) };
        self.recording.of("close", closed).await.unwrap_or_default()
    }
}

struct RecordedWorkload {
    inner: Arc<dyn Workload>,
    recording: Recording,
}

impl RecordedWorkload {
    fn named(&self, what: &str) -> String {
        format!("{what} {}", self.inner.spec().name)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Workload for RecordedWorkload {
    fn spec(&self) -> &WorkloadSpec {
        self.inner.spec()
    }

    async fn status(&self) -> Result<WorkloadStatus, Error> {
        self.recording.of(self.named("status of"), self.inner.status()).await
    }

    async fn wait(&self, until: Until, deadline: Duration) -> Result<WorkloadStatus, Error> {
        let what = format!("{} ({until:?})", self.named("wait for"));
        self.recording.of(what, self.inner.wait(until, deadline)).await
    }

    async fn inject(&self, fault: &Fault) -> Result<Result<String, Refused>, Error> {
        let what = format!("{} ({fault})", self.named("fault on"));
        self.recording.of(what, self.inner.inject(fault)).await
    }

    async fn restart(
        &self,
        marker: &Marker,
        restart: Restart,
    ) -> Result<Result<(), StartRefused>, Error> {
        let what = format!("{} with generation {}", self.named("restart"), marker.generation);
        self.recording.of(what, self.inner.restart(marker, restart)).await
    }

    async fn hand_over(&self, marker: &Marker) -> Result<Result<(), Refused>, Error> {
        self.recording.of(self.named("hand over"), self.inner.hand_over(marker)).await
    }

    async fn load(&self) -> Result<Option<LoadReport>, Error> {
        self.recording.of(self.named("load of"), self.inner.load()).await
    }

    async fn attach(&self, how: Attach) -> Result<Result<Attached, Refused>, Error> {
        let what = format!("{} ({how:?})", self.named("attach"));
        self.recording.of(what, self.inner.attach(how)).await
    }

    async fn log(&self) -> Result<Vec<String>, Error> {
        self.recording.of(self.named("log of"), self.inner.log()).await
    }

    async fn stop(&self) -> Result<(), Error> {
        self.recording.of(self.named("stop"), self.inner.stop()).await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let recording = Recording::default();
    let backend = Recorder { inner: FakeBackend::default(), recording: recording.clone() };
    let report = Runner::new(Plan::default())?.run(&backend).await?;
    let calls = recording.calls();
    for Call { what, took, failed } in &calls {
        println!("{:>8.1} µs  {}{what}", took.as_secs_f64() * 1e6, if *failed { "! " } else { "" });
    }

    // The wrapper changes nothing, and sees everything from the first call to the last.
    assert!(report.verdict.is(VerdictOutcome::FullSuccess));
    let named = |start: &str| calls.iter().filter(|call| call.what.starts_with(start)).count();
    assert_eq!(calls.first().map(|call| call.what.as_str()), Some("open"));
    assert_eq!(calls.last().map(|call| call.what.as_str()), Some("close"));
    assert_eq!((named("fault on producer"), named("restart producer")), (1, 1));
    assert_eq!(named("apply:"), named("undo:"), "what was made was taken back");
    assert!(calls.iter().all(|call| !call.failed), "{calls:?}");
    Ok(())
}
