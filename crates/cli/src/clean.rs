//! `propagation clean`: removes what dead runs have left.

#[cfg(target_os = "linux")]
use propagation_core::ErrorKind;
use propagation_core::{Error, RunId};

use crate::args::{BackendName, CleanOptions};
use crate::exit::Exit;

pub(crate) fn main(options: &CleanOptions) -> Result<Exit, Error> {
    options.cluster.refuse_those_of_runs()?;
    match options.backend {
        BackendName::K8s => crate::runtime()?.block_on(crate::cluster::clean_up(options)),
        BackendName::Local => {
            options.cluster.refuse_any()?;
            local(options)
        }
    }
}

#[cfg(target_os = "linux")]
fn local(options: &CleanOptions) -> Result<Exit, Error> {
    let wanted = options.run_id.as_deref().map(RunId::parse).transpose()?;
    let mut found = propagation_backend_local::leftovers()?;
    found.retain(|leftover| match &wanted {
        Some(run_id) => leftover.run_id == *run_id,
        None => options.all || options.list || !leftover.going_on,
    });
    if found.is_empty() {
        return match &wanted {
            Some(run_id) => Err(unknown(run_id)),
            None => crate::output::text("nothing is left").map(|()| Exit::Success),
        };
    }
    let runtime = crate::runtime()?;
    for leftover in found {
        let count = leftover.processes.len();
        if options.list {
            let state = if leftover.going_on { ", goes on" } else { "" };
            crate::output::text(&format!("run {}: {count} processes{state}", leftover.run_id))?;
            continue;
        }
        runtime.block_on(propagation_backend_local::remove(&leftover.run_id))?;
        crate::output::text(&format!(
            "run {}: ended {count} processes, and with them its mounts and namespaces",
            leftover.run_id
        ))?;
    }
    Ok(Exit::Success)
}

#[cfg(target_os = "linux")]
fn unknown(run: &RunId) -> Error {
    let reason = "nothing of it is on this machine";
    Error::new(ErrorKind::InvalidInput, format!("clean run {run}"), reason)
        .with_fix("list what is there: propagation clean --list")
}

#[cfg(not(target_os = "linux"))]
fn local(options: &CleanOptions) -> Result<Exit, Error> {
    options.run_id.as_deref().map(RunId::parse).transpose()?;
    crate::output::text("nothing is left: this system has no local runs")?;
    Ok(Exit::Success)
}
