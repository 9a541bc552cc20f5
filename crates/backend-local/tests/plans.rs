//! Plans and odd nodes through the library: what a program that embeds the backend sees.

#[path = "plans/daemons.rs"]
mod daemons;

use std::sync::Arc;

use async_trait::async_trait;
use propagation_backend_local::LocalBackend;
use propagation_core::kernel::Version;
use propagation_core::plan::{
    BridgeState, Covering, NodeSpec, Propagation, Repair, StartOrder, Volume, WorkloadSpec,
};
use propagation_core::report::{Act, Check, CheckId, Deed, Status};
use propagation_core::{
    Error, ErrorKind, Phase, Plan, Report, RunContext, Runner, VerdictOutcome, scenario,
};
use tokio_util::sync::CancellationToken;

async fn run(plan: Plan) -> Report {
    let runner = Runner::new(plan).expect("a valid plan");
    runner.run(&LocalBackend::new()).await.expect("a node")
}

fn with_node(node: NodeSpec) -> Plan {
    Plan::default().with(|plan| plan.node = node)
}

fn failed<'a>(report: &'a Report, phase: &str, check: CheckId) -> &'a Check {
    let phase = report.phase(phase).expect("the phase ran");
    let check = phase.check(&check).unwrap_or_else(|| panic!("no check {check}: {phase:#?}"));
    assert_eq!(check.status, Status::Failed, "{check:#?}");
    assert!(!report.diagnosis.is_empty(), "a check that failed has a cause: {check:#?}");
    check
}

#[tokio::test]
async fn what_is_at_the_bridge_path_is_named() {
    for (state, words) in
        [(BridgeState::File, "a regular file"), (BridgeState::Symlink, "a symbolic link to")]
    {
        let report = run(with_node(NodeSpec { bridge: state, ..NodeSpec::default() })).await;
        assert!(report.verdict.is(VerdictOutcome::Inconclusive), "{:?}", report.verdict);
        assert!(failed(&report, "host_setup", CheckId::Bridge).observed.contains(words));
    }
}

#[tokio::test]
async fn a_bridge_that_is_there_is_used_and_stays() {
    let node = NodeSpec { bridge: BridgeState::Directory, ..NodeSpec::default() };
    let report = run(with_node(node)).await;
    assert!(report.verdict.is(VerdictOutcome::FullSuccess), "{:?}", report.verdict);
    let undone = report.cleanup.undone.iter().filter(|line| line.contains("directory")).count();
    assert_eq!(undone, 0, "what was there before is not removed: {:?}", report.cleanup);
}

#[tokio::test]
async fn a_bridge_that_was_made_is_removed() {
    let report = run(Plan::default()).await;
    assert_eq!(report.cleanup.could_not, Vec::<String>::new());
    let undone = report.cleanup.undone.iter().filter(|line| line.contains("directory")).count();
    assert_eq!(undone, 2, "{:?}", report.cleanup);
}

#[tokio::test]
async fn a_read_only_filesystem_is_named() {
    let report = run(with_node(NodeSpec { read_only: true, ..NodeSpec::default() })).await;
    assert!(report.verdict.is(VerdictOutcome::Inconclusive), "{:?}", report.verdict);
    assert!(failed(&report, "host_setup", CheckId::Bridge).observed.contains("EROFS"));
}

#[tokio::test]
async fn a_node_without_room_is_an_error_with_the_fix() {
    let plan = with_node(NodeSpec { disk_bytes: 4096, ..NodeSpec::default() });
    let runner = Runner::new(plan).expect("a valid plan");
    let error = runner.run(&LocalBackend::new()).await.expect_err("no room for a root");
    assert_eq!(error.kind(), ErrorKind::Environment);
    assert!(error.to_string().contains("ENOSPC"), "{error}");
    assert!(error.fix().is_some());
}

#[tokio::test]
async fn a_covering_mount_that_does_not_propagate_is_named() {
    for covering in [Covering::Private, Covering::Slave] {
        let report = run(with_node(NodeSpec { covering, ..NodeSpec::default() })).await;
        assert!(report.verdict.is(VerdictOutcome::Inconclusive), "{:?}", report.verdict);
        failed(&report, "host_setup", CheckId::CoveringMount);
        let fix = &report.diagnosis[0].fix.text;
        assert!(fix.contains("mount --make-rshared /tmp"), "{fix}");
    }
}

