//! Runs one plan on one node, with a log of its own.

use std::sync::Arc;

use propagation_core::{Backend, Error, Plan, Report, Runner};

use crate::args::run::RunOptions;
use crate::interrupt::Interruption;
use crate::log::Log;
use crate::progress::Progress;
use crate::targets::local;

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
