//! `propagation run`.

use std::sync::Arc;

use propagation_core::{Backend, Error, ErrorKind, Plan, Report, Runner};
use propagation_report::html::IndexEntry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::args::{BackendName, RunOptions};
use crate::exit::Exit;
use crate::files::make_directory;
use crate::log::Log;
use crate::progress::Progress;
use crate::report;

pub(crate) fn main(options: &RunOptions) -> Result<Exit, Error> {
    if options.backend == BackendName::Local {
        options.cluster.refuse_any()?;
    }
    if options.backend != BackendName::Local && options.like_this_host {
        let reason = "only simulated nodes can be shaped, and a node of a cluster is what it is";
        return Err(Error::new(ErrorKind::InvalidInput, "use --like-this-host", reason)
            .with_fix("leave it out, or use --backend local"));
    }
    crate::runtime::allow_a_run()?;
    if let Some(directory) = &options.report {
        make_directory(directory, "--report")?;
    }
    if !options.scenario.is_empty() {
        return crate::scenario::main(options);
    }
    crate::runtime()?.block_on(run(options))
}

async fn run(options: &RunOptions) -> Result<Exit, Error> {
    let cancellation = CancellationToken::new();
    let interrupted = cancel_on_signal(cancellation.clone())?;
    let exit = match options.backend {
        BackendName::K8s => crate::cluster::run(options, &cancellation).await,
        BackendName::Local => one(options, &*local()?, &cancellation).await,
    };
    interrupted.abort();
    match cancellation.is_cancelled() {
        true => exit.map(|_| Exit::Interrupted),
        false => exit,
    }
}

/// The plan of the options, on one node.
pub(crate) async fn one(
    options: &RunOptions,
    backend: &dyn Backend,
    cancellation: &CancellationToken,
) -> Result<Exit, Error> {
    let show = |log| match options.shown.quiet {
        true => Progress::quiet(log),
        false => Progress::new(log, 5),
    };
    let mut plan = options.plan();
    if options.like_this_host {
        crate::doctor::make_like_this_host(&mut plan).await?;
    }
    let ran = carry_out(options, plan, backend, cancellation, show).await;
    let report = ran.result?;
    show_report(&report, options, None, ran.log.as_deref())?;
    Ok(Exit::of(&report))
}

/// What became of one run.
pub(crate) struct Ran {
    pub(crate) result: Result<Report, Error>,
    pub(crate) log: Option<Arc<Log>>,
}

/// Runs a plan, with a log of its own.
pub(crate) async fn carry_out(
    options: &RunOptions,
    plan: Plan,
    backend: &dyn Backend,
    cancellation: &CancellationToken,
    progress: impl FnOnce(Arc<Log>) -> Progress,
) -> Ran {
    let name = plan.name.as_ref().map(|name| format!(" of {name:?}")).unwrap_or_default();
    let runner = match Runner::new(plan) {
        Ok(runner) => with_experiments(runner, options),
        Err(error) => return Ran { result: Err(error), log: None },
    };
    let log = Arc::new(Log::open(options.log_dir.as_deref(), runner.run_id()));
    log.line(&format!("propagation {} run {}{name}", env!("CARGO_PKG_VERSION"), runner.run_id()));
    let progress = Arc::new(progress(Arc::clone(&log)));
    let sink = Arc::clone(&progress);
    let result = runner
        .with_cancellation(cancellation.clone())
        .with_keep(options.keep)
        .with_secrets(options.with_secrets)
        .with_events(Arc::new(move |event| sink.take(event)))
        .run(backend)
        .await;
    progress.finish();
    Ran { result, log: Some(log) }
}

/// Lets a runner try changes on simulated nodes of this machine, where that is wanted.
fn with_experiments(runner: Runner, options: &RunOptions) -> Runner {
    let Some(budget) = options.budget() else { return runner };
    match local() {
        Ok(bench) => runner.with_experiments(Arc::from(bench), budget),
        Err(error) => runner.without_bench(error.to_string()),
    }
}

/// Prints a report and saves it where that was asked for; one of several in a directory of its own.
pub(crate) fn show_report(
    report: &Report,
    options: &RunOptions,
    of: Option<&str>,
    log: Option<&Log>,
) -> Result<(), Error> {
    // Whoever hung up a terminal wants the files all the same.
    let printed = report::print(report, options.format, options.shown.detail());
    save_for(report, options, of, log)?;
    printed
}

/// Saves a report where that was asked for.
pub(crate) fn save_for(
    report: &Report,
    options: &RunOptions,
    of: Option<&str>,
    log: Option<&Log>,
) -> Result<(), Error> {
    let Some(directory) = &options.report else { return Ok(()) };
    let directory = of.map_or_else(|| directory.clone(), |name| directory.join(name));
    report::save(report, &make_directory(&directory, "--report")?, log)
}

/// Its line on the page that leads to the reports of several.
pub(crate) fn index_entry(name: &str, result: &Result<Report, Error>) -> IndexEntry {
    match result {
        Ok(report) => {
            // What would not be a part of a path in an address.
            let escaped = ['%', '#', '?', ':'].iter().fold(name.to_owned(), |name, sign| {
                name.replace(*sign, &format!("%{:02X}", u32::from(*sign)))
            });
            IndexEntry::of(name, format!("{escaped}/report.html"), report)
        }
        Err(error) => IndexEntry {
            name: name.to_owned(),
            address: String::new(),
            outcome: None,
            summary: error.to_string(),
            duration_ms: 0.0,
        },
    }
}

#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere there is none")]
pub(crate) fn local() -> Result<Box<dyn Backend>, Error> {
    Ok(Box::new(propagation_backend_local::LocalBackend::new()))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn local() -> Result<Box<dyn Backend>, Error> {
    Err(crate::doctor::linux_only())
}

/// Cancels at the first SIGINT, SIGTERM or SIGHUP. Everything is cleaned up before the program ends;
/// were it killed instead, its node would end all the same. The signals are caught from the moment
/// this returns.
#[cfg(unix)]
pub(crate) fn cancel_on_signal(cancellation: CancellationToken) -> Result<JoinHandle<()>, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Error::from_source(ErrorKind::Environment, "listen for signals", error)
        })
    };
    let mut signals = vec![listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?];
    // nohup(1) has asked that a terminal which goes away does not matter.
    if !hangup_is_ignored() {
        signals.push(listen(SignalKind::hangup())?);
    }
    Ok(tokio::spawn(async move {
        first(&mut signals).await;
        cancellation.cancel();
        // A second one does not wait for the cleaning: the node ends with this process anyway.
        first(&mut signals).await;
        std::process::exit(130);
    }))
}

/// Waits for the first of these signals.
#[cfg(unix)]
async fn first(signals: &mut [tokio::signal::unix::Signal]) {
    let waiting = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
    futures_util::future::select_all(waiting).await;
}

/// Whether this program was started with SIGHUP ignored; where /proc does not tell, it was not.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Bit 0 is signal 1, SIGHUP.
    mask.is_some_and(|mask| mask & 1 == 1)
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
