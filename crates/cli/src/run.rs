//! `propagation run`: every plan on every node, several at a time.

use std::collections::BTreeMap;

use futures_util::{Stream, StreamExt, stream};
use propagation_core::{Backend, Error, ErrorKind, Plan};

use crate::args::BackendName;
use crate::args::run::{RunOptions, Several};
use crate::execute::{Ran, carry_out};
use crate::exit::Exit;
use crate::files::make_directory;
use crate::interrupt::Interruption;
use crate::plans;
use crate::progress::Progress;
use crate::results::Results;
use crate::runtime::{allow_a_run, runtime};
use crate::targets::Targets;

pub(crate) fn main(options: &RunOptions) -> Result<Exit, Error> {
    let jobs = check(options)?;
    allow_a_run()?;
    if let Some(directory) = &options.report {
        make_directory(directory, "--report")?;
    }
    let plans = plans::of(options)?;
    let several = match (options.scenario.is_empty(), options.cluster.is_one_node()) {
        (true, false) => Some(Several::Nodes),
        (false, false) => Some(Several::Scenarios),
        (true, true) => None,
        (false, true) => Some(Several::Scenarios).filter(|_| plans.len() > 1),
    };
    if several.is_some() {
        options.format_of_several()?;
    }
    runtime()?.block_on(run(options, plans, several, usize::from(jobs)))
}

/// Refuses options that do not go together; returns how many runs may go on at a time on one node.
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
        return Ok(1);
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
    let targets = Targets::of(options.backend, &options.cluster, options.shown.quiet).await?;
    let mut results = Results::new(options, several);
    // One after the other on each node, on several nodes at a time.
    let (plans, interrupted_by) = (&plans, &interruption);
    let runs = targets.nodes().map(|(node, backend)| {
        let runs = plans.iter().cloned();
        let runs = runs.map(move |plan| one(options, node, plan, backend, several, interrupted_by));
        let runs = runs.enumerate().map(async |(number, run)| (number, run.await));
        in_order(stream::iter(runs).buffer_unordered(jobs)).boxed_local()
    });
    let mut runs = stream::iter(runs).flatten_unordered(options.cluster.at_a_time());
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

/// Results in the order of their numbers, from 0 on. One that takes long keeps back those of later ones, not the later
/// ones themselves, as [`StreamExt::buffered`] does.
fn in_order<T>(results: impl Stream<Item = (usize, T)>) -> impl Stream<Item = T> {
    let (mut next, mut early) = (0, BTreeMap::new());
    let in_order = results.map(move |(number, result)| {
        early.insert(number, result);
        let ready: Vec<_> = std::iter::from_fn(|| {
            let result = early.remove(&next)?;
            next += 1;
            Some(result)
        })
        .collect();
        stream::iter(ready)
    });
    in_order.flatten()
}

/// Runs one plan on one node. What makes it impossible there is its result.
async fn one(
    options: &RunOptions,
    node: Option<&str>,
    plan: Plan,
    backend: &dyn Backend,
    several: Option<Several>,
    interruption: &Interruption,
) -> (String, Ran) {
    let of_plan = plans::name_of(&plan);
    let name = match node {
        Some(node) if several == Some(Several::Scenarios) => format!("{node}/{of_plan}"),
        Some(node) => node.to_owned(),
        None => of_plan.to_owned(),
    };
    if interruption.run.is_cancelled() {
        let cancelled = Error::new(ErrorKind::Cancelled, "run the plan", "interrupted");
        return (name, Ran { result: Err(cancelled), log: None });
    }
    let of_scenario = !options.scenario.is_empty();
    let show = |log| match node {
        _ if options.shown.quiet => Progress::quiet(log),
        // On a cluster each takes seconds.
        _ if of_scenario && options.backend == BackendName::K8s => Progress::of_many(log, &name),
        _ if of_scenario => Progress::quiet(log),
        Some(node) => Progress::of_many(log, node),
        None => Progress::new(log, 5),
    };
    let early = options.is_told_early(several).then(|| options.shown.detail());
    let ran = carry_out(options, plan, backend, interruption, show, early).await;
    (name, ran)
}
