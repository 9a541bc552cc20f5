//! The results of runs: counted, printed, saved.

mod count;
mod line;

use std::io::{self, Write};

use propagation_core::report::Status;
use propagation_core::{Error, ErrorKind, Report, RunOutcome, ScenarioOutcome};
use propagation_report::html::IndexEntry;
use propagation_report::junit;
use propagation_report::text::{Detail, lay_out, one_line};
use serde::Serialize;

use crate::args::ReportFormat;
use crate::args::run::{RunOptions, Several};
use crate::execute::Ran;
use crate::exit::Exit;
use crate::files::make_directory;
use crate::output;
use crate::report::{print, print_cleanup, save, save_index, save_junit};
use count::{Count, status};

/// The results of all runs.
pub(crate) struct Results<'a> {
    options: &'a RunOptions,
    several: Option<Several>,
    count: Count,
    /// The worst of all.
    worst: Exit,
    /// Why the only run was not carried out.
    error: Option<Error>,
    /// The JSON of each, where that is printed.
    documents: Vec<Document>,
    nodes: Vec<String>,
    entries: Vec<IndexEntry>,
    junit: junit::Several,
}

impl<'a> Results<'a> {
    pub(crate) fn new(options: &'a RunOptions, several: Option<Several>) -> Self {
        Self {
            options,
            several,
            count: Count::default(),
            worst: Exit::Success,
            error: None,
            documents: Vec::new(),
            nodes: vec![line::head_of_nodes()],
            entries: Vec::new(),
            junit: junit::Several::default(),
        }
    }

    /// Counts, saves and shows a result.
    pub(crate) fn add(&mut self, name: &str, ran: Ran) -> Result<(), Error> {
        let Ran { result, log } = ran;
        self.count.add(&result);
        let of_scenarios = !self.options.scenario.is_empty();
        if of_scenarios && matches!(&result, Err(error) if error.kind() == ErrorKind::Cancelled) {
            // It was not begun; the counts say how many were not.
            return Ok(());
        }
        self.worst = self.worst.or_worse(result.as_ref().map_or(Exit::Failed, Exit::of));
        self.entries.push(index_entry(name, &result));
        self.nodes.push(line::of_node(name, &result));
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
        // What cannot be saved is shown all the same.
        let saved = match (&result, &self.options.report) {
            (Ok(report), Some(directory)) => {
                let own = self.several.map_or_else(|| directory.clone(), |_| directory.join(name));
                make_directory(&own, "--report")
                    .and_then(|directory| save(report, &directory, log.as_deref()))
            }
            _ => Ok(()),
        };
        self.show(name, result).and(saved)
    }

    /// Shows a result, or keeps it for the end.
    fn show(&mut self, name: &str, result: Result<Report, Error>) -> Result<(), Error> {
        let (format, detail) = (self.options.format, self.options.shown.detail());
        let of_scenarios = !self.options.scenario.is_empty();
        match (result, self.several, format) {
            // The rest of it was printed when it was decided.
            (Ok(report), None, _) if self.options.is_told_early(None) => {
                print_cleanup(&report, detail)
            }
            (Ok(report), None, _) => print(&report, format, detail),
            (Ok(report), Some(Several::Nodes), ReportFormat::Text) => {
                output::text(&format!("Node {}", one_line(name)))?;
                print(&report, format, detail)
            }
            (Err(error), None, _) if !of_scenarios => {
                self.error = Some(error);
                Ok(())
            }
            (result, _, ReportFormat::Json) => {
                self.documents.push(Document::of(name, result));
                Ok(())
            }
            (Err(_), Some(Several::Nodes), _) => Ok(()),
            (result, _, ReportFormat::Text) => match self.line(name, &result) {
                Some(line) => output::text(&line),
                None => Ok(()),
            },
            // Standard output is the format's; with standard error closed there is nobody to tell.
            (result, _, _) => {
                let _ = self.line(name, &result).map(|line| writeln!(io::stderr(), "{line}"));
                Ok(())
            }
        }
    }

    /// The line of a result; none for one that is as expected where little is to be shown.
    fn line(&self, name: &str, result: &Result<Report, Error>) -> Option<String> {
        let detail = self.options.shown.detail();
        let is_quiet =
            |report: &Report| status(report) == Status::Passed && report.cleanup.kept.is_empty();
        let as_expected = result.as_ref().is_ok_and(is_quiet);
        if detail == Detail::Brief && as_expected {
            return None;
        }
        let text = line::line(name, result, detail == Detail::Full);
        Some(lay_out(&text, output::width(&io::stdout())))
    }

    /// How the program ends; whether it was interrupted.
    pub(crate) fn exit(self, interrupted: bool) -> Result<Exit, Error> {
        match self.error {
            Some(error) => Err(error),
            None if interrupted => Ok(Exit::Interrupted),
            None if self.options.scenario.is_empty() => Ok(self.worst),
            None => self.count.exit(self.several.is_none(), self.options.require),
        }
    }

    /// Shows and saves the results.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        if self.several == Some(Several::Nodes) {
            // They came as they ended.
            self.nodes[1..].sort();
            self.documents.sort_by(|a, b| a.name.cmp(&b.name));
            self.entries.sort_by(|a, b| a.name.cmp(&b.name));
        }
        if let (Some(directory), Some(_)) = (&self.options.report, self.several) {
            save_index(&self.entries, directory)?;
            save_junit(std::mem::take(&mut self.junit), directory)?;
        }
        match (self.options.format, self.several) {
            // The verdict of the only one is the last that is said.
            (ReportFormat::Json, None) => self.documents.first().map_or(Ok(()), output::json),
            (ReportFormat::Json, Some(_)) => output::json(&self.documents),
            (ReportFormat::Text, Some(Several::Nodes)) => output::text(&self.nodes.join("\n")),
            (ReportFormat::Text, Some(Several::Scenarios)) => output::text(&self.count.words()),
            _ => Ok(()),
        }
    }
}

/// One of several results as JSON.
#[derive(Serialize)]
struct Document {
    name: String,
    #[serde(flatten)]
    outcome: Outcome,
}

/// A report, or why there is none.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Report(Box<Report>),
    Skipped(String),
    Error(String),
}

impl Document {
    fn of(name: &str, result: Result<Report, Error>) -> Self {
        let outcome = match result {
            Ok(report) => Outcome::Report(Box::new(report)),
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                Outcome::Skipped(error.reason().to_owned())
            }
            Err(error) => Outcome::Error(error.to_string()),
        };
        Self { name: name.to_owned(), outcome }
    }
}

/// Its line on the page that leads to the reports of several.
fn index_entry(name: &str, result: &Result<Report, Error>) -> IndexEntry {
    match result {
        Ok(report) => {
            // What would not be a part of a path in an address.
            let escaped = ['%', '#', '?', ':'].iter().fold(name.to_owned(), |name, sign| {
                name.replace(*sign, &format!("%{:02X}", u32::from(*sign)))
            });
            IndexEntry::of(name, format!("{escaped}/report.html"), report)
        }
        Err(error) => {
            let is_skipped = error.kind() == ErrorKind::Unsupported;
            let skipped = RunOutcome::Scenario(ScenarioOutcome::Skipped);
            IndexEntry {
                name: name.to_owned(),
                address: String::new(),
                outcome: is_skipped.then_some(skipped),
                summary: if is_skipped { error.reason().to_owned() } else { error.to_string() },
                duration_ms: 0.0,
            }
        }
    }
}
