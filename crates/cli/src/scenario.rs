//! `propagation run --scenario`: scenario files, one after the other or several at a time.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use futures_util::{StreamExt, stream};
use propagation_core::report::html::IndexEntry;
use propagation_core::report::text::{one_line, sign};
use propagation_core::report::{Expectations, Status};
use propagation_core::{Error, ErrorKind, Plan, Report, Runner, scenario};
use tokio_util::sync::CancellationToken;

use crate::args::{BackendName, ReportFormat, RunOptions};
use crate::exit::Exit;
use crate::log::Log;
use crate::output;
use crate::report::{json, print, save, save_index};
use crate::run::{cancel_on_signal, make_report_directory, run_locally};

pub(crate) fn main(options: &RunOptions) -> Result<Exit, Error> {
    let mut plans = read(&options.scenario)?;
    if let Some(runtime) = &options.runtime {
        for plan in &mut plans {
            plan.node.runtime.engine.clone_from(runtime);
        }
    }
    crate::runtime()?.block_on(run(options, plans))
}

/// Reads all scenarios before any is run.
fn read(paths: &[PathBuf]) -> Result<Vec<Plan>, Error> {
    let mut plans = Vec::new();
    for path in paths {
        if path.is_dir() {
            for file in scenario::files(path)? {
                plans.push(scenario::read(&file)?);
            }
        } else {
            plans.push(scenario::read(path)?);
        }
    }
    let mut names = BTreeSet::new();
    for plan in &plans {
        let name = name_of(plan);
        if !names.insert(name) {
            let reason = "two scenarios have this name";
            let operation = format!("run the scenario {name:?}");
            return Err(Error::new(ErrorKind::InvalidInput, operation, reason)
                .with_fix("give every scenario its own `name`"));
        }
    }
    Ok(plans)
}

fn name_of(plan: &Plan) -> &str {
    plan.name.as_deref().unwrap_or("scenario")
}

/// What became of one scenario.
struct Done {
    name: String,
    result: Result<Report, Error>,
}

async fn run(options: &RunOptions, plans: Vec<Plan>) -> Result<Exit, Error> {
    let cancellation = CancellationToken::new();
    let interrupted = cancel_on_signal(cancellation.clone())?;
    let only_one = plans.len() == 1;
    let mut results = stream::iter(plans)
        .map(|plan| one(options, plan, &cancellation))
        .buffered(usize::from(options.jobs));
    let mut count = Count::default();
    let mut reports = Vec::new();
    let mut entries = Vec::new();
    while let Some(done) = results.next().await {
        let done = done?;
        if let (Ok(report), Some(directory)) = (&done.result, &options.report) {
            let own = if only_one { directory.clone() } else { directory.join(&done.name) };
            make_report_directory(&own)?;
            save(report, &own, None)?;
        }
        count.add(&done.result);
        entries.push(entry(&done));
        match done.result {
            Ok(report) if only_one => print(&report, options.format, options.evidence)?,
            Ok(report) if options.format == ReportFormat::Json => reports.push(json(&report)?),
            result => output::text(&line(&done.name, &result, options.evidence))?,
        }
    }
    interrupted.abort();
    if let Some(directory) = options.report.as_ref().filter(|_| !only_one) {
        save_index(&entries, directory)?;
    }
    if options.format == ReportFormat::Json && !only_one {
        output::text(&format!("[\n{}\n]", reports.join(",\n")))?;
    } else if options.format == ReportFormat::Text {
        output::text(&count.words())?;
    }
    if cancellation.is_cancelled() {
        return Ok(Exit::Interrupted);
    }
    count.exit()
}

/// Its line on the index of all reports.
fn entry(done: &Done) -> IndexEntry {
    match &done.result {
        Ok(report) => IndexEntry::of(&*done.name, format!("{}/report.html", done.name), report),
        Err(error) => IndexEntry {
            name: done.name.clone(),
            address: String::new(),
            outcome: None,
            summary: error.to_string(),
            duration_ms: 0.0,
        },
    }
}

