//! `propagation run --scenario`: runs scenario files, one after the other or several at a time.

mod results;

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures_util::{StreamExt, stream};
use propagation_core::{Backend, Error, ErrorKind, Plan, scenario};
use results::All;

use crate::args::{BackendName, RunOptions};
use crate::exit::Exit;
use crate::interrupt::Interruption;
use crate::progress::Progress;
use crate::run::{Ran, carry_out, local};

pub(crate) fn main(options: &RunOptions) -> Result<Exit, Error> {
    let on_a_cluster = options.backend == BackendName::K8s;
    if !options.cluster.is_one_node() {
        let reason = "scenarios run on one node";
        return Err(Error::new(ErrorKind::InvalidInput, "run scenarios", reason)
            .with_fix("name it with --node NAME, or leave --all-nodes and --selector out"));
    }
    let jobs = options.jobs.unwrap_or(if on_a_cluster { 1 } else { 2 });
    if on_a_cluster && jobs > 1 {
        let reason = "scenarios on one node of a cluster use the same bridge";
        return Err(Error::new(ErrorKind::InvalidInput, "read --jobs", reason)
            .with_fix("leave --jobs out: they run one after the other"));
    }
    let mut plans = read(&options.scenario)?;
    if plans.len() > 1 {
        options.format_of_several()?;
    }
    for plan in &mut plans {
        plan.deadlines = plan.deadlines.times(options.patience);
        options.limit(plan);
        if let Some(runtime) = &options.runtime {
            plan.node.runtime.engine.clone_from(runtime);
        }
    }
    crate::runtime()?.block_on(run(options, plans, usize::from(jobs)))
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

async fn run(options: &RunOptions, plans: Vec<Plan>, jobs: usize) -> Result<Exit, Error> {
    let interruption = Interruption::default();
    let interrupted = interruption.by_signals()?;
    let cluster = match options.backend {
        BackendName::Local => None,
        BackendName::K8s => Some(options.cluster.backend().await?),
    };
    let simulated;
    let backend: &dyn Backend = match &cluster {
        Some(cluster) => cluster,
        None => {
            simulated = local()?;
            &*simulated
        }
    };
    let mut all = All::new(options, plans.len() == 1);
    let mut results =
        stream::iter(plans).map(|plan| one(options, plan, backend, &interruption)).buffered(jobs);
    let mut failure = None;
    while let Some((name, ran)) = results.next().await {
        if let Err(error) = all.add(&name, ran) {
            // What runs is cleaned up before the program ends.
            interruption.run.cancel();
            failure.get_or_insert(error);
        }
    }
    if let Some(cluster) = &cluster {
        interruption.settle(cluster).await;
    }
    interrupted.abort();
    if let Some(error) = failure {
        return Err(error);
    }
    all.finish()?;
    if interruption.run.is_cancelled() {
        return Ok(Exit::Interrupted);
    }
    all.exit()
}

/// Runs one scenario. What makes it impossible here is its result.
async fn one(
    options: &RunOptions,
    plan: Plan,
    backend: &dyn Backend,
    interruption: &Interruption,
) -> (String, Ran) {
    let name = name_of(&plan).to_owned();
    if interruption.run.is_cancelled() {
        let cancelled = Error::new(ErrorKind::Cancelled, "run the scenario", "interrupted");
        return (name, Ran { result: Err(cancelled), log: None });
    }
    let ran = carry_out(options, plan, backend, interruption, Progress::quiet).await;
    (name, ran)
}
