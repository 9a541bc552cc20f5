//! Experiments on the kernel in memory.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Budget, run};
use crate::diagnosis::CauseId;
use crate::fake::FakeBackend;
use crate::plan::{Fault, NodeSpec, Plan, Repair, Role, RuntimeNamespace, Volume};
use crate::report::{Report, Trial, What};
use crate::run::Runner;

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
