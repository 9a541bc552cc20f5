//! What follows from phases and causes.

use super::*;
use crate::diagnosis::tests::stopped;
use propagation_model::mountinfo::MountTable;
use propagation_model::report::{Check, Measurements};

/// A report of five phases that passed, but for those named, and has no cause.
fn five(not_passed: &[(&str, Status)]) -> Report {
    let phases = PhaseName::ALL.iter().map(|name| {
        let id = &name.as_str();
        let found = not_passed.iter().find(|(name, _)| name == id);
        let status = found.map_or(Status::Passed, |(_, status)| *status);
        let mut phase = PhaseReport::new(*id, status);
        phase.checks = vec![Check::new("c", status != Status::Failed, "expected", "observed")];
        phase
    });
    let mut report = stopped();
    report.phases = phases.collect();
    report.diagnosis.clear();
    report.measurements = Measurements::default();
    report.cut_short = None;
    report
}

fn outcome(not_passed: &[(&str, Status)]) -> VerdictOutcome {
    answer(&five(not_passed)).outcome
}

#[test]
fn the_decision_table() {
    use Status::{Errored, Failed, Skipped};
    use VerdictOutcome::{FullSuccess, FundamentalFailure, Inconclusive, PartialSuccess};
    assert_eq!(outcome(&[]), FullSuccess);
    assert_eq!(outcome(&[("stale_mount", Failed)]), PartialSuccess);
    assert_eq!(outcome(&[("recovery", Failed)]), PartialSuccess);
    let later = [("stale_mount", Skipped), ("recovery", Skipped)];
    assert_eq!(outcome(&[&[("consumer", Failed)], &later[..]].concat()), FundamentalFailure);
    for first in ["host_setup", "producer"] {
        assert_eq!(outcome(&[(first, Failed)]), Inconclusive);
    }
    for id in PhaseName::ALL.map(PhaseName::as_str) {
        assert_eq!(outcome(&[(id, Errored)]), Inconclusive, "{id} errored");
    }
    assert_eq!(outcome(&[("recovery", Skipped)]), Inconclusive);
}

#[test]
fn a_positive_control_makes_the_consumers_phase_inconclusive() {
    let mut report = five(&[("consumer", Status::Failed)]);
    let control = CheckId::Control("control".into());
    report.phases[2].checks.push(Check::new(control, false, "blind", "it sees it"));
    let answer = answer(&report);
    assert_eq!(answer.outcome, VerdictOutcome::Inconclusive);
    assert!(answer.summary.contains("control"));
}

#[test]
fn the_first_cause_is_quoted_and_a_fix_is_one_step() {
    let mut report = five(&[("consumer", Status::Failed)]);
    report.diagnosis = crate::diagnosis::explain(&stopped());
    report.diagnosis.truncate(1);
    report.diagnosis.push(report.diagnosis[0].clone());
    let answer = answer(&report);
    assert!(answer.summary.contains(report.diagnosis[0].title.trim_end_matches('.')));
    assert_eq!(answer.next_steps.len(), 2, "{:?}", answer.next_steps);
}

#[test]
fn without_allow_other_it_works_for_root_only() {
    let mut report = five(&[]);
    report.plan.fuse.allow_other = false;
    let answer = answer(&report);
    assert_eq!(answer.outcome, VerdictOutcome::PartialSuccess);
    assert!(answer.summary.contains("root only"), "{}", answer.summary);
}

#[test]
fn a_run_that_was_cut_short_says_nothing() {
    let mut report = five(&[]);
    report.cut_short = Some("it was interrupted".to_owned());
    assert_eq!(answer(&report).outcome, VerdictOutcome::Inconclusive);
}

#[test]
fn partial_success_names_the_intervention() {
    let mut report = five(&[("recovery", Status::Failed)]);
    report.measurements.smallest_intervention = Some(Repair::RestartConsumer);
    let answer = answer(&report);
    assert!(answer.summary.contains(Repair::RestartConsumer.words()), "{}", answer.summary);
}

