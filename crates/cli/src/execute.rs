//! Runs one plan on one node, with a log of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use propagation_core::{Backend, Error, Event, Plan, Report, Runner};
use propagation_report::text::Detail;

use crate::args::BackendName;
use crate::args::run::RunOptions;
use crate::background::clean_in_background;
use crate::interrupt::Interruption;
use crate::log::Log;
use crate::processor::{OnAll, OneProcessor};
use crate::progress::Progress;
use crate::report::print_decided;
use crate::targets::local;

/// What became of one run.
pub(crate) struct Ran {
    pub(crate) result: Result<Report, Error>,
    pub(crate) log: Option<Arc<Log>>,
}

/// Runs a plan, with a log of its own. With `early` its report is printed when it is decided, before the clean-up.
pub(crate) async fn carry_out(
    options: &RunOptions,
    plan: Plan,
    backend: &dyn Backend,
    interruption: &Interruption,
    progress: impl FnOnce(Arc<Log>) -> Progress,
    early: Option<Detail>,
) -> Ran {
    let name = plan.name.as_ref().map(|name| format!(" of {name:?}")).unwrap_or_default();
    // A node that is kept has all processors.
    let alone =
        options.backend == BackendName::Local && options.scenario.is_empty() && !options.keep;
    let one = alone.then(|| OneProcessor::of(&plan)).flatten().map(Arc::new);
    let runner = match Runner::new(plan) {
        Ok(runner) => with_experiments(runner, options, one.clone()),
        Err(error) => return Ran { result: Err(error), log: None },
    };
    let log = Arc::new(Log::open(options.log_dir.as_deref(), runner.run_id()));
    log.line(&format!("propagation {} run {}{name}", env!("CARGO_PKG_VERSION"), runner.run_id()));
    let progress = Arc::new(progress(Arc::clone(&log)));
    let sink = Arc::clone(&progress);
    let run_id = runner.run_id().clone();
    let opened = Arc::new(AtomicBool::new(false));
    let is_open = Arc::clone(&opened);
    let result = runner
        .with_cancellation(interruption.run.clone())
        .with_hurry(interruption.clean_up.clone())
        .with_keep(options.keep || options.cluster.detach_cleanup)
        .with_secrets(options.with_secrets)
        .with_files_by_handle(options.files_by_handle())
        .with_events(Arc::new(move |event| {
            sink.take(event);
            if matches!(event, Event::NodeReady { .. }) {
                is_open.store(true, Ordering::Relaxed);
            }
            if let (Event::Decided(report), Some(detail)) = (event, early) {
                // A reader that has gone is told of when the rest is printed.
                sink.aside(|| drop(print_decided(report, detail)));
            }
        }))
        .run(backend)
        .await;
    progress.finish();
    // A node that was opened for a plan that does not hold there is kept until then too.
    if result.is_err() && options.cluster.detach_cleanup && opened.load(Ordering::Relaxed) {
        log.line(&clean_in_background(&options.cluster, run_id.as_str(), &log));
    }
    let result = result.map(|mut report| {
        if options.cluster.detach_cleanup {
            report.cleanup.kept = vec![clean_in_background(&options.cluster, &report.run_id, &log)];
        }
        report
    });
    Ran { result, log: Some(log) }
}

/// Lets a runner try changes on simulated nodes of this machine, where that is wanted.
fn with_experiments(
    runner: Runner,
    options: &RunOptions,
    one: Option<Arc<OneProcessor>>,
) -> Runner {
    let Some(budget) = options.budget() else { return runner };
    match local() {
        Ok(bench) => runner.with_experiments(Arc::new(OnAll::new(bench, one)), budget),
        Err(error) => runner.without_bench(error.to_string()),
    }
}
