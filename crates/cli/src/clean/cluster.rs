//! Removes what dead runs have left on a cluster.

use propagation_backend_k8s::{K8sBackend, Leftover, Leftovers};
use propagation_core::{Error, ErrorKind, RunId};

use crate::args::CleanOptions;
use crate::exit::Exit;
use crate::output;
use crate::targets::connect;

/// Removes the remains of runs on the cluster.
pub(crate) async fn clean_up(options: &CleanOptions) -> Result<Exit, Error> {
    let wanted = options.run_id.as_deref().map(RunId::parse).transpose()?;
    let backend = connect(&options.cluster).await?;
    let Leftovers { runs: found, unknown: not_seen } =
        found(&backend, options, wanted.as_ref()).await?;
    for (node, reason) in &not_seen {
        output::text(&format!("node {node} was not looked at: {reason}"))?;
    }
    let (found, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|leftover| match &wanted {
        Some(run) => leftover.run_id == *run,
        None => options.all || options.list || !leftover.goes_on(),
    });
    for leftover in others.iter().filter(|leftover| wanted.is_none() && leftover.goes_on()) {
        let run = &leftover.run_id;
        let words = "is not touched; --all or --run-id removes it";
        output::text(&format!("run {run} goes on{} and {words}", sign_of(leftover)))?;
    }
    if found.is_empty() {
        return match &wanted {
            Some(run) => Err(unknown(run)),
            None if others.is_empty() && not_seen.is_empty() => {
                output::text("nothing is left").map(|()| Exit::Success)
            }
            None => output::text("nothing else is left").map(|()| Exit::Success),
        };
    }
    let mut exit = Exit::Success;
    for leftover in found {
        let (run, space, node) = (&leftover.run_id, &leftover.namespace, &leftover.node);
        if options.list {
            let state = match leftover.goes_on() {
                true => format!(", goes on{}", sign_of(&leftover)),
                false => String::new(),
            };
            let words = match leftover.is_recorded {
                true => {
                    format!("run {run}: namespace {space}, node {node}, {} pods", leftover.pods)
                }
                false => format!("run {run}: node {node}, without a record in the cluster"),
            };
            output::text(&format!("{words}{state}"))?;
            continue;
        }
        let mut cleanup = backend.remove(&leftover).await;
        if options.force && !cleanup.could_not.is_empty() {
            let given_up = backend.give_up(&leftover).await;
            cleanup.undone.extend(given_up.undone);
            cleanup.could_not.extend(given_up.could_not);
            cleanup.kept.extend(given_up.kept);
        }
        for line in &cleanup.undone {
            output::text(&format!("run {run}: {line}"))?;
        }
        for line in &cleanup.could_not {
            exit = Exit::Left;
            output::text(&format!("run {run}: could not {line}"))?;
        }
        for line in &cleanup.kept {
            output::text(&format!("run {run}: given up: {line}"))?;
        }
    }
    Ok(exit)
}

/// The remains of runs: also those that only a node has, unless one run or one namespace is asked for that is
/// there.
async fn found(
    backend: &K8sBackend,
    options: &CleanOptions,
    wanted: Option<&RunId>,
) -> Result<Leftovers, Error> {
    let in_cluster = backend.leftovers().await?;
    let is_there = |run: &RunId| in_cluster.iter().any(|leftover| leftover.run_id == *run);
    if options.cluster.namespace.is_some() || wanted.is_some_and(is_there) {
        return Ok(Leftovers { runs: in_cluster, ..Leftovers::default() });
    }
    backend.search(&options.cluster.node).await
}

/// The operator of a run, and its last sign of life.
fn sign_of(leftover: &Leftover) -> String {
    let sign = leftover.silent().map(|silent| format!(", last sign {} s ago", silent.as_secs()));
    format!(" ({}{})", leftover.operator(), sign.unwrap_or_default())
}

fn unknown(run: &RunId) -> Error {
    let operation = format!("clean run {run}");
    Error::new(ErrorKind::InvalidInput, operation, "nothing of it is in the cluster")
        .with_fix("list what is there: propagation clean --backend k8s --list")
}
