//! Whole runs: the five phases, their verdicts and their reports.

use async_trait::async_trait;
use propagation_core::phase::{self, Phase};
use propagation_core::plan::{
    Covering, Fault, NodeSpec, Plan, Propagation, Repair, Role, Volume, WorkloadSpec,
};
use propagation_core::report::{CheckId, Status};
use propagation_core::{Error, Report, RunContext, Runner, VerdictOutcome};

use crate::case::cases;
use crate::failure::{Checked, Failure, ensure, ensure_eq};
use crate::lab::Lab;

cases! {
    the_default_plan_is_full_success,
    volumes_at_the_mountpoint_are_partial_success,
    private_consumers_are_fundamental_failure,
    unshared_hosts_are_inconclusive needs SHAPED_NODE,
    a_clean_end_is_full_success,
    a_hung_producer_is_partial_success needs STOP_FAULT,
    a_run_cut_short_is_inconclusive_and_cleaned_up,
    reports_agree_with_themselves,
}

/// The five phases' plan on a bridge of its own, its consumers changed.
fn plan(lab: &Lab, change: impl Fn(&mut WorkloadSpec)) -> Plan {
    let mut plan = lab.plan();
    plan.workloads.iter_mut().filter(|spec| spec.role == Role::Consumer).for_each(change);
    plan
}

async fn run(lab: &Lab, runner: Runner) -> Result<Report, Failure> {
    lab.note(runner.run_id().clone());
    let report = runner.run(&*lab.backend).await?;
    let left = &report.cleanup.could_not;
    ensure!(left.is_empty(), "the run left something behind: {left:?}");
    Ok(report)
}

/// What is not as expected, for the messages of cases.
fn failed_checks(report: &Report) -> Vec<String> {
    let of_phase = |phase: &propagation_core::report::PhaseReport| {
        let reason = phase.reason.iter().map(|reason| format!("{}: {reason}", phase.id));
        let failed = phase.checks.iter().filter(|check| check.status == Status::Failed);
        let failed = failed.map(|check| format!("{}: {}", check.id, check.observed));
        reason.chain(failed).collect::<Vec<_>>()
    };
    report.phases.iter().flat_map(of_phase).collect()
}

async fn verdict(
    lab: &Lab,
    plan: Plan,
    outcome: VerdictOutcome,
    smallest: Option<Repair>,
) -> Result<Report, Failure> {
    let report = run(lab, Runner::new(plan)?).await?;
    ensure!(
        report.verdict.is(outcome),
        "the verdict has to be {outcome} and is {}: {:?}",
        report.verdict.outcome().as_str(),
        failed_checks(&report)
    );
    let found = report.measurements.smallest_intervention;
    ensure_eq!(found, smallest, "the smallest intervention");
    Ok(report)
}

fn status(report: &Report, phase: &str, check: &CheckId) -> Option<Status> {
    report.phase(phase).and_then(|phase| phase.check(check)).map(|check| check.status)
}

async fn the_default_plan_is_full_success(lab: &Lab) -> Checked {
    let plan = plan(lab, |_| {});
    let report = verdict(lab, plan, VerdictOutcome::FullSuccess, Some(Repair::Wait)).await?;
    for phase in &report.phases {
        ensure_eq!(phase.status, Status::Passed, "the phase {}", phase.id);
    }
    let measured = &report.measurements;
    ensure!(
        measured.mount_to_visible_ms.len() == 1
            && measured.fault_to_breakage_ms.is_some()
            && measured.restart_to_recovery_ms.is_some()
            && measured.remount_to_fresh_read_ms.is_some(),
        "something was not measured: {measured:?}"
    );
    Ok(())
}

async fn volumes_at_the_mountpoint_are_partial_success(lab: &Lab) -> Checked {
    let plan = plan(lab, |spec| spec.volume = Volume::Mountpoint);
    let node = lab.try_open(&plan).await?;
    let smallest = match node.capabilities().repairs.contains(&Repair::RebindConsumer) {
        true => Repair::RebindConsumer,
        false => Repair::RestartConsumer,
    };
    node.close().await;
    let report = verdict(lab, plan, VerdictOutcome::PartialSuccess, Some(smallest)).await?;
    let started = status(&report, "stale_mount", &CheckId::NewConsumerStarts);
    ensure_eq!(started, Some(Status::Failed), "a new consumer on the dead source");
    ensure!(report.measurements.restart_to_recovery_ms.is_none(), "they recover by themselves");
    ensure!(report.measurements.intervention_to_fresh_read_ms.is_some(), "it was not measured");
    Ok(())
}

