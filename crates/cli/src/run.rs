//! `propagation run`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use propagation_core::{Error, ErrorKind, Report, Runner};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::args::{BackendName, RunOptions};
use crate::exit::Exit;
use crate::log::Log;
use crate::progress::Progress;
use crate::report;

pub(crate) fn main(options: &RunOptions) -> Result<Exit, Error> {
    if let Some(directory) = &options.report {
        make_report_directory(directory)?;
    }
    if !options.scenario.is_empty() {
        return crate::scenario::main(options);
    }
    crate::runtime()?.block_on(run(options))
}

async fn run(options: &RunOptions) -> Result<Exit, Error> {
    let cancellation = CancellationToken::new();
    let interrupted = cancel_on_signal(cancellation.clone())?;
    if options.backend == BackendName::K8s {
        let exit = crate::cluster::run(options, &cancellation).await;
        interrupted.abort();
        return if cancellation.is_cancelled() { exit.map(|_| Exit::Interrupted) } else { exit };
    }
    options.cluster.refuse_any()?;
    let runner = Runner::new(options.plan())?
        .with_cancellation(cancellation.clone())
        .with_keep(options.keep);
    let log = Log::open(options.log_dir.as_deref(), runner.run_id());
    log.line(&format!("propagation {} run {}", env!("CARGO_PKG_VERSION"), runner.run_id()));
    let progress = Arc::new(Progress::new(log, 5));
    let sink = Arc::clone(&progress);
    let runner = runner.with_events(Arc::new(move |event| sink.take(event)));
    let result = run_locally(runner).await;
    progress.finish();
    interrupted.abort();
    let report = result?;
    show(&report, options, None, progress.log_path())?;
    if cancellation.is_cancelled() {
        return Ok(Exit::Interrupted);
    }
    Ok(Exit::Verdict(report.verdict.outcome))
}

/// Prints a report and saves it where that was asked for; those of many nodes in a directory each.
pub(crate) fn show(
    report: &Report,
    options: &RunOptions,
    node: Option<&str>,
    log: Option<&Path>,
) -> Result<(), Error> {
    report::print(report, options.format, options.evidence)?;
    save_for(report, options, node, log)
}

/// Saves a report where that was asked for.
pub(crate) fn save_for(
    report: &Report,
    options: &RunOptions,
    node: Option<&str>,
    log: Option<&Path>,
) -> Result<(), Error> {
    let Some(directory) = &options.report else { return Ok(()) };
    match node {
        Some(node) => {
            let directory = directory.join(node);
            make_report_directory(&directory)?;
            report::save(report, &directory, log)
        }
        None => report::save(report, directory, log),
    }
}

#[cfg(target_os = "linux")]
pub(crate) async fn run_locally(runner: Runner) -> Result<Report, Error> {
    runner.run(&propagation_backend_local::LocalBackend::new()).await
}

#[cfg(not(target_os = "linux"))]
pub(crate) async fn run_locally(_runner: Runner) -> Result<Report, Error> {
    Err(crate::doctor::linux_only())
}

/// Cancels at the first SIGINT or SIGTERM. Everything is cleaned up before the program ends; were
/// it killed instead, its node would end all the same. The signals are caught from the moment this
/// returns.
#[cfg(unix)]
pub(crate) fn cancel_on_signal(cancellation: CancellationToken) -> Result<JoinHandle<()>, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Error::new(ErrorKind::Environment, "listen for signals", error.to_string())
        })
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    Ok(tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancellation.cancel();
        // A second one does not wait for the cleaning: the node ends with this process anyway.
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(130);
    }))
}

/// Cancels at the first Ctrl-C.
#[cfg(not(unix))]
pub(crate) fn cancel_on_signal(cancellation: CancellationToken) -> Result<JoinHandle<()>, Error> {
    Ok(tokio::spawn(async move {
        // Without a handler the system ends the program, which ends its node.
        let _ = tokio::signal::ctrl_c().await;
        cancellation.cancel();
    }))
}

/// Before anything runs, so that a bad directory does not cost a run.
pub(crate) fn make_report_directory(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(|error| {
        Error::new(
            ErrorKind::InvalidInput,
            format!("make the report directory {}", directory.display()),
            error.to_string(),
        )
        .with_fix("name a directory that can be written with --report")
    })
}
