//! `propagation report`, and how a report is printed and saved.

use std::io;
use std::path::Path;

use propagation_core::{Error, ErrorKind, Report, input};
use propagation_report::graph::{self, Picture};
use propagation_report::html::IndexEntry;
use propagation_report::text::{self, Detail, Style};
use propagation_report::{html, junit, markdown};

use crate::args::{ReportFormat, ReportOptions};
use crate::exit::Exit;
use crate::files::{Directory, make_directory};
use crate::log::Log;
use crate::output;

/// The largest report that is read: that of 10,000 consumers has 15 MB.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

pub(crate) fn main(options: &ReportOptions) -> Result<Exit, Error> {
    let path = &options.file;
    let json = input::read(path, MOST_BYTES).map_err(|error| {
        Error::from_source(ErrorKind::InvalidInput, format!("read {}", path.display()), error)
            .with_fix("name the report.json that `propagation run --report DIR` wrote")
    })?;
    let report = Report::from_json(&json)?;
    print(&report, options.format, options.shown.detail())?;
    Ok(Exit::Outcome(report.verdict.outcome()))
}

/// Prints a report on standard output.
pub(crate) fn print(report: &Report, format: ReportFormat, detail: Detail) -> Result<(), Error> {
    let rendered = match format {
        ReportFormat::Text => text::render(report, output::style(detail)),
        ReportFormat::Json => json(report)?,
        ReportFormat::Markdown => markdown::render(report),
        ReportFormat::Html => html::render(report),
        ReportFormat::Junit => junit::render(report),
        ReportFormat::Dot => graph::dot::render(&picture(report)?),
        ReportFormat::Svg => graph::svg::standalone(&picture(report)?),
        ReportFormat::Plan => serde_json::to_string_pretty(&report.plan)
            .map_err(|error| Error::from_source(ErrorKind::Internal, "write the plan", error))?,
    };
    output::text(&rendered)
}

/// Prints what is decided of a run that is not cleaned up yet.
pub(crate) fn print_decided(report: &Report, detail: Detail) -> Result<(), Error> {
    output::text(&text::render_decided(report, output::style(detail)))
}

/// Prints how the clean-up of a run went whose report has been printed; nothing where there is nothing to say.
pub(crate) fn print_cleanup(report: &Report, detail: Detail) -> Result<(), Error> {
    match text::render_cleanup(report, output::style(detail)) {
        nothing if nothing.is_empty() => Ok(()),
        words => output::text(&words),
    }
}

/// Writes a report in every format for people and programs, and the log of its run, into a
/// directory.
pub(crate) fn save(report: &Report, directory: &Directory, log: Option<&Log>) -> Result<(), Error> {
    for (name, content) in [
        ("report.json", json(report)?),
        ("report.txt", text::render(report, Style::plain(Detail::Full))),
        ("report.md", markdown::render(report)),
        ("report.html", html::render(report)),
        ("junit.xml", junit::render(report)),
    ] {
        write(directory, name, &content)?;
    }
    if let Some(log) = log {
        let copied = directory.replace("run.log", |file| log.copy_to(file));
        copied.map_err(|error| not_written(&directory.join("run.log"), error))?;
    }
    Ok(())
}

/// Writes the page that leads to the reports in the directories below.
pub(crate) fn save_index(entries: &[IndexEntry], directory: &Path) -> Result<(), Error> {
    write(&make_directory(directory, "--report")?, "index.html", &html::index(entries))
}

/// Writes the results of all reports in the directories below as one JUnit XML file.
pub(crate) fn save_junit(several: junit::Several, directory: &Path) -> Result<(), Error> {
    write(&make_directory(directory, "--report")?, "junit.xml", &several.finish())
}

fn write(directory: &Directory, name: &str, content: &str) -> Result<(), Error> {
    directory
        .write(name, content.as_bytes())
        .map_err(|error| not_written(&directory.join(name), error))
}

fn not_written(path: &Path, error: io::Error) -> Error {
    Error::from_source(ErrorKind::Environment, format!("write {}", path.display()), error)
        .with_fix("free space, or name another directory with --report")
}

pub(crate) fn json(report: &Report) -> Result<String, Error> {
    report
        .to_json()
        .map_err(|error| Error::from_source(ErrorKind::Internal, "write the report", error))
}

fn picture(report: &Report) -> Result<Picture, Error> {
    let capture = graph::telling(report).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidInput,
            "draw the mount graph",
            "the report has no mount tables",
        )
        .with_fix("run it again: reports have them when a phase of the run came to its end")
    })?;
    Ok(Picture::of(report, capture))
}