/// Runs one scenario with a log of its own. What makes it impossible here is its result.
async fn one(
    options: &RunOptions,
    plan: Plan,
    cancellation: &CancellationToken,
) -> Result<Done, Error> {
    let name = name_of(&plan).to_owned();
    if cancellation.is_cancelled() {
        let cancelled = Error::new(ErrorKind::Cancelled, "run the scenario", "interrupted");
        return Ok(Done { name, result: Err(cancelled) });
    }
    let runner = Runner::new(plan)?.with_cancellation(cancellation.clone()).with_keep(options.keep);
    let log = Log::open(options.log_dir.as_deref(), runner.run_id());
    log.line(&format!("scenario {name}, run {}", runner.run_id()));
    let sink = std::sync::Arc::new(crate::progress::Progress::quiet(log));
    let runner = runner.with_events(std::sync::Arc::new(move |event| sink.take(event)));
    let result = match options.backend {
        BackendName::Local => run_locally(runner).await,
        BackendName::K8s => runner.run(&options.cluster.backend().await?).await,
    };
    Ok(Done { name, result })
}

#[derive(Debug, Default)]
struct Count {
    as_expected: u64,
    otherwise: u64,
    skipped: u64,
    failed: u64,
    expectations: Expectations,
}

impl Count {
    fn add(&mut self, result: &Result<Report, Error>) {
        match result {
            Ok(report) => {
                let expectations = report.expectations();
                self.expectations.met += expectations.met;
                self.expectations.unmet += expectations.unmet;
                self.expectations.skipped += expectations.skipped;
                match status(report) {
                    Status::Passed => self.as_expected += 1,
                    Status::Failed => self.otherwise += 1,
                    Status::Skipped => self.skipped += 1,
                    Status::Errored => self.failed += 1,
                }
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => self.skipped += 1,
            Err(_) => self.failed += 1,
        }
    }

    fn words(&self) -> String {
        format!(
            "\n{} scenarios as expected, {} otherwise, {} skipped, {} failed; expectations: {} met, \
             {} unmet, {} skipped",
            self.as_expected,
            self.otherwise,
            self.skipped,
            self.failed,
            self.expectations.met,
            self.expectations.unmet,
            self.expectations.skipped
        )
    }

    fn exit(&self) -> Result<Exit, Error> {
        if self.failed > 0 {
            let reason = format!("{} scenarios could not be carried out", self.failed);
            return Err(Error::new(ErrorKind::Internal, "run the scenarios", reason)
                .with_fix("their lines above say why"));
        }
        Ok(match (self.otherwise, self.as_expected) {
            (0, 0) => Exit::NotInOrder,
            (0, _) => Exit::Success,
            _ => Exit::Unexpected,
        })
    }
}

/// How a scenario came out as a whole.
fn status(report: &Report) -> Status {
    let expectations = report.expectations();
    if report.phases.iter().any(|phase| phase.status == Status::Errored) {
        Status::Errored
    } else if expectations.unmet > 0 {
        Status::Failed
    } else if expectations.met == 0 && expectations.skipped > 0 {
        Status::Skipped
    } else {
        Status::Passed
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
        _ => format!(
            "{} of {} expectations met in {:.1} ms",
            expectations.met,
            expectations.all(),
            report.duration_ms
        ),
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
                one_line(&check.id),
                one_line(&check.expected),
                one_line(&check.observed)
            ));
            if evidence {
                lines.extend(check.evidence.iter().map(|line| format!("      {}", one_line(line))));
            }
        }
    }
    lines.join("\n")
}

fn first_reason(report: &Report) -> String {
    let skipped = report.phases.iter().flat_map(|phase| &phase.checks);
    let check = skipped.into_iter().find(|check| check.status == Status::Skipped);
    check.map_or_else(|| "nothing was looked at".into(), |check| check.observed.clone())
}