async fn private_consumers_are_fundamental_failure(lab: &Lab) -> Checked {
    let mut plan = plan(lab, |spec| spec.propagation = Propagation::None);
    plan.deadlines.marker_ms = plan.deadlines.marker_ms.min(1_000);
    let report = verdict(lab, plan, VerdictOutcome::FundamentalFailure, None).await?;
    let early = status(&report, "consumer", &CheckId::Reads("consumer-early".into()));
    let late = status(&report, "consumer", &CheckId::Reads("consumer-late".into()));
    ensure_eq!(early, Some(Status::Failed), "the consumer that started before the mount");
    ensure_eq!(late, Some(Status::Passed), "the consumer that started after it");
    Ok(())
}

async fn unshared_hosts_are_inconclusive(lab: &Lab) -> Checked {
    for covering in [Covering::Private, Covering::Slave] {
        let node = NodeSpec { covering, ..NodeSpec::default() };
        let plan = plan(lab, |_| {}).with(|plan| plan.node = node);
        let report = verdict(lab, plan, VerdictOutcome::Inconclusive, None).await?;
        let check = status(&report, "host_setup", &CheckId::CoveringMount);
        ensure_eq!(check, Some(Status::Failed), "the check of a mount that is {covering:?}");
        let skipped = report.phase("producer").map(|phase| phase.status);
        ensure_eq!(skipped, Some(Status::Skipped), "the phase producer");
    }
    Ok(())
}

async fn a_clean_end_is_full_success(lab: &Lab) -> Checked {
    let plan = plan(lab, |_| {}).with(|plan| plan.fault = Fault::Terminate);
    verdict(lab, plan, VerdictOutcome::FullSuccess, Some(Repair::Wait)).await.map(drop)
}

async fn a_hung_producer_is_partial_success(lab: &Lab) -> Checked {
    let mut plan = plan(lab, |_| {});
    plan.fault = Fault::Stop;
    plan.deadlines.probe_ms = 300;
    let report = verdict(lab, plan, VerdictOutcome::PartialSuccess, Some(Repair::Wait)).await?;
    let hang = status(&report, "stale_mount", &CheckId::NoHang);
    ensure_eq!(hang, Some(Status::Failed), "the check that nobody hangs");
    Ok(())
}

/// A phase that never ends.
struct Endless;

#[async_trait]
impl Phase for Endless {
    fn id(&self) -> &str {
        "endless"
    }

    fn requires(&self) -> Vec<&str> {
        Vec::new()
    }

    async fn run(&self, _context: &mut RunContext<'_>) -> Result<(), Error> {
        std::future::pending().await
    }
}

async fn a_run_cut_short_is_inconclusive_and_cleaned_up(lab: &Lab) -> Checked {
    let mut plan = plan(lab, |_| {});
    // Long enough to open a node, wherever it is.
    plan.deadlines.run_ms = u64::try_from(lab.soon.as_millis() / 20).unwrap_or(u64::MAX);
    let mut phases = phase::five();
    phases.truncate(3);
    phases.push(Box::new(Endless));
    let report = run(lab, Runner::new(plan)?.with_phases(phases)).await?;
    ensure_eq!(report.verdict.outcome().status(), Status::Errored, "the verdict");
    let cut = report.phases.last().map(|phase| phase.status);
    ensure_eq!(cut, Some(Status::Errored), "the phase that was cut short");
    ensure!(!report.cleanup.undone.is_empty(), "nothing was cleaned up");
    Ok(())
}

async fn reports_agree_with_themselves(lab: &Lab) -> Checked {
    let runner = Runner::new(plan(lab, |_| {}))?;
    let run_id = runner.run_id().to_string();
    let report = run(lab, runner).await?;
    ensure_eq!(report.run_id, run_id, "the run id");
    ensure_eq!(report.backend, lab.backend.name(), "the backend");
    let ids: Vec<&str> = report.phases.iter().map(|phase| phase.id.as_str()).collect();
    let five = ["host_setup", "producer", "consumer", "stale_mount", "recovery"];
    ensure_eq!(ids, five, "the phases");
    ensure!(report.timeline.is_sorted_by_key(|o| o.at_us), "the timeline is not in order");
    let end_us = (report.duration_ms * 1e3).ceil() as u64;
    for observation in &report.timeline {
        ensure!(
            observation.at_us <= end_us,
            "at {} µs, after the run ({end_us} µs): {observation}",
            observation.at_us
        );
        ensure!(five.contains(&observation.step.as_str()), "of no phase: {observation:?}");
    }
    ensure!(report.environment.is_some(), "facts are missing");
    let logged: Vec<&str> = report.logs.iter().map(|log| log.workload.as_str()).collect();
    for spec in &report.plan.workloads {
        ensure!(logged.contains(&spec.name.as_str()), "no log of {}: {logged:?}", spec.name);
    }
    let json = report.to_json().map_err(Failure::new)?;
    let read = Report::from_json(json.as_bytes())?;
    let again = read.to_json().map_err(Failure::new)?;
    let other = json.lines().zip(again.lines()).find(|(one, other)| one != other);
    ensure!(again == json, "a report that is read and written again is another: {other:?}");
    Ok(())
}
