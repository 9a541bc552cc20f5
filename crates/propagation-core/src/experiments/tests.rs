//! Experiments on the kernel in memory.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Budget, conclude, run};
use crate::backend::{Backend, Capabilities};
use crate::diagnosis::{CauseId, Confidence};
use crate::error::Error;
use crate::fake::{FakeBackend, Sabotage};
use crate::node::Node;
use crate::plan::{Fault, NodeSpec, Plan, Repair, Role, RuntimeNamespace, Volume};
use crate::report::{Report, Trial, What};
use crate::run::Runner;
use crate::run_id::Run;
use crate::scenario;

fn mountpoint() -> Plan {
    let mut plan = Plan::default();
    for spec in plan.workloads.iter_mut().filter(|spec| spec.role == Role::Consumer) {
        spec.volume = Volume::Mountpoint;
    }
    plan
}

async fn with_experiments(plan: Plan, bench: FakeBackend) -> Report {
    let runner = Runner::new(plan).expect("a valid plan");
    let runner = runner.with_experiments(Arc::new(bench), Budget::all());
    runner.run(&FakeBackend::default()).await.expect("a node")
}

/// Why nothing was tried.
fn reasons(report: &Report) -> Vec<&str> {
    assert!(!report.experiments.is_empty());
    let reasons = report.experiments.iter().map(|one| match &one.trial {
        Trial::NotTried { reason } => reason.as_str(),
        Trial::Tried(tried) => panic!("{}: {tried:?}", one.words),
    });
    reasons.collect()
}

#[tokio::test]
async fn the_cause_is_proven_and_stands_first_and_the_answer_quotes_the_change() {
    let report = with_experiments(mountpoint(), FakeBackend::default()).await;
    let advice = report.advice.as_ref().expect("an advice");
    assert_eq!(advice.for_good[0].what, What::VolumeBridge, "{advice:#?}");
    assert_eq!(report.diagnosis[0].id, CauseId::VolumeIsMountpoint);
    let steps = &report.verdict.answer().expect("an answer").next_steps;
    assert!(steps[0].starts_with("Change `volume`"), "{steps:?}");
    assert!(
        advice
            .now
            .iter()
            .all(|change| matches!(change.what, What::Repair(_) | What::Recreate | What::Restart))
    );
    let wait = report.experiments.iter().find(|one| one.change.what == What::Repair(Repair::Wait));
    assert!(wait.is_some_and(|one| !one.heals()), "{wait:#?}");
}

#[tokio::test]
async fn a_bench_without_the_trouble_proves_nothing() {
    let report = Runner::new(Plan::default()).expect("a valid plan");
    let node = FakeBackend::default().with_user_namespaces(true);
    let report = report.with_experiments(Arc::new(FakeBackend::default()), Budget::all());
    let report = report.run(&node).await.expect("a node");
    for reason in reasons(&report) {
        assert!(reason.contains("does not show the same trouble"), "{reason}");
    }
    let advice = report.advice.as_ref().expect("an advice");
    assert_eq!((advice.tried, advice.for_good.len(), advice.now.len()), (0, 0, 0));
}

