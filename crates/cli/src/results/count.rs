//! How many scenarios came out in which way, and how the program ends by that.

use propagation_core::report::Status;
use propagation_core::{Error, ErrorKind, Report, RunOutcome, ScenarioOutcome, VerdictOutcome};

use crate::args::run::Required;
use crate::exit::Exit;

/// The status of one of several scenarios: an answer other than full success counts as unmet.
pub(super) fn status(report: &Report) -> Status {
    match report.verdict.outcome() {
        RunOutcome::Answer(VerdictOutcome::FullSuccess) => Status::Passed,
        RunOutcome::Answer(_) => Status::Failed,
        outcome @ RunOutcome::Scenario(_) => outcome.status(),
    }
}

/// Results of scenarios, counted.
#[derive(Debug, Default)]
pub(super) struct Count {
    as_expected: u64,
    otherwise: u64,
    skipped: u64,
    failed: u64,
    not_run: u64,
    /// Of which something is left.
    left: u64,
    met: u64,
    unmet: u64,
    not_looked_at: u64,
    /// How the last one ends the program where there is only one.
    last: Option<Exit>,
}

impl Count {
    pub(super) fn add(&mut self, result: &Result<Report, Error>) {
        match result {
            Ok(report) => {
                let expectations = report.expectations();
                self.left += u64::from(!report.cleanup.could_not.is_empty());
                self.met += expectations.met;
                self.unmet += expectations.unmet;
                self.not_looked_at += expectations.skipped;
                self.last = Some(Exit::of(report));
                match status(report) {
                    Status::Passed => self.as_expected += 1,
                    Status::Failed => self.otherwise += 1,
                    Status::Skipped => self.skipped += 1,
                    Status::Errored => self.failed += 1,
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::Unsupported => self.skipped += 1,
                ErrorKind::Cancelled => self.not_run += 1,
                _ => self.failed += 1,
            },
        }
    }

    /// The counts in two lines.
    pub(super) fn words(&self) -> String {
        let not_run = match self.not_run {
            0 => String::new(),
            count => format!(", {count} not run"),
        };
        format!(
            "\nScenarios: {} as expected, {} otherwise, {} skipped, {} failed{not_run}\nExpectations: {} \
             met, {} unmet, {} skipped",
            self.as_expected,
            self.otherwise,
            self.skipped,
            self.failed,
            self.met,
            self.unmet,
            self.not_looked_at
        )
    }

    /// One scenario has the status of its outcome; of several the worst decides, and a run in which all were
    /// skipped is not a success. With `--require all` a skip counts as unmet.
    pub(super) fn exit(&self, only_one: bool, required: Option<Required>) -> Result<Exit, Error> {
        let otherwise = Exit::Outcome(RunOutcome::Scenario(ScenarioOutcome::Otherwise));
        let missing = required == Some(Required::All) && self.skipped + self.not_looked_at > 0;
        let passes =
            |outcome: RunOutcome| matches!(outcome.status(), Status::Passed | Status::Skipped);
        if let (true, Some(exit)) = (only_one, self.last) {
            let counts = matches!(exit, Exit::Outcome(outcome) if passes(outcome));
            return Ok(if missing && counts { otherwise } else { exit });
        }
        if self.failed > 0 {
            let reason = format!("{} scenarios could not be carried out", self.failed);
            return Err(Error::new(ErrorKind::Internal, "run the scenarios", reason)
                .with_fix("their lines above say why"));
        }
        if self.left > 0 {
            return Ok(Exit::Left);
        }
        Ok(match (self.otherwise, self.as_expected) {
            (1.., _) => otherwise,
            _ if missing => otherwise,
            (0, 0) => Exit::NotInOrder,
            (0, _) => Exit::Success,
        })
    }
}
