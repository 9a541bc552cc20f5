//! Exit statuses.

use std::io::Write;

use propagation_core::{Error, ErrorKind, Report, RunOutcome, ScenarioOutcome, VerdictOutcome};
use propagation_report::text::one_line;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0.
    Success,
    /// By the outcome of a run.
    Outcome(RunOutcome),
    /// 1: something could not be done, and was said already.
    Failed,
    /// 5: a check of the host failed.
    NotInOrder,
    /// 7: something of a run is left, and was named.
    Left,
    /// 130: interrupted by SIGINT, SIGTERM or SIGHUP, everything cleaned up.
    Interrupted,
}

impl Exit {
    /// Of a run: something that is left counts for more than the verdict, which the report has.
    pub(crate) fn of(report: &Report) -> Self {
        match report.cleanup.could_not.is_empty() {
            true => Self::Outcome(report.verdict.outcome()),
            false => Self::Left,
        }
    }

    /// The worse of two.
    pub(crate) fn or_worse(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    /// From the best to the worst.
    fn rank(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Outcome(outcome) => 1 + status(outcome),
            Self::Left => u8::MAX - 1,
            Self::Failed | Self::NotInOrder | Self::Interrupted => u8::MAX,
        }
    }
}

/// The exit status of an outcome.
fn status(outcome: RunOutcome) -> u8 {
    match outcome {
        RunOutcome::Answer(VerdictOutcome::FullSuccess)
        | RunOutcome::Scenario(ScenarioOutcome::AsExpected) => 0,
        RunOutcome::Answer(VerdictOutcome::PartialSuccess) => 3,
        RunOutcome::Answer(VerdictOutcome::FundamentalFailure) => 4,
        RunOutcome::Answer(VerdictOutcome::Inconclusive)
        | RunOutcome::Scenario(ScenarioOutcome::Skipped) => 5,
        RunOutcome::Scenario(ScenarioOutcome::Otherwise) => 6,
        RunOutcome::Scenario(ScenarioOutcome::Inconclusive) => 1,
    }
}

/// Prints an error as it should be read, and gives the status.
pub(crate) fn report(result: Result<Exit, Error>) -> u8 {
    match result {
        Ok(Exit::Success) => 0,
        Ok(Exit::Outcome(outcome)) => status(outcome),
        Ok(Exit::Failed) => 1,
        Ok(Exit::NotInOrder) => 5,
        Ok(Exit::Left) => 7,
        Ok(Exit::Interrupted) => 130,
        Err(error) => {
            // With standard error closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "error: {}", one_line(&error.to_string()));
            if let Some(fix) = error.fix() {
                let _ = writeln!(std::io::stderr(), "  fix: {}", one_line(fix));
            }
            match error.kind() {
                ErrorKind::InvalidInput => 2,
                ErrorKind::Cancelled => 130,
                _ => 1,
            }
        }
    }
}