/// A host whose `/` is private, and a simulated node that has it shared.
fn unlike(mut report: Report) -> Report {
    let table = |line: &str| MountTable::parse(line.as_bytes()).expect("mountinfo");
    let of = |line: &str| table(line).covering(&"/tmp".into()).cloned();
    let mut facts = stopped().environment.expect("facts");
    facts.covering_mount = of("1 0 8:1 / / rw shared:1 - ext4 d rw\n");
    facts.machine_covering_mount = of("1 0 8:1 / / rw - ext4 d rw\n");
    report.environment = Some(facts);
    report
}

#[test]
fn an_answer_speaks_of_the_node_that_gave_it() {
    for failed in [&[][..], &[("recovery", Status::Failed)], &[("consumer", Status::Failed)]] {
        let report = unlike(five(failed));
        let Verdict::Answer(answer) = decide(&report, true) else { panic!("no answer") };
        let first = answer.next_steps.first().map(String::as_str).unwrap_or_default();
        assert!(first.contains("`mount --make-rshared /`"), "{answer:?}");
        let of_the_node = answer.summary.contains("on the simulated node");
        assert_eq!(of_the_node, answer.outcome != VerdictOutcome::FundamentalFailure);
    }
    let Verdict::Answer(here) = decide(&five(&[]), true) else { panic!("no answer") };
    assert!(!here.summary.contains("simulated") && here.next_steps.is_empty(), "{here:?}");
}

#[test]
fn a_cause_is_joined_to_what_it_explains_only() {
    let mut report = five(&[("stale_mount", Status::Failed)]);
    report.phases[3].checks[0].id = CheckId::NoHang;
    report.diagnosis = crate::diagnosis::explain(&stopped());
    assert_eq!(report.diagnosis[0].id, CauseId::DaemonStopped);
    report.measurements.smallest_intervention = Some(Repair::Wait);
    let summary = answer(&report).summary;
    assert!(
        summary.contains("when the producer serves again. Before that, an access hangs: "),
        "{summary}"
    );
    report.measurements.smallest_intervention = Some(Repair::RestartConsumer);
    let summary = answer(&report).summary;
    assert!(summary.contains(". The first cause: "), "{summary}");
    let mut kept = report.diagnosis[0].clone();
    (kept.id, kept.title) = (CauseId::VolumeIsMountpoint, "it pins the mount".into());
    report.diagnosis.push(kept);
    let summary = answer(&report).summary;
    assert!(summary.ends_with(": it pins the mount."), "{summary}");
}

#[test]
fn a_phase_whose_check_fails_is_an_unmet_expectation() {
    let report = five(&[("recovery", Status::Failed)]);
    let counted = expectations(&report);
    assert_eq!((counted.outcome, counted.met), (ScenarioOutcome::Otherwise, 4));
    assert_eq!(counted.unmet, 1);
}

#[test]
fn a_check_of_ones_own_is_known_by_its_id_and_not_by_how_it_begins() {
    let mut report = five(&[]);
    report.phases[0].checks = vec![Check::new("fault", false, "it is done", "it is not")];
    assert_eq!(expectations(&report).unmet, 0);
}

#[test]
fn what_a_server_serves_is_not_told_of_fuse() {
    let mut report = five(&[]);
    report.plan.fuse.transport = Some(propagation_model::comparison::Transport::SmbCifs);
    let full = answer(&report).summary;
    assert!(full.starts_with("Propagation of smb-cifs works"), "{full}");
    assert!(full.contains("on the same mount") && !full.contains("FUSE"), "{full}");
    // With its pod the client goes too, and what is fresh is another mount.
    for act in &mut report.acts {
        if let propagation_model::report::Deed::Fault { fault } = &mut act.deed {
            *fault = propagation_model::plan::Fault::Delete;
        }
    }
    let full = answer(&report).summary;
    assert!(full.contains("notice its death") && !full.contains("same mount"), "{full}");
    report.phases[3].status = Status::Failed;
    assert!(!answer(&report).summary.contains("FUSE"));
}
