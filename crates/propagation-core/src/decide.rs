//! The decision: the verdict that follows from the phases and causes of a report.

use propagation_model::plan::{PhaseName, Repair};
use propagation_model::report::{CheckId, Measurements, PhaseReport, Report, Status};
use propagation_model::verdict::{Answer, Expectations, ScenarioOutcome, Verdict, VerdictOutcome};

/// Whether a list of phases has all five that an [`Answer`] needs. Custom phases may run beside them.
pub(crate) fn asks_for_an_answer<'a>(ids: impl Iterator<Item = &'a str> + Clone) -> bool {
    PhaseName::ALL.iter().all(|five| ids.clone().any(|id| id == five.as_str()))
}

/// The verdict of a report whose phases and causes are complete.
pub(crate) fn decide(report: &Report, answers: bool) -> Verdict {
    match answers {
        true => Verdict::Answer(answer(report)),
        false => Verdict::Expectations(expectations(report)),
    }
}

fn expectations(report: &Report) -> Expectations {
    let mut counted = Expectations::of(&report.phases);
    let words = if let Some(reason) = &report.cut_short {
        format!("The run was cut short: {reason}.")
    } else if let Some(phase) = errored(&report.phases) {
        could_not(phase)
    } else {
        return counted;
    };
    counted.summary = format!("{words} {}", counted.summary);
    counted.outcome = ScenarioOutcome::Inconclusive;
    counted
}

/// Decides in the order of the decision table: first what makes the run untrustworthy, then the key question, then
/// recovery.
fn answer(report: &Report) -> Answer {
    let phases = &report.phases;
    if let Some(reason) = &report.cut_short {
        let again = vec!["Run it again and let it finish.".into()];
        return inconclusive(format!("The run was cut short: {reason}."), again);
    }
    if let Some(phase) = errored(phases) {
        let again = vec!["Remove the cause named above and run it again.".into()];
        return inconclusive(could_not(phase), again);
    }
    let failed = |name: PhaseName| {
        let mut named = phases.iter().filter(|phase| phase.id == name.as_str());
        named.find(|phase| phase.status == Status::Failed)
    };
    if let Some(phase) = failed(PhaseName::HostSetup) {
        let why = why(report, phase);
        let summary = format!("The host is not set up to share FUSE mounts: {why}.");
        return inconclusive(summary, fixes_and_again(report));
    }
    if let Some(phase) = failed(PhaseName::Producer) {
        let why = why(report, phase);
        let summary = format!(
            "The producer's mount did not reach the node: {why}. This is configuration, not a limit \
             of FUSE."
        );
        return inconclusive(summary, fixes_and_again(report));
    }
    if let Some(phase) = failed(PhaseName::Consumer) {
        let positive = |id: &CheckId| matches!(id, CheckId::Control(_));
        if phase.checks.iter().any(|c| positive(&c.id) && c.status == Status::Failed) {
            let summary =
                "A control that must not see the mount sees it, so seeing it proves nothing.";
            return inconclusive(summary.into(), fixes_and_again(report));
        }
        let why = why(report, phase);
        let summary =
            format!("The producer's mount reaches the node and not its consumers: {why}.");
        let outcome = VerdictOutcome::FundamentalFailure;
        return Answer::new(outcome, summary, fixes_and_again(report));
    }
    let trouble = [PhaseName::StaleMount, PhaseName::Recovery].into_iter().find_map(failed);
    if let Some(phase) = trouble {
        return partial(report, phase);
    }
    if let Some(missing) = PhaseName::ALL.into_iter().find(|name| !passed(phases, *name)) {
        let missing = missing.as_str();
        let summary = format!("The phase {missing} did not run, so nothing follows for recovery.");
        return inconclusive(summary, vec!["Run all five phases.".into()]);
    }
    if root_only(report) {
        return for_root_only(report);
    }
    full_success(&report.measurements)
}

