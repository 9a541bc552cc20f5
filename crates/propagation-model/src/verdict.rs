//! The verdict: what follows from the phases.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plan::Intervention;
use crate::report::{Measurements, PhaseReport, Status};

/// The four answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictOutcome {
    /// It works, and existing consumers recover by themselves.
    FullSuccess,
    /// It works, and a dead producer needs an intervention.
    PartialSuccess,
    /// Mounts do not reach consumers, although host and producer are in order.
    FundamentalFailure,
    /// Nothing can be said about propagation.
    Inconclusive,
}

impl VerdictOutcome {
    /// The word used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FullSuccess => "full_success",
            Self::PartialSuccess => "partial_success",
            Self::FundamentalFailure => "fundamental_failure",
            Self::Inconclusive => "inconclusive",
        }
    }

    /// The seed document's name for it; none when inconclusive.
    pub fn letter(self) -> Option<char> {
        match self {
            Self::FullSuccess => Some('A'),
            Self::PartialSuccess => Some('B'),
            Self::FundamentalFailure => Some('C'),
            Self::Inconclusive => None,
        }
    }

    /// The exit status of the command line for it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::FullSuccess => 0,
            Self::PartialSuccess => 3,
            Self::FundamentalFailure => 4,
            Self::Inconclusive => 5,
        }
    }
}

impl fmt::Display for VerdictOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The answer of a run, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Verdict {
    /// The answer.
    pub outcome: VerdictOutcome,
    /// As [`VerdictOutcome::letter`].
    pub scenario_letter: Option<char>,
    /// One sentence.
    pub summary: String,
    /// What is decided by it.
    pub decision: String,
    /// What to do next, in order.
    pub next_steps: Vec<String>,
    /// How long migrating takes, going by it.
    pub migration_timeline: String,
    /// The liveness probe to add to consumers, as YAML, where one helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<String>,
}

/// Decides from the phases, in the order of the decision table: what cannot be trusted first, then
/// the key question, then recovery.
pub fn decide(
    phases: &[PhaseReport],
    measurements: &Measurements,
    cut_short: Option<&str>,
) -> Verdict {
    if let Some(reason) = cut_short {
        return inconclusive(
            format!("The run was cut short: {reason}."),
            vec!["Run it again and let it finish.".into()],
        );
    }
    if let Some(phase) = phases.iter().find(|phase| phase.status == Status::Errored) {
        let reason = phase.reason.as_deref().unwrap_or("the tool failed");
        return inconclusive(
            format!("The phase {} could not be carried out: {reason}.", phase.id),
            vec!["Remove the cause named above and run it again.".into()],
        );
    }
    let failed =
        |id: &str| phases.iter().find(|phase| phase.id == id && phase.status == Status::Failed);
    if let Some(phase) = failed("host_setup") {
        return inconclusive(
            format!("The host is not set up to share FUSE mounts: {}.", first_cause(phase)),
            fixes_and_again(phase),
        );
    }
    if let Some(phase) = failed("producer") {
        return inconclusive(
            format!(
                "The producer's mount did not reach the host: {}. This is configuration, not a \
                 limit of FUSE.",
                first_cause(phase)
            ),
            fixes_and_again(phase),
        );
    }
    if let Some(phase) = failed("consumer") {
        if phase.checks.iter().any(|c| c.id.starts_with("control:") && c.status == Status::Failed) {
            return inconclusive(
                "A control that must not see the mount sees it, so seeing it proves nothing."
                    .into(),
                fixes_and_again(phase),
            );
        }
        return fundamental_failure(phase);
    }
    let trouble: Vec<&PhaseReport> =
        ["stale_mount", "recovery"].into_iter().filter_map(failed).collect();
    if !trouble.is_empty() {
        return partial(&trouble, measurements);
    }
    if let Some(missing) = FIVE.iter().find(|id| !passed(phases, id)) {
        return inconclusive(
            format!("The phase {missing} did not run, so nothing follows for recovery."),
            vec!["Run all five phases.".into()],
        );
    }
    full_success(measurements)
}

/// The phases that a success needs. Phases of one's own may come beside them.
const FIVE: [&str; 5] = ["host_setup", "producer", "consumer", "stale_mount", "recovery"];

