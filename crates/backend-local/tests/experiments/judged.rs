//! What counts as healed: who reads after a repair, what was expected, and that everything is done that was done
//! without the change.

use propagation_core::diagnosis::Confidence;
use propagation_core::experiments::Budget;
use propagation_core::plan::{Propagation, Repair};
use propagation_core::report::{Experiment, JudgedBy, What};
use propagation_core::{Report, scenario};

use super::{consumers, impatient, run};

async fn tried(scenario: &str) -> Report {
    run(scenario::parse("test", scenario).expect("a scenario"), Budget::all()).await
}

/// What came of every change of the set-up of this kind.
fn all(report: &Report, what: What) -> Vec<&Experiment> {
    let all: Vec<&Experiment> =
        report.experiments.iter().filter(|one| one.change.what == what).collect();
    assert!(!all.is_empty(), "{what:?} is not tried");
    all
}

fn lines(report: &Report) -> String {
    let lines = report.experiments.iter().map(|one| format!("{}: {}", one.words, one.outcome()));
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_repair_is_judged_by_the_looks_after_it() {
    let mut plan = impatient();
    consumers(&mut plan, |spec| spec.propagation = Propagation::None);
    let report = run(plan, Budget::all()).await;
    let now = &report.advice.as_ref().expect("an advice").now;
    for repair in [Repair::RebindConsumer, Repair::RestartConsumer, Repair::RecreateConsumer] {
        let heals = now.iter().any(|change| change.what == What::Repair(repair));
        assert!(heals, "{repair}: {now:?}\n{}", lines(&report));
    }
    assert!(now.iter().all(|change| change.what != What::Repair(Repair::Wait)), "{now:?}");
}

#[tokio::test]
async fn a_repair_that_reads_as_one_user_only_does_not_heal() {
    let mut plan = impatient();
    plan.fuse.allow_other = false;
    let report = run(plan, Budget::all()).await;
    let now = &report.advice.as_ref().expect("an advice").now;
    assert_eq!(now, &[], "{}", lines(&report));
}

const UNMOUNTS_ITS_OWN: &str = "
workloads:
  - {name: fuse, role: producer}
  - {name: app, role: consumer, capabilities: [SYS_ADMIN]}
  - {name: other, role: consumer}
steps:
  - start: all
  - run: [umount, -l, /mnt/dfs]
    in: app
    expect: {other: ok, app: ok}
";

#[tokio::test]
async fn a_step_of_the_incident_that_misses_heals_nobody() {
    let report = tried(UNMOUNTS_ITS_OWN).await;
    let advice = report.advice.as_ref().expect("an advice");
    assert_eq!(advice.for_good, [], "{}", lines(&report));
    // The program of the incident follows the mount.
    for one in all(&report, What::VolumeAncestor) {
        assert!(!one.heals(), "{}: {}", one.words, one.outcome());
    }
}

const UNPUBLISHED: &str = "
workloads:
  - {name: plugin, role: producer}
  - {name: pod, role: consumer, volume: {path: /var/publish/pod}}
steps:
  - start: plugin
  - publish: [pod]
  - start: pod
  - unpublish: [pod]
  - restart: pod
    expect: {pod: ok}
";

#[tokio::test]
async fn an_unpublish_that_is_refused_or_finds_nothing_heals_nobody() {
    let report = tried(UNPUBLISHED).await;
    let healing = report.experiments.iter().find(|one| one.for_good && one.heals());
    assert_eq!(healing.map(|one| one.outcome()), None);
}

const NEVER_READS: &str = "
workloads:
  - {name: plugin, role: producer}
  - {name: pod, role: consumer, volume: {path: /var/publish/pod}, propagation: None}
steps:
  - start: plugin
  - publish: [pod]
  - start: pod
  - fault: kill
  - unpublish: [pod]
  - repair: remount
  - publish: [pod]
    expect: {pod: ok}
";

#[tokio::test]
async fn who_read_without_a_change_must_read_with_it() {
    let report = tried(NEVER_READS).await;
    for one in all(&report, What::StartBeforeMount) {
        assert!(!one.heals(), "{}: {}", one.words, one.outcome());
    }
}

const READ_ONLY: &str = "
workloads:
  - {name: rclone, role: producer}
  - {name: plex, role: consumer, volume: mountpoint, bind: {read_only: true}}
  - {name: sonarr, role: consumer}
steps:
  - start: all
    expect: {plex: ok, plex.write: ok, sonarr.write: ok}
";

#[tokio::test]
async fn an_expectation_that_is_met_with_a_change_heals() {
    let report = tried(READ_ONLY).await;
    let advice = report.advice.as_ref().expect("an advice");
    let first = advice.for_good.first().unwrap_or_else(|| panic!("{}", lines(&report)));
    assert_eq!(first.what, What::WritableVolume, "{}", lines(&report));
    assert!(advice.head.ends_with("tried, everything is as expected."), "{}", advice.head);
    let whole = READ_ONLY
        .replace(", bind: {read_only: true}", "")
        .replace("workloads:", "fuse: {read_only: true}\nworkloads:");
    let report = tried(&whole).await;
    let first = &report.advice.as_ref().expect("an advice").for_good;
    assert_eq!(first.first().map(|one| one.what), Some(What::WritableMount), "{}", lines(&report));
}

const FAILS_ANYWAY: &str = "
workloads:
  - {name: fuse, role: producer}
  - {name: app, role: consumer}
steps:
  - start: all
  - run: [ls, /nowhere]
    in: app
    expect: {run: ok}
";

#[tokio::test]
async fn where_nobody_is_wrong_nobody_is_said_to_be() {
    let report = tried(FAILS_ANYWAY).await;
    let advice = report.advice.as_ref().expect("an advice");
    assert!(advice.head.starts_with("No consumer is wrong in the end"), "{}", advice.head);
    let mut tried = report.experiments.iter().filter_map(Experiment::tried);
    assert!(tried.all(|tried| !tried.heals && tried.judged_by == JudgedBy::Expectations));
}

const ONLY_ON_THE_HOST: &str = "
node: {fuse_conf: \"user_allow_other\\n\"}
workloads:
  - {name: sshfs, role: producer, uid: 1000}
  - {name: app, role: consumer}
steps:
  - start: all
    expect: {app: ok}
";

#[tokio::test]
async fn evidence_and_proof_are_of_one_experiment() {
    let report = tried(ONLY_ON_THE_HOST).await;
    let first = &report.diagnosis[0];
    let denies = first.evidence.iter().any(|line| line.contains("does not break it so"));
    assert!(first.confidence != Confidence::Proven || !denies, "{first:#?}");
}
