//! The results of the scenarios: counted, printed, saved.

use std::io::{self, Write};

use propagation_core::report::Status;
use propagation_core::{Error, ErrorKind, Report, RunOutcome, ScenarioOutcome, VerdictOutcome};
use propagation_report::html::IndexEntry;
use propagation_report::junit;
use propagation_report::text::{Detail, lay_out, one_line, sign};

use crate::args::{ReportFormat, Required, RunOptions};
use crate::exit::Exit;
use crate::output;
use crate::report::{json, print, save_index, save_junit};
use crate::run::{Ran, index_entry, save_for};

/// The results of all scenarios.
pub(super) struct All<'a> {
    options: &'a RunOptions,
    only_one: bool,
    count: Count,
    /// The JSON of each, where that is printed.
    documents: Vec<String>,
    entries: Vec<IndexEntry>,
    junit: junit::Several,
}

impl<'a> All<'a> {
    pub(super) fn new(options: &'a RunOptions, only_one: bool) -> Self {
        Self {
            options,
            only_one,
            count: Count::default(),
            documents: Vec::new(),
            entries: Vec::new(),
            junit: junit::Several::default(),
        }
    }

    /// Counts, saves and shows a result.
    pub(super) fn add(&mut self, name: &str, ran: Ran) -> Result<(), Error> {
        let Ran { result, log } = ran;
        let options = self.options;
        self.count.add(&result);
        if matches!(&result, Err(error) if error.kind() == ErrorKind::Cancelled) {
            // It was not begun; the counts say how many were not.
            return Ok(());
        }
        self.entries.push(index_entry(name, &result));
        match &result {
            Ok(report) => self.junit.add(name, report),
            Err(error) => {
                let status = match error.kind() {
                    ErrorKind::Unsupported => Status::Skipped,
                    _ => Status::Errored,
                };
                self.junit.add_without_report(name, status, &error.to_string());
            }
        }
        if let Ok(report) = &result {
            let own = (!self.only_one).then_some(name);
            save_for(report, options, own, log.as_deref())?;
        }
        match (&result, options.format) {
            (Ok(report), format) if self.only_one => print(report, format, options.shown.detail()),
            (_, ReportFormat::Json) => {
                self.documents.push(document(name, &result)?);
                Ok(())
            }
            (_, ReportFormat::Text) => match self.line(name, &result) {
                Some(line) => output::text(&line),
                None => Ok(()),
            },
            // Standard output is the format's; with standard error closed there is nobody to tell.
            _ => {
                let _ = self.line(name, &result).map(|line| writeln!(io::stderr(), "{line}"));
                Ok(())
            }
        }
    }

    /// The line of a result; none for one that is as expected where little is to be shown.
    fn line(&self, name: &str, result: &Result<Report, Error>) -> Option<String> {
        let detail = self.options.shown.detail();
        let as_expected = matches!(result, Ok(report) if status(report) == Status::Passed);
        if detail == Detail::Brief && as_expected {
            return None;
        }
        let text = line(name, result, detail == Detail::Full);
        Some(lay_out(&text, output::width(&io::stdout())))
    }

    /// How the program ends.
    pub(super) fn exit(&self) -> Result<Exit, Error> {
        self.count.exit(self.only_one, self.options.require)
    }

    /// Shows and saves the results.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        if let Some(directory) = self.options.report.as_ref().filter(|_| !self.only_one) {
            save_index(&self.entries, directory)?;
            save_junit(std::mem::take(&mut self.junit), directory)?;
        }
        match self.options.format {
            ReportFormat::Json if self.only_one => match self.documents.first() {
                Some(document) => output::text(document),
                None => Ok(()),
            },
            ReportFormat::Json => output::text(&format!("[\n{}\n]", self.documents.join(",\n"))),
            // The verdict of the only one is the last that is said.
            ReportFormat::Text if self.only_one => Ok(()),
            ReportFormat::Text => output::text(&self.count.words()),
            _ => Ok(()),
        }
    }
}

/// A report as JSON, or the error.
fn document(name: &str, result: &Result<Report, Error>) -> Result<String, Error> {
    let (word, reason) = match result {
        Ok(report) => return json(report),
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            ("skipped", error.reason().to_owned())
        }
        Err(error) => ("error", error.to_string()),
    };
    Ok(format!("{:#}", serde_json::json!({ "name": name, word: reason })))
}

/// The status of one of several scenarios: an answer other than full success counts as unmet.
fn status(report: &Report) -> Status {
    match report.verdict.outcome() {
        RunOutcome::Answer(VerdictOutcome::FullSuccess) => Status::Passed,
        RunOutcome::Answer(_) => Status::Failed,
        outcome @ RunOutcome::Scenario(_) => outcome.status(),
    }
}

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
    fn add(&mut self, result: &Result<Report, Error>) {
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

    fn words(&self) -> String {
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
    fn exit(&self, only_one: bool, required: Option<Required>) -> Result<Exit, Error> {
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

/// One scenario in a line, and what was not as expected below it.
fn line(name: &str, result: &Result<Report, Error>, evidence: bool) -> String {
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