fn passed(phases: &[PhaseReport], id: &str) -> bool {
    phases.iter().any(|phase| phase.id == id && phase.status == Status::Passed)
}

fn first_cause(phase: &PhaseReport) -> String {
    let check = phase.checks.iter().find(|check| check.status == Status::Failed);
    check.map_or_else(
        || "no check says why".into(),
        |check| {
            let cause = check.cause.as_deref().unwrap_or(&check.observed);
            cause.trim_end_matches('.').to_owned()
        },
    )
}

/// The fixes of a phase's checks, each once.
fn fixes(phase: &PhaseReport) -> Vec<String> {
    let mut fixes: Vec<String> = Vec::new();
    for fix in phase.checks.iter().filter_map(|check| check.fix.clone()) {
        if !fixes.contains(&fix) {
            fixes.push(fix);
        }
    }
    fixes
}

fn fixes_and_again(phase: &PhaseReport) -> Vec<String> {
    let mut steps = fixes(phase);
    steps.push("Run it again.".into());
    steps
}

fn inconclusive(summary: String, next_steps: Vec<String>) -> Verdict {
    Verdict {
        outcome: VerdictOutcome::Inconclusive,
        scenario_letter: VerdictOutcome::Inconclusive.letter(),
        summary,
        decision: "No decision: the experiment does not answer the question yet.".into(),
        next_steps,
        migration_timeline: "Open until a run is conclusive.".into(),
        liveness_probe: None,
    }
}

fn milliseconds(value: Option<f64>) -> String {
    value.map_or_else(|| "an unmeasured time".into(), |ms| format!("{ms:.1} ms"))
}

fn full_success(measurements: &Measurements) -> Verdict {
    Verdict {
        outcome: VerdictOutcome::FullSuccess,
        scenario_letter: VerdictOutcome::FullSuccess.letter(),
        summary: format!(
            "FUSE propagation works: consumers see the mount, notice its death, and read the \
             fresh one {} after the producer serves again, with no intervention.",
            milliseconds(measurements.remount_to_fresh_read_ms)
        ),
        decision: "FUSE propagation works here. It can replace an SMB/CIFS layer.".into(),
        next_steps: vec![
            "Test with a real consumer of yours on a second node.".into(),
            "Measure throughput against the layer it would replace.".into(),
            "Add a liveness probe to consumers all the same: open files do not recover.".into(),
            "Plan the migration if performance is similar or better.".into(),
        ],
        migration_timeline: "1-2 weeks to roll out.".into(),
        liveness_probe: None,
    }
}

fn partial(trouble: &[&PhaseReport], measurements: &Measurements) -> Verdict {
    let causes: Vec<String> =
        trouble.iter().map(|phase| format!("{}: {}", phase.id, first_cause(phase))).collect();
    let rescue = match measurements.smallest_intervention {
        Some(Intervention::Wait) => "existing consumers come back by themselves".to_owned(),
        Some(intervention) => format!("the smallest intervention that works is {intervention}"),
        None => "no intervention that was tried brought the consumers back".to_owned(),
    };
    Verdict {
        outcome: VerdictOutcome::PartialSuccess,
        scenario_letter: VerdictOutcome::PartialSuccess.letter(),
        summary: format!(
            "FUSE propagation works, but the producer's death needs care: {rescue} ({}).",
            causes.join("; ")
        ),
        decision: "FUSE propagation works, but stale mounts need an intervention.".into(),
        next_steps: vec![
            "Add the liveness probe below to consumers: it notices a stale, hung or empty mount."
                .into(),
            "Let consumers mount the directory above the mountpoint with HostToContainer, so that \
             a fresh mount reaches them by itself."
                .into(),
            "Accept a short interruption with automatic recovery, or keep the present layer."
                .into(),
        ],
        migration_timeline: "1 week: add probes to existing pods.".into(),
        liveness_probe: Some(LIVENESS_PROBE.into()),
    }
}

