//! Exit statuses.

use std::io::Write;

use propagation_core::report::text::one_line;
use propagation_core::{Error, ErrorKind, Report, VerdictOutcome};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0.
    Success,
    /// By the verdict of a run.
    Verdict(VerdictOutcome),
    /// 1: something could not be done, and was said already.
    Failed,
    /// 5: a check of the host failed.
    NotInOrder,
    /// 6: something else happened than a scenario expects.
    Unexpected,
    /// 7: something of a run is left, and was named.
    Left,
    /// 130: interrupted, everything cleaned up.
    Interrupted,
}

impl Exit {
    /// Of a run: something that is left counts for more than the verdict, which the report has.
    pub(crate) fn of(report: &Report) -> Self {
        match report.cleanup.could_not.is_empty() {
            true => Self::Verdict(report.verdict.outcome),
            false => Self::Left,
        }
    }
}

/// Prints an error as it should be read, and gives the status.
pub(crate) fn report(result: Result<Exit, Error>) -> u8 {
    match result {
        Ok(Exit::Success) => 0,
        Ok(Exit::Verdict(outcome)) => outcome.exit_code(),
        Ok(Exit::Failed) => 1,
        Ok(Exit::NotInOrder) => 5,
        Ok(Exit::Unexpected) => 6,
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