#[tokio::test]
async fn the_table_of_consumers_holds() {
    // (volume, propagation, order) -> the smallest intervention after clean unmount and mount.
    let cases = [
        (Volume::Bridge, Propagation::HostToContainer, StartOrder::BeforeMount, Repair::Wait),
        (Volume::Bridge, Propagation::HostToContainer, StartOrder::AfterMount, Repair::Wait),
        (Volume::Ancestor, Propagation::HostToContainer, StartOrder::AfterMount, Repair::Wait),
        (Volume::Mountpoint, Propagation::HostToContainer, StartOrder::BeforeMount, Repair::Wait),
        (
            Volume::Mountpoint,
            Propagation::HostToContainer,
            StartOrder::AfterMount,
            Repair::RebindConsumer,
        ),
        (Volume::Bridge, Propagation::None, StartOrder::AfterMount, Repair::RebindConsumer),
        (Volume::Bridge, Propagation::Bidirectional, StartOrder::AfterMount, Repair::Wait),
    ];
    for (volume, propagation, order, smallest) in cases {
        let consumer = WorkloadSpec::consumer("consumer", order).with(|spec| {
            spec.volume = volume.clone();
            spec.propagation = propagation;
        });
        let mut plan = Plan::default();
        plan.workloads = vec![WorkloadSpec::producer(), consumer, WorkloadSpec::control()];
        plan.deadlines.recovery_ms = 300;
        let report = run(plan).await;
        assert_eq!(
            report.measurements.smallest_intervention,
            Some(smallest),
            "{volume:?} {propagation} {order:?}: {:#?}",
            report.phase("recovery")
        );
    }
}

#[tokio::test]
async fn a_private_consumer_that_is_early_never_sees_it() {
    let mut plan = Plan::default();
    plan.workloads[1].propagation = Propagation::None;
    let report = run(plan).await;
    assert!(report.verdict.is(VerdictOutcome::FundamentalFailure), "{:?}", report.verdict);
    failed(&report, "consumer", CheckId::Reads("consumer-early".into()));
    // A mount that has not come with mount(2) does not come later: nobody waits for it.
    let own = CheckId::FindsMarker("consumer-early".into());
    let own = report.phase("consumer").and_then(|phase| phase.check(&own)).expect("a check");
    assert!(own.observed.ends_with("comes there no more"), "{own:?}");
}

/// The checks that fail when `kept`, which has a keeper, is told to hand over; the node and `app` have the upper mount.
async fn failed_at_a_hand_over(lower: &str, upper: &str, before: &str) -> Vec<String> {
    let text = format!(
        "workloads:
  - {{name: kept, role: producer, fuse: {{keeper: true}}}}
  - {{name: other, role: producer}}
  - {{name: app, role: consumer}}
steps:
  - start: {lower}
  - start: {upper}
  - start: app
    expect: {{app: ok, node: ok}}
{before}  - repair: hand_over
    on: kept
    expect: {{app: ok, node: ok}}
"
    );
    let report = run(scenario::parse("hand-over", &text).expect("a scenario")).await;
    let checks = report.phases.iter().flat_map(|phase| &phase.checks);
    let failed = checks.filter(|check| check.status == Status::Failed);
    failed.map(|check| format!("{}: {}", check.id, check.observed)).collect()
}

#[tokio::test]
async fn a_hand_over_that_is_refused_changes_nothing() {
    let failed = failed_at_a_hand_over("other", "kept", "").await;
    assert!(matches!(&failed[..], [words] if words.contains("its daemon lives")), "{failed:?}");
}

#[tokio::test]
async fn a_hand_over_stays_below_what_is_mounted_on_top() {
    let kill = "  - {fault: kill, on: kept}\n";
    assert_eq!(failed_at_a_hand_over("kept", "other", kill).await, [""; 0]);
}

#[tokio::test]
async fn a_cancelled_run_is_inconclusive_and_cleaned_up() {
    let mut plan = Plan::default();
    plan.workloads[1].propagation = Propagation::None;
    let cancellation = CancellationToken::new();
    let trigger = cancellation.clone();
    let runner = Runner::new(plan)
        .expect("a valid plan")
        .with_cancellation(cancellation)
        .with_events(Arc::new(move |event| {
            // In the middle of a phase that would wait for half a minute.
            if matches!(event, propagation_core::Event::PhaseStarted { phase: "consumer" }) {
                trigger.cancel();
            }
        }));
    let report = runner.run(&LocalBackend::new()).await.expect("a report");
    assert!(report.verdict.is(VerdictOutcome::Inconclusive), "{:?}", report.verdict);
    assert!(report.verdict.summary().contains("interrupted"), "{}", report.verdict.summary());
    assert_eq!(report.cleanup.could_not, Vec::<String>::new());
}

#[tokio::test]
async fn a_dropped_run_ends_its_node() {
    let runner = Runner::new(Plan::default()).expect("a valid plan");
    let run_id = runner.run_id().clone();
    let ready = CancellationToken::new();
    let signal = ready.clone();
    let runner = runner.with_events(Arc::new(move |event| {
        if matches!(event, propagation_core::Event::NodeReady { .. }) {
            signal.cancel();
        }
    }));
    let backend = LocalBackend::new();
    tokio::select! {
        _ = runner.run(&backend) => panic!("it finished before it could be dropped"),
        () = ready.cancelled() => {}
    }
    wait_until_gone(&run_id).await;
}

