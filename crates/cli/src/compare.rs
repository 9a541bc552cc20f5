//! `propagation compare`.

use std::io::Write as _;

use propagation_compare::{Options, Progress, compare};
use propagation_core::comparison::Comparison;
use propagation_core::{Error, ErrorKind};
use propagation_report::comparison::{html, markdown, text};
use propagation_report::text::{Detail, one_line};
use tokio_util::sync::CancellationToken;

use crate::args::BackendName;
use crate::args::compare::{CompareFormat, CompareOptions};
use crate::exit::Exit;
use crate::files::{Directory, make_directory};
use crate::interrupt::cancel_on_signals;
use crate::output;

pub(crate) fn main(options: &CompareOptions) -> Result<Exit, Error> {
    let wanted = options.options()?;
    if options.backend == BackendName::K8s {
        let reason =
            "pods have the built-in filesystem alone, and no server or client of SMB or NFS";
        return Err(Error::new(ErrorKind::Unsupported, "compare transports on a cluster", reason)
            .with_fix("run `propagation compare` on a node: it measures that node's kernel and touches no pod"));
    }
    crate::runtime::allow_a_run()?;
    let directory = options.report.as_deref().map(|path| make_directory(path, "--report"));
    let directory = directory.transpose()?;
    crate::runtime()?.block_on(run(options, &wanted, directory.as_ref()))
}

async fn run(
    options: &CompareOptions,
    wanted: &Options,
    directory: Option<&Directory>,
) -> Result<Exit, Error> {
    let cancellation = CancellationToken::new();
    let interrupted = cancel_on_signals([cancellation.clone()])?;
    let quiet = options.shown.quiet;
    let tell = move |progress: Progress<'_>| {
        if !quiet {
            say(&progress);
        }
    };
    let compared = compare(wanted, &*crate::targets::local()?, &cancellation, &tell).await;
    interrupted.abort();
    let comparison = compared?;
    let printed = print(&comparison, options);
    if let Some(directory) = directory {
        save(&comparison, directory)?;
    }
    printed?;
    Ok(match (cancellation.is_cancelled(), comparison.cleanup.could_not.is_empty()) {
        (_, false) => Exit::Left,
        (true, true) => Exit::Interrupted,
        (false, true) => Exit::Success,
    })
}

/// A line on standard error. Without a reader the comparison goes on.
fn say(progress: &Progress<'_>) {
    let line = match progress {
        Progress::Started(transport, None) => format!("{transport} stands"),
        Progress::Started(transport, Some(skip)) => {
            format!("{transport} is left out: {}", one_line(&skip.reason))
        }
        Progress::Round(round, of) => format!("round {round} of {of}"),
        Progress::Dying => "servers are killed, and come back".to_owned(),
        _ => return,
    };
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn print(comparison: &Comparison, options: &CompareOptions) -> Result<(), Error> {
    output::text(&match options.format {
        CompareFormat::Text => text(comparison, options.shown.detail()),
        CompareFormat::Json => json(comparison)?,
        CompareFormat::Markdown => markdown(comparison),
        CompareFormat::Html => html(comparison),
    })
}

fn save(comparison: &Comparison, directory: &Directory) -> Result<(), Error> {
    for (name, content) in [
        ("comparison.json", json(comparison)?),
        ("comparison.txt", text(comparison, Detail::Full)),
        ("comparison.md", markdown(comparison)),
        ("comparison.html", html(comparison)),
    ] {
        directory.write(name, content.as_bytes()).map_err(|error| {
            let operation = format!("write {}", directory.join(name).display());
            Error::from_source(ErrorKind::Environment, operation, error)
                .with_fix("free space, or name another directory with --report")
        })?;
    }
    Ok(())
}

fn json(comparison: &Comparison) -> Result<String, Error> {
    serde_json::to_string_pretty(comparison)
        .map_err(|error| Error::from_source(ErrorKind::Internal, "write the comparison", error))
}