/// Whether the mount admits only the user who made it: it lacks `allow_other`, and no other user was seen to read.
fn root_only(report: &Report) -> bool {
    let plan = &report.plan;
    let allows = plan.producer().is_none_or(|producer| plan.fuse_of(producer).allow_other);
    let others = report.phases.iter().flat_map(|phase| &phase.checks).filter(|check| {
        matches!(check.id, CheckId::AllowOther | CheckId::ReadsAsOther(_))
            && check.status != Status::Skipped
    });
    !allows && others.into_iter().all(|check| check.status == Status::Passed)
}

fn for_root_only(report: &Report) -> Answer {
    let summary = "FUSE propagation works for root only: the mount has no allow_other, so every \
                   other user gets EACCES. Existing consumers come back by themselves.";
    Answer::new(VerdictOutcome::PartialSuccess, summary, fixes(report))
}

fn errored(phases: &[PhaseReport]) -> Option<&PhaseReport> {
    phases.iter().find(|phase| phase.status == Status::Errored)
}

fn could_not(phase: &PhaseReport) -> String {
    let reason = phase.reason.as_deref().unwrap_or("the tool failed");
    format!("The phase {} could not be carried out: {}.", phase.id, reason.trim_end_matches('.'))
}

fn passed(phases: &[PhaseReport], name: PhaseName) -> bool {
    phases.iter().any(|phase| phase.id == name.as_str() && phase.status == Status::Passed)
}

/// The first cause; without a cause, the observation of the first failed check.
fn why(report: &Report, phase: &PhaseReport) -> String {
    let check = phase.checks.iter().find(|check| check.status == Status::Failed);
    let observed = || check.map_or("no check says why", |check| &check.observed);
    let cause = report.diagnosis.first().map(|cause| cause.title.as_str());
    cause.unwrap_or_else(observed).trim_end_matches('.').to_owned()
}

/// Words with the first letter in upper case.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Changes that experiments showed to heal, for good and for now; without experiments the fixes of the causes, each
/// once.
fn fixes(report: &Report) -> Vec<String> {
    if let Some(advice) = &report.advice {
        let first = [&advice.for_good, &advice.now].into_iter().filter_map(|list| list.first());
        let words = first.filter_map(|change| report.experiment(change));
        let words: Vec<String> = words.map(|one| format!("{}.", one.words)).collect();
        if !words.is_empty() {
            return words;
        }
    }
    let mut fixes: Vec<String> = Vec::new();
    for cause in &report.diagnosis {
        let words = sentence(&cause.fix.words);
        if !fixes.contains(&words) {
            fixes.push(words);
        }
    }
    fixes
}

fn fixes_and_again(report: &Report) -> Vec<String> {
    let mut steps = fixes(report);
    steps.push("Run it again.".into());
    steps
}

fn inconclusive(summary: String, next_steps: Vec<String>) -> Answer {
    Answer::new(VerdictOutcome::Inconclusive, summary, next_steps)
}

fn full_success(measurements: &Measurements) -> Answer {
    let after = measurements
        .remount_to_fresh_read_ms
        .map(|ms| format!(" {ms:.1} ms after the producer serves again"));
    let summary = format!(
        "FUSE propagation works: consumers see the mount, notice its death, and read the fresh \
         one{}, with no intervention.",
        after.unwrap_or_default()
    );
    Answer::new(VerdictOutcome::FullSuccess, summary, Vec::new())
}

fn partial(report: &Report, phase: &PhaseReport) -> Answer {
    let rescue = match report.measurements.smallest_intervention {
        Some(Repair::Wait) => "consumers come back by themselves".to_owned(),
        Some(repair) => format!("consumers come back only after {}", repair.words()),
        None => "no intervention that was tried brought consumers back".to_owned(),
    };
    let summary = format!("FUSE propagation works, and {rescue}: {}.", why(report, phase));
    Answer::new(VerdictOutcome::PartialSuccess, summary, fixes(report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::tests::stopped;
    use propagation_model::report::Check;

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
}
