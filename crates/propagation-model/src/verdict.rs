//! The verdict: what follows from a run.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::report::phase::{PhaseReport, Status};

/// The answer of the five phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictOutcome {
    /// It works, and existing consumers recover by themselves.
    FullSuccess,
    /// It works, and the death of a producer needs an intervention.
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
}

impl fmt::Display for VerdictOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How a scenario came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScenarioOutcome {
    /// Everything came out as expected.
    AsExpected,
    /// Something came out otherwise.
    Otherwise,
    /// Nothing was looked at.
    Skipped,
    /// A step could not be carried out, or the run was interrupted.
    Inconclusive,
}

impl ScenarioOutcome {
    /// The word used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsExpected => "as_expected",
            Self::Otherwise => "otherwise",
            Self::Skipped => "skipped",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl fmt::Display for ScenarioOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The outcome of a run of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunOutcome {
    /// Of a run of the five phases.
    Answer(VerdictOutcome),
    /// Of a run of other steps.
    Scenario(ScenarioOutcome),
}

impl RunOutcome {
    /// The word used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answer(outcome) => outcome.as_str(),
            Self::Scenario(outcome) => outcome.as_str(),
        }
    }

    /// As a status: passed for a full success and for a scenario as expected.
    pub fn status(self) -> Status {
        match self {
            Self::Answer(VerdictOutcome::FullSuccess)
            | Self::Scenario(ScenarioOutcome::AsExpected) => Status::Passed,
            Self::Answer(VerdictOutcome::PartialSuccess | VerdictOutcome::FundamentalFailure)
            | Self::Scenario(ScenarioOutcome::Otherwise) => Status::Failed,
            Self::Scenario(ScenarioOutcome::Skipped) => Status::Skipped,
            Self::Answer(VerdictOutcome::Inconclusive)
            | Self::Scenario(ScenarioOutcome::Inconclusive) => Status::Errored,
        }
    }
}

/// What follows from a run: an answer from the five phases, or how many expectations of a scenario were
/// met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// Of a run of the five phases.
    Answer(Answer),
    /// Of a run of other steps.
    Expectations(Expectations),
}

/// The answer of the five phases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct Answer {
    /// The answer.
    pub outcome: VerdictOutcome,
    /// One sentence, which quotes the first cause.
    pub summary: String,
    /// Fixes of the causes, in their order, each once.
    pub next_steps: Vec<String>,
}

impl Answer {
    /// An answer, its sentence, and what to do.
    pub fn new(
        outcome: VerdictOutcome,
        summary: impl Into<String>,
        next_steps: Vec<String>,
    ) -> Self {
        Self { outcome, summary: summary.into(), next_steps }
    }
}

/// Result of a scenario's expectations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct Expectations {
    /// As a whole.
    pub outcome: ScenarioOutcome,
    /// One sentence.
    pub summary: String,
    /// Checks that came out as expected.
    pub met: u64,
    /// Checks that did not, or a step that failed unexpectedly.
    pub unmet: u64,
    /// Checks that were not made, with a reason in the report.
    pub skipped: u64,
}

impl Verdict {
    /// The answer, where the five phases were run.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answer(answer) => Some(answer),
            Self::Expectations(_) => None,
        }
    }

    /// How the run came out.
    pub fn outcome(&self) -> RunOutcome {
        match self {
            Self::Answer(answer) => RunOutcome::Answer(answer.outcome),
            Self::Expectations(expectations) => RunOutcome::Scenario(expectations.outcome),
        }
    }

    /// Whether the answer is this one.
    pub fn is(&self, outcome: VerdictOutcome) -> bool {
        self.outcome() == RunOutcome::Answer(outcome)
    }

    /// The sentence that sums it up.
    pub fn summary(&self) -> &str {
        match self {
            Self::Answer(answer) => &answer.summary,
            Self::Expectations(expectations) => &expectations.summary,
        }
    }
}

impl Expectations {
    /// Counts the checks of phases that can be met or unmet.
    pub fn of(phases: &[PhaseReport]) -> Self {
        let (mut met, mut unmet, mut skipped) = (0, 0, 0);
        for phase in phases {
            for check in phase.checks.iter().filter(|check| check.id.is_expectation()) {
                match check.status {
                    Status::Passed => met += 1,
                    Status::Failed | Status::Errored => unmet += 1,
                    Status::Skipped => skipped += 1,
                }
            }
            if phase.status == Status::Skipped && phase.checks.is_empty() {
                skipped += 1;
            }
        }
        let outcome = match (met, unmet, skipped) {
            (_, 1.., _) => ScenarioOutcome::Otherwise,
            (0, 0, 1..) => ScenarioOutcome::Skipped,
            _ => ScenarioOutcome::AsExpected,
        };
        let summary = match met + unmet + skipped {
            // A step that could not be carried out has no checks, whatever it expects.
            0 if phases.iter().any(|phase| phase.status == Status::Errored) => {
                "No expectation was checked.".to_owned()
            }
            0 => "Nothing was expected.".to_owned(),
            all if skipped > 0 => {
                format!("{met} of {all} expectations are met, {skipped} skipped.")
            }
            all => format!("{met} of {all} expectations are met."),
        };
        Self { outcome, summary, met, unmet, skipped }
    }

    /// How many there are.
    pub fn all(&self) -> u64 {
        self.met + self.unmet + self.skipped
    }
}
