//! `propagation clean`: removes what dead runs have left.

use propagation_core::{Error, RunId};

use crate::args::{BackendName, CleanOptions};
use crate::exit::Exit;

pub(crate) fn main(options: &CleanOptions) -> Result<Exit, Error> {
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
        None => options.all || !leftover.going_on,
    });
    if found.is_empty() {
        crate::output::text("nothing is left")?;
        return Ok(Exit::Success);
    }
    let runtime = crate::runtime()?;
    for leftover in found {
        let count = leftover.processes.len();
        if options.list {
            crate::output::text(&format!("run {}: {count} processes", leftover.run_id))?;
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

#[cfg(not(target_os = "linux"))]
fn local(options: &CleanOptions) -> Result<Exit, Error> {
    options.run_id.as_deref().map(RunId::parse).transpose()?;
    crate::output::text("nothing is left: this system has no local runs")?;
    Ok(Exit::Success)
}