#[tokio::test]
async fn readers_in_a_consumer_never_see_the_directory_under_a_re_bind() {
    const OPENS: u64 = 10_000;
    let text = "looks: asked\n\
                workloads:\n\
                - {name: producer, role: producer}\n\
                - {name: app, role: consumer, propagation: None, readers: 16}\n\
                steps:\n\
                - {start: all, expect: {app: ok}}\n\
                - {repeat: 200, steps: [{repair: rebind_consumer}]}\n\
                - {observe: true, expect: {app.load: {failed_at_most: 0}}}\n";
    let mut opens = 0;
    while opens < OPENS {
        let plan = scenario::parse("re-binds.yaml", text).expect("a scenario");
        let report = run(plan).await;
        let repair = |act: &&Act| matches!(act.deed, Deed::Repair { .. });
        let mut re_binds = report.acts.iter().filter(repair);
        if re_binds.clone().all(|act| act.proof == ["app: ".to_owned() + HOLE]) {
            // A kernel without MOVE_MOUNT_BENEATH says so each time.
            assert!(!kernel_is_at_least(6, 5));
            return;
        }
        let proven = re_binds.all(|act| act.proof == ["app: ".to_owned() + NO_HOLE]);
        assert!(proven, "{:#?}", report.acts);
        assert_eq!(report.verdict.outcome().status(), Status::Passed, "{:?}", report.verdict);
        let checks = report.phases.iter().flat_map(|phase| &phase.checks);
        let load = checks.filter(|check| check.id == CheckId::Expect("app.load".into()));
        let counted = load.map(|check| check.observed.clone()).collect::<String>();
        // "ok; 0 of 12345 operations failed, ..."
        let mut words = counted.split(' ').skip_while(|word| *word != "of");
        opens += words.nth(1).and_then(|word| word.parse::<u64>().ok()).expect("a count");
    }
}

const HOLE: &str = "for a moment the directory under the replaced mount could be seen";
const NO_HOLE: &str = "at no time could the directory under the replaced mount be seen";

fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the release");
    let mut numbers = release.split('.').map_while(|number| number.parse().ok());
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

#[tokio::test]
async fn what_holds_from_a_newer_kernel_on_is_not_expected_here() {
    let text = "workloads: [{name: fuse, role: producer}]\n\
                steps:\n\
                - {start: all, expect: {node: {outcome: ok, since: \"5.10\"}}}\n\
                - {observe: true, expect: {node: {outcome: absent, since: \"99.0\"}}}\n";
    let plan = scenario::parse("since.yaml", text).expect("a scenario");
    let report = run(plan.clone()).await;
    let counts = report.expectations();
    assert_eq!((counts.met, counts.unmet, counts.skipped), (1, 0, 1), "{:#?}", report.phases);

    let plan = plan.with(|plan| plan.since = Some(Version(99, 0)));
    let runner = Runner::new(plan).expect("a valid plan");
    let error = runner.run(&LocalBackend::new()).await.expect_err("an older kernel");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.reason().starts_with("expected from Linux 99.0 on; this is Linux "), "{error}");
}

#[test]
fn a_kernel_is_named_by_text() {
    let error = |since: &str| {
        let text = format!(
            "since: {since}\nworkloads: [{{name: fuse, role: producer}}]\nsteps: [{{start: all}}]\n"
        );
        scenario::parse("since.yaml", &text).expect_err(since).to_string()
    };
    for wrong in ["6.10", "\"6\"", "newest"] {
        assert!(error(wrong).contains("such as \"6.9\""), "{}", error(wrong));
    }
}

struct Panics;

#[async_trait]
impl Phase for Panics {
    fn id(&self) -> &str {
        "panics"
    }

    fn requires(&self) -> Vec<&str> {
        Vec::new()
    }

    async fn run(&self, context: &mut RunContext<'_>) -> Result<(), Error> {
        context.next_generation()?;
        context.start(&[WorkloadSpec::control()]).await?;
        panic!("a bug in a phase");
    }
}

#[tokio::test]
async fn a_panic_in_a_phase_ends_the_node() {
    let runner =
        Runner::new(Plan::default()).expect("a valid plan").with_phases(vec![Box::new(Panics)]);
    let run_id = runner.run_id().clone();
    let result = tokio::spawn(async move { runner.run(&LocalBackend::new()).await }).await;
    assert!(result.expect_err("it panicked").is_panic());
    wait_until_gone(&run_id).await;
}

async fn wait_until_gone(run_id: &propagation_core::RunId) {
    let gone = async {
        while propagation_backend_local::leftovers()
            .expect("/proc")
            .iter()
            .any(|leftover| leftover.run_id == *run_id)
        {
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, gone).await.expect("the node ends by itself");
}