fn fundamental_failure(phase: &PhaseReport) -> Verdict {
    let mut next_steps = vec!["Write down this result; it is evidence, not an assumption.".into()];
    next_steps.extend(fixes(phase));
    next_steps.push("Keep the present SMB/CIFS layer until a run says otherwise.".into());
    Verdict {
        outcome: VerdictOutcome::FundamentalFailure,
        scenario_letter: VerdictOutcome::FundamentalFailure.letter(),
        summary: format!(
            "The producer's mount reaches the host and not its consumers: {}.",
            first_cause(phase)
        ),
        decision: "FUSE propagation does not work in this set-up.".into(),
        next_steps,
        migration_timeline: "No change needed.".into(),
        liveness_probe: None,
    }
}

/// Restarts a consumer within 40 s of breakage: 3 failures, 10 s apart, 5 s each at the most. A
/// container restart binds the volume anew, so it heals a consumer whose volume is the bridge or
/// an ancestor; while the source itself is stale the start is refused until it is unmounted.
const LIVENESS_PROBE: &str = "\
livenessProbe:
  exec:
    command: [\"/propagation-agent\", \"probe\", \"/mnt/dfs\", \"--timeout\", \"4s\"]
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Check;

    /// Five phases that passed, but for those named.
    fn phases(not_passed: &[(&str, Status)]) -> Vec<PhaseReport> {
        FIVE.iter()
            .map(|id| {
                let found = not_passed.iter().find(|(name, _)| name == id);
                let status = found.map_or(Status::Passed, |(_, status)| *status);
                let check = Check::new("c", status != Status::Failed, "expected", "observed")
                    .with_cause(format!("cause of {id}"), format!("fix of {id}"));
                PhaseReport {
                    id: (*id).into(),
                    status,
                    started_ms: 0.0,
                    duration_ms: 1.0,
                    reason: None,
                    checks: vec![check],
                }
            })
            .collect()
    }

    fn outcome(not_passed: &[(&str, Status)]) -> VerdictOutcome {
        decide(&phases(not_passed), &Measurements::default(), None).outcome
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
        for id in FIVE {
            assert_eq!(outcome(&[(id, Errored)]), Inconclusive, "{id} errored");
        }
    }

    #[test]
    fn a_positive_control_makes_the_consumers_phase_inconclusive() {
        let mut phases = phases(&[("consumer", Status::Failed)]);
        phases[2].checks.push(Check::new("control:control", false, "blind", "it sees it"));
        let verdict = decide(&phases, &Measurements::default(), None);
        assert_eq!(verdict.outcome, VerdictOutcome::Inconclusive);
        assert!(verdict.summary.contains("control"));
    }

    #[test]
    fn a_fix_that_several_checks_have_is_one_step() {
        let mut phases = phases(&[("consumer", Status::Failed)]);
        for consumer in ["early", "late"] {
            let check = Check::new(consumer, false, "it reads", "it does not");
            phases[2].checks.push(check.with_cause("it is private", "set the mode"));
        }
        let verdict = decide(&phases, &Measurements::default(), None);
        assert_eq!(verdict.outcome, VerdictOutcome::FundamentalFailure);
        assert_eq!(verdict.next_steps.iter().filter(|step| *step == "set the mode").count(), 1);
    }

    #[test]
    fn a_run_that_was_cut_short_says_nothing() {
        let verdict = decide(&phases(&[]), &Measurements::default(), Some("it was interrupted"));
        assert_eq!(verdict.outcome, VerdictOutcome::Inconclusive);
        assert_eq!(verdict.scenario_letter, None);
    }

    #[test]
    fn phases_that_never_ran_are_no_success() {
        assert_eq!(
            decide(&[], &Measurements::default(), None).outcome,
            VerdictOutcome::Inconclusive
        );
        assert_eq!(outcome(&[("recovery", Status::Skipped)]), VerdictOutcome::Inconclusive);
    }

    #[test]
    fn partial_success_names_the_intervention_and_gives_the_probe() {
        let measurements = Measurements {
            smallest_intervention: Some(Intervention::RestartConsumer),
            ..Measurements::default()
        };
        let verdict = decide(&phases(&[("recovery", Status::Failed)]), &measurements, None);
        assert_eq!(verdict.scenario_letter, Some('B'));
        assert!(verdict.summary.contains("restart of the consumer's container"));
        assert!(verdict.liveness_probe.is_some_and(|yaml| yaml.starts_with("livenessProbe:")));
    }
}
