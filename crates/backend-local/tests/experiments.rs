//! Experiments on the real kernel: each trouble ends with one cause, one change and what it measured, and
//! doing what is said makes the next run a full success.

#[path = "experiments/judged.rs"]
mod judged;

use std::sync::Arc;
use std::time::Duration;

use propagation_backend_local::LocalBackend;
use propagation_core::diagnosis::{CauseId, Confidence};
use propagation_core::experiments::{self, Budget};
use propagation_core::plan::{Fault, Propagation, Repair, Role, Volume, WorkloadSpec};
use propagation_core::report::{ByItself, CheckId, Since, Trial, What, Working};
use propagation_core::{Plan, Report, Runner, VerdictOutcome, scenario};

/// Short enough that what never comes is not waited for long.
fn impatient() -> Plan {
    let mut plan = Plan::default();
    plan.deadlines.marker_ms = 2_000;
    plan.deadlines.recovery_ms = 500;
    plan.deadlines.probe_ms = 500;
    plan
}

fn consumers(plan: &mut Plan, change: impl Fn(&mut WorkloadSpec)) {
    plan.workloads.iter_mut().filter(|spec| spec.role == Role::Consumer).for_each(change);
}

async fn run(plan: Plan, budget: Budget) -> Report {
    let bench = Arc::new(LocalBackend::new());
    let runner = Runner::new(plan).expect("a valid plan").with_experiments(bench.clone(), budget);
    runner.run(&*bench).await.expect("a node")
}

