//! One result of many in a line.

use std::io;

use propagation_core::report::Status;
use propagation_core::{Error, ErrorKind, Report};
use propagation_report::text::{one_line, sign};

use super::count::status;
use crate::output;

/// One scenario in a line, and what was not as expected below it.
pub(super) fn line(name: &str, result: &Result<Report, Error>, evidence: bool) -> String {
    let colour = output::colour(&io::stdout());
    let head = |status: Status, words: &str| {
        format!("{} {}: {}", colour.paint(status, sign(status)), one_line(name), one_line(words))
    };
    let report = match result {
        Ok(report) => report,
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            return head(Status::Skipped, &format!("skipped: {}", error.reason()));
        }
        Err(error) => return head(Status::Errored, &error.to_string()),
    };
    let status = status(report);
    let expectations = report.expectations();
    let words = match status {
        Status::Skipped => format!("skipped: {}", first_reason(report)),
        _ => {
            let answer = report.verdict.answer().map(|answer| format!("{}; ", answer.outcome));
            format!(
                "{}{} of {} expectations met in {:.1} ms",
                answer.unwrap_or_default(),
                expectations.met,
                expectations.all(),
                report.duration_ms
            )
        }
    };
    let mut lines = vec![head(status, &words)];
    for phase in &report.phases {
        if phase.status == Status::Errored {
            let reason = phase.reason.as_deref().unwrap_or_default();
            lines.push(format!("    {}: {}", one_line(&phase.id), one_line(reason)));
        }
        for check in phase.checks.iter().filter(|check| check.status == Status::Failed) {
            lines.push(format!(
                "    {} {}: expected {}, found {}",
                one_line(&phase.id),
                one_line(&check.id.to_string()),
                one_line(&check.expected),
                one_line(&check.observed)
            ));
            if evidence {
                lines.extend(check.evidence.iter().map(|line| format!("      {}", one_line(line))));
            }
        }
    }
    for kept in &report.cleanup.kept {
        lines.push(format!("    kept: {}", one_line(kept)));
    }
    for left in &report.cleanup.could_not {
        lines.push(format!("    could not {}", one_line(left)));
    }
    lines.join("\n")
}

fn first_reason(report: &Report) -> String {
    let skipped = report.phases.iter().flat_map(|phase| &phase.checks);
    let check = skipped.into_iter().find(|check| check.status == Status::Skipped);
    check.map_or_else(|| "nothing was looked at".into(), |check| check.observed.clone())
}

/// The head of the table of nodes.
pub(super) fn head_of_nodes() -> String {
    format!("{:<24} {:<20} {:>9}  {}", "NODE", "VERDICT", "TIME", "SUMMARY")
}

/// A node in the table of nodes.
pub(super) fn of_node(node: &str, result: &Result<Report, Error>) -> String {
    match result {
        Ok(report) => {
            let (verdict, seconds) = (&report.verdict, report.duration_ms / 1e3);
            let outcome = verdict.outcome().as_str();
            format!("{node:<24} {outcome:<20} {seconds:>8.1}s  {}", verdict.summary())
        }
        Err(error) => {
            let fix = error.fix().map(|fix| format!(" ({fix})")).unwrap_or_default();
            format!("{node:<24} {:<20} {:>9}  {error}{fix}", "error", "-")
        }
    }
}
