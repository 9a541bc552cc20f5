//! `propagation run --scenario`: runs scenario files, one after the other or several at a time.

mod results;

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures_util::{StreamExt, stream};
use propagation_backend_k8s::K8sBackend;
use propagation_core::{Backend, Error, ErrorKind, Plan, scenario};
use results::All;

use crate::args::{BackendName, RunOptions};
use crate::exit::Exit;
use crate::interrupt::Interruption;
use crate::progress::Progress;
use crate::run::{LATER, Ran, carry_out, local};

pub(crate) fn main(options: &RunOptions) -> Result<Exit, Error> {
    let on_a_cluster = options.backend == BackendName::K8s;
    let jobs = options.jobs.unwrap_or(if on_a_cluster { 1 } else { 2 });
    if on_a_cluster && jobs > 1 {
        let reason = "scenarios on one node of a cluster use the same bridge";
        return Err(Error::new(ErrorKind::InvalidInput, "read --jobs", reason)
            .with_fix("leave --jobs out: they run one after the other"));
    }
    let mut plans = read(&options.scenario)?;
    if plans.len() > 1 || !options.cluster.is_one_node() {
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
    let nodes = match &cluster {
        None => vec![Place { node: None, backend: local()? }],
        Some(cluster) => places(options, cluster).await?,
    };
    let mut all = All::new(options, plans.len() == 1 && nodes.len() == 1);
    // One after the other on each node, on several nodes at a time.
    let runs = nodes.iter().map(|place| {
        let runs = stream::iter(plans.clone());
        runs.map(|plan| one(options, plan, place, &interruption)).buffered(jobs).boxed_local()
    });
    let mut results = stream::iter(runs).flatten_unordered(options.cluster.at_a_time());
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

/// A node that scenarios run on.
struct Place {
    /// Its name, where there are several.
    node: Option<String>,
    backend: Box<dyn Backend>,
}

/// The nodes of a cluster that were asked for.
async fn places(options: &RunOptions, cluster: &K8sBackend) -> Result<Vec<Place>, Error> {
    if options.cluster.is_one_node() {
        return Ok(vec![Place { node: None, backend: Box::new(cluster.clone()) }]);
    }
    let nodes = options.cluster.nodes(cluster).await?;
    let place =
        |node: String| Place { backend: Box::new(cluster.for_node(&node)), node: Some(node) };
    Ok(nodes.into_iter().map(place).collect())
}

/// Runs one scenario. What makes it impossible here is its result.
async fn one(
    options: &RunOptions,
    plan: Plan,
    place: &Place,
    interruption: &Interruption,
) -> (String, Ran) {
    let name = match &place.node {
        Some(node) => format!("{node}/{}", name_of(&plan)),
        None => name_of(&plan).to_owned(),
    };
    if interruption.run.is_cancelled() {
        let cancelled = Error::new(ErrorKind::Cancelled, "run the scenario", "interrupted");
        return (name, Ran { result: Err(cancelled), log: None });
    }
    // On a cluster each takes seconds.
    let show = |log| match options.backend {
        BackendName::K8s if !options.shown.quiet => Progress::of_many(log, &name),
        _ => Progress::quiet(log),
    };
    let ran = carry_out(options, plan, &*place.backend, interruption, show, LATER).await;
    (name, ran)
}