#[tokio::test]
async fn what_cannot_be_simulated_says_so() {
    let mut plan = mountpoint();
    plan.node.runtime.namespace = RuntimeNamespace::Shared;
    let backend = FakeBackend::default();
    let mut report = Runner::new(mountpoint()).expect("valid").run(&backend).await.expect("a node");
    report.plan = plan;
    let experiments = run(&report, &backend, Budget::all(), &CancellationToken::new()).await;
    report.experiments = experiments;
    for reason in reasons(&report) {
        assert!(
            reason.contains("cannot be simulated: no runtime with a mount namespace"),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn without_a_bench_the_report_says_what_was_not_tried() {
    let runner =
        Runner::new(mountpoint()).expect("a valid plan").without_bench("there is no Linux");
    let report = runner.run(&FakeBackend::default()).await.expect("a node");
    assert!(reasons(&report).iter().all(|reason| *reason == "there is no Linux"));
    let head = report.advice.expect("an advice").head;
    assert_eq!(head, "No change was tried: there is no Linux.");
}

#[tokio::test]
async fn a_cancelled_run_tries_nothing_more() {
    let backend = FakeBackend::default();
    let report = Runner::new(mountpoint()).expect("valid").run(&backend).await.expect("a node");
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let experiments = run(&report, &backend, Budget::all(), &cancelled).await;
    assert!(!experiments.is_empty());
    assert!(experiments.iter().all(|one| one.tried().is_none()));
}

#[tokio::test]
async fn a_daemon_that_hangs_is_ended_and_not_waited_for() {
    let plan = Plan::default().with(|plan| plan.fault = Fault::Stop);
    let report = with_experiments(plan, FakeBackend::default()).await;
    let advice = report.advice.as_ref().expect("an advice");
    assert_eq!(advice.for_good[0].what, What::EndHungDaemon, "{advice:#?}");
    assert!(advice.now.iter().any(|change| change.what == What::Continue), "{advice:#?}");
    assert_eq!(report.diagnosis[0].id, CauseId::DaemonStopped);
}

#[tokio::test]
async fn the_bench_is_like_the_node_of_another_backend() {
    use crate::plan::Covering;

    let node = NodeSpec { covering: Covering::Private, ..NodeSpec::default() };
    let plan = Plan::default().with(|plan| plan.node = node);
    let real = FakeBackend::default().with_name("real");
    let mut report = Runner::new(plan).expect("valid").run(&real).await.expect("a node");
    // A real node is not shaped by the plan.
    report.plan.node = NodeSpec::default();
    let shaped = super::bench::shaped(&report, "fake");
    assert_eq!(shaped.node.covering, Covering::Private);
    assert_eq!(super::bench::shaped(&report, "real").node, NodeSpec::default());
    let bench = FakeBackend::default();
    let experiments = run(&report, &bench, Budget::all(), &CancellationToken::new()).await;
    let healing: Vec<What> =
        experiments.iter().filter(|one| one.heals()).map(|one| one.change.what).collect();
    assert_eq!(healing, [What::CoveringShared]);
}

/// A machine on which consumers get the mount of a changed set-up only where it is waited for this long.
struct Slow {
    enough_ms: u64,
    /// Cancelled when one waits so long.
    interrupt: CancellationToken,
    /// For how long a mount is waited for on each node that was opened.
    waits_ms: Mutex<Vec<u64>>,
}

#[async_trait]
impl Backend for Slow {
    fn name(&self) -> &str {
        "fake"
    }

    fn capabilities(&self) -> Capabilities {
        FakeBackend::modelled()
    }

    fn missing(&self, _plan: &Plan) -> Option<String> {
        None
    }

    async fn open(&self, plan: &Plan, run: &Run) -> Result<Box<dyn Node>, Error> {
        let wait_ms = plan.deadlines.marker_ms;
        self.waits_ms.lock().expect("no test has panicked").push(wait_ms);
        let has_time = wait_ms >= self.enough_ms;
        if has_time {
            self.interrupt.cancel();
        }
        let mut consumers = plan.with_role(Role::Consumer);
        let backend = FakeBackend::default();
        match has_time || consumers.all(|spec| spec.volume == Volume::Mountpoint) {
            true => backend.open(plan, run).await,
            false => backend.with_sabotage(Sabotage::SlavesMissMounts).open(plan, run).await,
        }
    }
}

/// Somebody waits in the run itself, as with every change that has too little time.
const WAITS: &str = "
workloads:
  - {name: producer, role: producer}
  - {name: app, role: consumer, volume: mountpoint}
steps:
  - start: all
  - fault: kill
  - repair: remount
  - wait_ms: 50
    expect: {app: ok}
";

/// The report of a run that took so long, with what was tried on a machine that is slow, and how many nodes waited long
/// enough there, after all others. Whether the first of these interrupts the run.
async fn on_a_slow_machine(took_ms: f64, is_interrupted: bool) -> (Report, usize) {
    let plan = scenario::parse("test", WAITS).expect("a scenario");
    let runner = Runner::new(plan).expect("a valid plan");
    let mut report = runner.run(&FakeBackend::default()).await.expect("a node");
    report.duration_ms = took_ms;
    let cancellation = CancellationToken::new();
    let interrupt = if is_interrupted { cancellation.clone() } else { CancellationToken::new() };
    let enough_ms = took_ms.min(10_000.0) as u64;
    let slow = Slow { enough_ms, interrupt, waits_ms: Mutex::default() };
    let mut experiments = run(&report, &slow, Budget::all(), &cancellation).await;
    // What heals by going round the cause is left out.
    experiments.retain(|one| one.change.what == What::VolumeBridge);
    conclude(&mut report, experiments, 1.0);
    let waits_ms = slow.waits_ms.into_inner().expect("no test has panicked");
    let patient = waits_ms.iter().rev().take_while(|ms| **ms >= slow.enough_ms).count();
    assert!(waits_ms.iter().rev().skip(patient).all(|ms| *ms < slow.enough_ms), "{waits_ms:?}");
    (report, patient)
}

/// The change that removes the cause was tried, had too little time, and refutes nothing.
fn assert_nothing_is_refuted(report: &Report) {
    let bridge = report.experiments.iter().find(|one| one.change.what == What::VolumeBridge);
    let bridge = bridge.expect("it is a candidate");
    let tried = bridge.tried().unwrap_or_else(|| panic!("{}", bridge.outcome()));
    assert!(tried.short_of_time && !tried.heals, "{tried:?}");
    assert!(bridge.outcome().ends_with("the time was too short to tell"), "{}", bridge.outcome());
    let cause = &report.diagnosis[0];
    assert_eq!((&cause.id, cause.confidence), (&CauseId::VolumeIsMountpoint, Confidence::Likely));
    let refuted = |line: &String| line.contains("without effect");
    assert!(!cause.evidence.iter().any(refuted), "{:?}", cause.evidence);
    let head = &report.advice.as_ref().expect("an advice").head;
    assert!(head.contains("the time was too short for one: Change `volume`"), "{head}");
}

#[tokio::test]
async fn what_was_short_of_time_beside_others_is_tried_again_with_nothing_beside_it() {
    let (report, patient) = on_a_slow_machine(3_000.0, false).await;
    let advice = report.advice.as_ref().expect("an advice");
    assert_eq!(advice.for_good[0].what, What::VolumeBridge, "{advice:#?}");
    let cause = &report.diagnosis[0];
    assert_eq!((&cause.id, cause.confidence), (&CauseId::VolumeIsMountpoint, Confidence::Proven));
    // The change for all consumers, and the cause added to a set-up that works; no other change is tried again.
    assert!((1..=3).contains(&patient), "{patient}");
}

#[tokio::test]
async fn where_the_limit_of_the_run_is_over_the_first_result_stays() {
    let limit_ms = mountpoint().deadlines.run_ms;
    let (report, patient) = on_a_slow_machine(limit_ms as f64, false).await;
    assert_eq!(patient, 0);
    assert_nothing_is_refuted(&report);
}

#[tokio::test]
async fn where_the_second_trial_is_interrupted_the_first_result_stays() {
    let (report, patient) = on_a_slow_machine(3_000.0, true).await;
    assert_eq!(patient, 1);
    assert_nothing_is_refuted(&report);
}
