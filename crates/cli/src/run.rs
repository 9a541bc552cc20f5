//! `propagation run`.

use std::sync::Arc;

use propagation_core::{Backend, Error, Event, Plan, Report, Runner};
use propagation_report::html::IndexEntry;

use crate::args::{BackendName, ReportFormat, RunOptions};
use crate::exit::Exit;
use crate::files::make_directory;
use crate::interrupt::Interruption;
use crate::log::Log;
use crate::progress::Progress;
use crate::report;

pub(crate) fn main(options: &RunOptions) -> Result<Exit, Error> {
    if options.backend == BackendName::Local {
        options.cluster.refuse_any()?;
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
    let interruption = Interruption::default();
    let interrupted = interruption.by_signals()?;
    let exit = match options.backend {
        BackendName::K8s => crate::cluster::run(options, &interruption).await,
        BackendName::Local => one(options, &*local()?, &interruption).await,
    };
    interrupted.abort();
    match interruption.run.is_cancelled() {
        true => exit.map(|_| Exit::Interrupted),
        false => exit,
    }
}

/// The plan of the options, on one node.
pub(crate) async fn one(
    options: &RunOptions,
    backend: &dyn Backend,
    interruption: &Interruption,
) -> Result<Exit, Error> {
    let show = |log| match options.shown.quiet {
        true => Progress::quiet(log),
        false => Progress::new(log, 5),
    };
    // A cluster is cleaned up long after its run is decided.
    let early = options.backend == BackendName::K8s && options.format == ReportFormat::Text;
    let detail = options.shown.detail();
    let decided = early.then_some(move |report: &Report| report::print_decided(report, detail));
    let ran = carry_out(options, options.plan(), backend, interruption, show, decided).await;
    let report = ran.result?;
    match early {
        true => {
            let printed = report::print_cleanup(&report, detail);
            save_for(&report, options, None, ran.log.as_deref())?;
            printed?;
        }
        false => show_report(&report, options, None, ran.log.as_deref())?,
    }
    Ok(Exit::of(&report))
}

/// For runs whose report is printed when they are cleaned up.
pub(crate) const LATER: Option<fn(&Report) -> Result<(), Error>> = None;

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
    interruption: &Interruption,
    progress: impl FnOnce(Arc<Log>) -> Progress,
    decided: Option<impl Fn(&Report) -> Result<(), Error> + Send + Sync + 'static>,
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
        .with_cancellation(interruption.run.clone())
        .with_hurry(interruption.clean_up.clone())
        .with_keep(options.keep || options.cluster.detaches())
        .with_secrets(options.with_secrets)
        .with_events(Arc::new(move |event| {
            sink.take(event);
            if let (Event::Decided(report), Some(decided)) = (event, &decided) {
                // A reader that has gone is told of when the rest is printed.
                sink.aside(|| drop(decided(report)));
            }
        }))
        .run(backend)
        .await;
    progress.finish();
    let result = result.map(|mut report| {
        if options.cluster.detaches() {
            let goes_on = options.cluster.clean_in_background(&report.run_id, Some(&log));
            report.cleanup.kept = vec![goes_on];
        }
        report
    });
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
