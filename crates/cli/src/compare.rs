//! `propagation compare`.

use std::io::Write as _;

use propagation_compare::{Options, Progress, compare};
use propagation_core::comparison::Comparison;
use propagation_core::{Error, ErrorKind};
use propagation_report::comparison::{html, markdown, text};
use propagation_report::text::{Detail, one_line};

use crate::args::compare::{CompareFormat, CompareOptions};
use crate::exit::Exit;
use crate::files::{Directory, make_directory};
use crate::interrupt::Interruption;
use crate::output;
use crate::targets::Targets;

pub(crate) fn main(options: &CompareOptions) -> Result<Exit, Error> {
    let wanted = options.options()?;
    options.check_backend()?;
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
    let interruption = Interruption::default();
    let interrupted = interruption.by_signals()?;
    let targets = Targets::of(options.backend, &options.cluster, options.shown.quiet).await?;
    let quiet = options.shown.quiet;
    let tell = move |progress: Progress<'_>| {
        if !quiet {
            say(&progress);
        }
    };
    let one = async {
        let (_, backend) = targets.nodes().next().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "compare transports", "there is no node")
        })?;
        tokio::select! {
            compared = compare(wanted, backend, &interruption.run, &tell) => compared,
            () = interruption.clean_up.cancelled() => {
                let reason = "interrupted again, before all was removed";
                Err(Error::new(ErrorKind::Cancelled, "compare transports", reason)
                    .with_fix("remove what is left with `propagation clean`, and --backend k8s on a cluster"))
            }
        }
    };
    let compared = one.await;
    targets.settle(&interruption).await;
    interrupted.abort();
    let comparison = compared?;
    let printed = print(&comparison, options);
    if let Some(directory) = directory {
        save(&comparison, directory)?;
    }
    printed?;
    Ok(match (interruption.run.is_cancelled(), comparison.cleanup.could_not.is_empty()) {
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
