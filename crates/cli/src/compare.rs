//! `propagation compare`.

use std::io::Write as _;

use propagation_compare::{Options, Progress, compare};
use propagation_core::comparison::{Comparison, Transport, Workload};
use propagation_core::{Error, ErrorKind};
use propagation_report::comparison::{html, markdown, text};
use propagation_report::text::{Detail, one_line};
use tokio_util::sync::CancellationToken;

use crate::args::{BackendName, Shown};
use crate::exit::Exit;
use crate::files::{Directory, make_directory};
use crate::interrupt::cancel_on_signals;
use crate::output;

/// How a comparison is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CompareFormat {
    /// For people, in a terminal.
    Text,
    /// For programs: every value.
    Json,
    /// For an issue or a wiki.
    Markdown,
    /// For people, in a browser: bars, latency curves, timelines.
    Html,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompareOptions {
    /// Where to compare.
    #[arg(long, value_enum, default_value = "local")]
    backend: BackendName,
    /// Transports, separated by commas, or all [default: native, fuse, fuse-passthrough, daemon, smb-rclone,
    /// smb-cifs; with --quick native, fuse, smb-rclone]. Others: smb-smbnetfs, nfs, fuse-smb-rclone,
    /// fuse-smb-cifs, fuse-nfs.
    #[arg(long, value_name = "NAMES")]
    transports: Option<String>,
    /// Workloads, separated by commas [default: all; with --quick sequential, seek, scan, open, die]. Others:
    /// play, write, many.
    #[arg(long, value_name = "NAMES")]
    workloads: Option<String>,
    /// Measure less, within ten seconds.
    #[arg(long)]
    quick: bool,
    /// Number of rounds; below 5 no difference is reported [default: 5].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Seed of the order and of random positions [default: 1].
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    seed: u64,
    /// Command of the transport `daemon`, with {source}, {mountpoint} and {work}; it must stay in the
    /// foreground.
    #[arg(long, value_name = "COMMAND", default_value = "bindfs -f {source} {mountpoint}")]
    producer_command: String,
    /// Output format.
    #[arg(long, value_enum, default_value = "text")]
    format: CompareFormat,
    /// Directory to write the comparison to, in every format.
    #[arg(long, value_name = "DIR")]
    report: Option<std::path::PathBuf>,
    #[command(flatten)]
    shown: Shown,
}

impl CompareOptions {
    fn options(&self) -> Result<Options, Error> {
        let default = if self.quick { Options::quick() } else { Options::default() };
        let (transports, workloads) = (self.transports.as_deref(), self.workloads.as_deref());
        let options = Options {
            transports: names(transports, "--transports", &Transport::ALL)?
                .unwrap_or(default.transports),
            workloads: names(workloads, "--workloads", &Workload::ALL)?
                .unwrap_or(default.workloads),
            rounds: self.rounds,
            seed: self.seed,
            producer_command: self.producer_command.clone(),
            ..default
        };
        options.validate()?;
        Ok(options)
    }
}

/// Names separated by commas; all for `all`.
fn names<T>(text: Option<&str>, option: &str, all: &[T]) -> Result<Option<Vec<T>>, Error>
where
    T: std::str::FromStr<Err = String> + Copy,
{
    let Some(text) = text else { return Ok(None) };
    if text == "all" {
        return Ok(Some(all.to_vec()));
    }
    let names = text.split(',').map(|name| {
        name.trim().parse().map_err(|reason: String| {
            Error::new(ErrorKind::InvalidInput, format!("read {option}"), reason)
        })
    });
    names.collect::<Result<_, _>>().map(Some)
}

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
    let compared = compare(wanted, &*crate::run::local()?, &cancellation, &tell).await;
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
            Error::new(ErrorKind::Environment, operation, error.to_string())
                .with_fix("free space, or name another directory with --report")
        })?;
    }
    Ok(())
}

fn json(comparison: &Comparison) -> Result<String, Error> {
    serde_json::to_string_pretty(comparison)
        .map_err(|error| Error::new(ErrorKind::Internal, "write the comparison", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_what_was_meant() {
        let read = |text| names(Some(text), "--transports", &Transport::ALL);
        assert_eq!(
            read("native, fuse").expect("known"),
            Some(vec![Transport::Native, Transport::Fuse])
        );
        assert_eq!(read("all").expect("all").map(|all| all.len()), Some(Transport::ALL.len()));
        let error = read("native,fuze").expect_err("unknown");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("did you mean fuse?"), "{error}");
        assert!(read("").is_err());
    }
}