/// The trouble ends with this cause and this change, and the change makes the next run a full success.
async fn ends_with(plan: Plan, cause: CauseId, what: What) -> Report {
    let report = run(plan.clone(), Budget::all()).await;
    let advice = report.advice.as_ref().expect("an advice");
    let tried = || {
        let lines =
            report.experiments.iter().map(|one| format!("{}: {}", one.words, one.outcome()));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(report.diagnosis[0].id, cause, "{:#?}", report.diagnosis);
    let first = advice.for_good.first().unwrap_or_else(|| panic!("nothing heals:\n{}", tried()));
    assert_eq!(first.what, what, "{}\n{}", advice.head, tried());
    let experiment = report.experiment(first).expect("what was tried");
    let after = experiment.tried().and_then(|tried| tried.after).expect("a time");
    assert_eq!(after.since, Since::Remount);
    assert_eq!(
        advice.head,
        format!(
            "{}: tried, all consumers read again {:.1} ms after the remount.",
            experiment.words, after.ms
        )
    );
    let named = &report.diagnosis[0];
    assert!(named.evidence.iter().any(|line| line.contains(&experiment.words)), "{named:#?}");
    // Adding it to a set-up that works breaks that in the same way.
    let added = experiment.tried().and_then(|tried| tried.added).expect("the reverse experiment");
    assert_eq!((added.to, added.breaks), (Working::Defaults, true));
    assert_eq!(named.confidence, Confidence::Proven);

    let changed = experiments::apply(first, &plan).expect("a change");
    let again = Runner::new(changed).expect("a valid plan").run(&LocalBackend::new()).await;
    let again = again.expect("a node");
    assert!(again.verdict.is(VerdictOutcome::FullSuccess), "{:?}", again.verdict);
    report
}

#[tokio::test]
async fn a_volume_that_is_the_mountpoint() {
    let mut plan = impatient();
    consumers(&mut plan, |spec| spec.volume = Volume::Mountpoint);
    let report = ends_with(plan, CauseId::VolumeIsMountpoint, What::VolumeBridge).await;
    let by_itself = report.measurements.by_itself;
    assert!(matches!(by_itself, Some(ByItself::Never { .. })), "{by_itself:?}");
    let now = &report.advice.as_ref().expect("an advice").now;
    assert!(
        now.iter().any(|change| change.what == What::Repair(Repair::RestartConsumer)),
        "{now:?}"
    );
    assert!(now.iter().all(|change| change.what != What::Repair(Repair::Wait)), "{now:?}");
}

#[tokio::test]
async fn a_private_volume() {
    let mut plan = impatient();
    consumers(&mut plan, |spec| spec.propagation = Propagation::None);
    let report = ends_with(plan, CauseId::ConsumerModeNone, What::HostToContainer).await;
    let check = report
        .phase("consumer")
        .and_then(|phase| phase.check(&CheckId::FindsMarker("consumer-early".to_owned())))
        .expect("a check");
    // Nobody waits for what cannot come.
    assert!(check.observed.contains("comes there no more"), "{check:?}");
}

#[tokio::test]
async fn a_daemon_that_hangs() {
    let plan = impatient().with(|plan| plan.fault = Fault::Stop);
    let report = ends_with(plan.clone(), CauseId::DaemonStopped, What::EndHungDaemon).await;
    let advice = report.advice.as_ref().expect("an advice");
    let changed = experiments::apply(&advice.for_good[0], &plan).expect("a change");
    // The daemon hangs with the probe, too, and the probe ends it.
    assert_eq!(changed.fault, Fault::Stop);
    let again = Runner::new(changed).expect("valid").run(&LocalBackend::new()).await;
    let again = again.expect("a node");
    let check = again.phase("stale_mount").and_then(|phase| phase.check(&CheckId::NoHang));
    let check = check.expect("a check");
    assert!(check.observed.contains("liveness probe has ended the daemon"), "{check:?}");
    let now = &report.advice.as_ref().expect("an advice").now;
    assert!(now.iter().any(|change| change.what == What::Continue), "{now:?}");
}

#[tokio::test]
async fn a_mount_for_root_only() {
    let mut plan = impatient();
    plan.fuse.allow_other = false;
    let report = ends_with(plan, CauseId::AllowOtherMissing, What::AllowOther).await;
    assert!(report.verdict.is(VerdictOutcome::PartialSuccess), "{:?}", report.verdict);
}

#[tokio::test]
async fn a_full_success_needs_no_experiment() {
    let report = run(impatient(), Budget::all()).await;
    assert!(report.verdict.is(VerdictOutcome::FullSuccess), "{:?}", report.verdict);
    assert_eq!((report.experiments, report.advice), (Vec::new(), None));
}

#[tokio::test]
async fn when_the_time_is_over_the_rest_says_so() {
    let mut plan = impatient();
    consumers(&mut plan, |spec| spec.volume = Volume::Mountpoint);
    let report = run(plan, Budget::of(Duration::from_millis(1))).await;
    let advice = report.advice.expect("an advice");
    assert_eq!(advice.tried, 0);
    assert!(advice.head.starts_with("No change was tried"), "{}", advice.head);
    for experiment in &report.experiments {
        assert!(matches!(experiment.trial, Trial::NotTried { .. }), "{experiment:?}");
    }
}

const ENDS_STALE: &str = "
workloads:
  - {name: producer, role: producer}
  - {name: good, role: consumer}
  - {name: bad, role: consumer, volume: mountpoint}
steps:
  - start: all
  - fault: kill
  - repair: remount
  - observe: true
    expect: {good: ok, bad: ok}
";

#[tokio::test]
async fn a_scenario_heals_whom_it_concerns_and_nobody_is_worse() {
    let plan = scenario::parse("test", ENDS_STALE).expect("a scenario");
    let report = run(plan, Budget::all()).await;
    let advice = report.advice.as_ref().expect("an advice");
    let first = advice.for_good.first().expect("it heals");
    assert_eq!((first.what, first.on.as_slice()), (What::VolumeBridge, &["bad".to_owned()][..]));
    for change in advice.for_good.iter().chain(&advice.now) {
        let tried = report.experiment(change).and_then(|one| one.tried()).expect("it was tried");
        assert_eq!(tried.worse, []);
        assert!(tried.not_healed.is_empty());
    }
}
