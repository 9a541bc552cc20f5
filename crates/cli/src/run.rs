//! `propagation run`: every plan on every node, several at a time.

use futures_util::{StreamExt, stream};
use propagation_core::{Backend, Error, ErrorKind, Plan};

use crate::args::BackendName;
use crate::args::run::RunOptions;
use crate::execute::{Ran, carry_out};
use crate::exit::Exit;
use crate::files::make_directory;
use crate::interrupt::Interruption;
use crate::plans;
use crate::progress::Progress;
use crate::results::{Results, Several};
use crate::runtime::{allow_a_run, runtime};
use crate::targets::Targets;

/// Nodes of a cluster that are run on at a time, unless the options say otherwise.
const NODES_AT_A_TIME: u16 = 8;

pub(crate) fn main(options: &RunOptions) -> Result<Exit, Error> {
    let jobs = check(options)?;
    allow_a_run()?;
    if let Some(directory) = &options.report {
        make_directory(directory, "--report")?;
    }
    let plans = plans::of(options)?;
    let several = match (options.scenario.is_empty(), options.cluster.is_one_node()) {
        (_, false) => Some(Several::Nodes),
        (true, true) => None,
        (false, true) => Some(Several::Scenarios).filter(|_| plans.len() > 1),
    };
    if several.is_some() {
        options.format_of_several()?;
    }
    runtime()?.block_on(run(options, plans, several, usize::from(jobs)))
}

/// Refuses options that do not go together; returns how many runs may go on at a time.
fn check(options: &RunOptions) -> Result<u16, Error> {
    let refuse = |operation, reason| Error::new(ErrorKind::InvalidInput, operation, reason);
    let on_a_cluster = options.backend == BackendName::K8s;
    if on_a_cluster && options.like_this_host {
        let reason = "only simulated nodes can be shaped, and a node of a cluster is what it is";
        return Err(
            refuse("use --like-this-host", reason).with_fix("leave it out, or use --backend local")
        );
    }
    if !on_a_cluster {
        options.cluster.refuse_any()?;
    }
    if options.scenario.is_empty() {
        return Ok(options.cluster.parallel.unwrap_or(NODES_AT_A_TIME));
    }
    if !options.cluster.is_one_node() {
        return Err(refuse("run scenarios", "scenarios run on one node")
            .with_fix("name it with --node NAME, or leave --all-nodes and --selector out"));
    }
    let jobs = options.jobs.unwrap_or(if on_a_cluster { 1 } else { 2 });
    if on_a_cluster && jobs > 1 {
        let reason = "scenarios on one node of a cluster use the same bridge";
        return Err(refuse("read --jobs", reason)
            .with_fix("leave --jobs out: they run one after the other"));
    }
    Ok(jobs)
}

async fn run(
    options: &RunOptions,
    mut plans: Vec<Plan>,
    several: Option<Several>,
    jobs: usize,
) -> Result<Exit, Error> {
    let interruption = Interruption::default();
    let interrupted = interruption.by_signals()?;
    if options.like_this_host {
        for plan in &mut plans {
            crate::doctor::make_like_this_host(plan).await?;
        }
    }
    let targets = Targets::of(options.backend, &options.cluster).await?;
    let mut results = Results::new(options, several);
    let runs = targets
        .nodes()
        .flat_map(|(node, backend)| plans.iter().map(move |plan| (node, backend, plan.clone())));
    let runs = runs.map(|(node, backend, plan)| one(options, node, plan, backend, &interruption));
    let mut runs = stream::iter(runs).buffered(jobs);
    let mut failure = None;
    while let Some((name, ran)) = runs.next().await {
        if let Err(error) = results.add(&name, ran) {
            // What runs is cleaned up before the program ends.
            interruption.run.cancel();
            failure.get_or_insert(error);
        }
    }
    targets.settle(&interruption).await;
    interrupted.abort();
    if let Some(error) = failure {
        return Err(error);
    }
    results.finish()?;
    results.exit(interruption.run.is_cancelled())
}

/// Runs one plan on one node. What makes it impossible there is its result.
async fn one(
    options: &RunOptions,
    node: Option<&str>,
    plan: Plan,
    backend: &dyn Backend,
    interruption: &Interruption,
) -> (String, Ran) {
    let name = node.unwrap_or(plans::name_of(&plan)).to_owned();
    if interruption.run.is_cancelled() {
        let cancelled = Error::new(ErrorKind::Cancelled, "run the plan", "interrupted");
        return (name, Ran { result: Err(cancelled), log: None });
    }
    let only_logged = options.shown.quiet || !options.scenario.is_empty();
    let show = |log| match node {
        _ if only_logged => Progress::quiet(log),
        Some(node) => Progress::of_many(log, node),
        None => Progress::new(log, 5),
    };
    let ran = carry_out(options, plan, backend, interruption, show).await;
    (name, ran)
}
