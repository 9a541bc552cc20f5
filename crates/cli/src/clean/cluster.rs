//! Removes what dead runs have left on a cluster.

use propagation_backend_k8s::Leftover;
use propagation_core::{Error, ErrorKind, RunId};

use crate::args::CleanOptions;
use crate::exit::Exit;
use crate::output;
use crate::targets::connect;

/// Removes the remains of runs on the cluster.
pub(crate) async fn clean_up(options: &CleanOptions) -> Result<Exit, Error> {
    let wanted = options.run_id.as_deref().map(RunId::parse).transpose()?;
    let backend = connect(&options.cluster).await?;
    let found = backend.leftovers().await?;
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
            None if others.is_empty() => output::text("nothing is left").map(|()| Exit::Success),
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
            let words =
                format!("run {run}: namespace {space}, node {node}, {} pods", leftover.pods);
            output::text(&format!("{words}{state}"))?;
            continue;
        }
        let cleanup = backend.remove(&leftover).await;
        for line in &cleanup.undone {
            output::text(&format!("run {run}: {line}"))?;
        }
        for line in &cleanup.could_not {
            exit = Exit::Left;
            output::text(&format!("run {run}: could not {line}"))?;
        }
    }
    Ok(exit)
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
