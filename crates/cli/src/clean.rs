//! `propagation clean`: removes what dead runs have left.

mod cluster;

use propagation_core::{Error, ErrorKind, RunId};

use crate::args::{BackendName, CleanOptions};
use crate::exit::Exit;

pub(crate) fn main(options: &CleanOptions) -> Result<Exit, Error> {
    options.cluster.refuse_those_of_runs()?;
    if options.cluster.all_nodes || options.cluster.selector.is_some() {
        let reason = "a clean-up looks on every node, or on those that --node names";
        return Err(Error::new(ErrorKind::InvalidInput, "read the arguments", reason)
            .with_fix("leave out --all-nodes and --selector"));
    }
    match options.backend {
        BackendName::K8s => crate::runtime()?.block_on(cluster::clean_up(options)),
        BackendName::Local => {
            options.cluster.refuse_any()?;
            if options.force {
                let reason = "--force is for runs on a cluster";
                return Err(Error::new(ErrorKind::InvalidInput, "read the arguments", reason)
                    .with_fix("leave it out, or add --backend k8s"));
            }
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
        if options.list {
            let state = if leftover.going_on { ", goes on" } else { "" };
            let processes = count(leftover.processes.len(), "process", "processes");
            let groups = match leftover.groups.len() {
                0 => String::new(),
                groups => format!(", {}", count(groups, "control group", "control groups")),
            };
            crate::output::text(&format!("run {}: {processes}{groups}{state}", leftover.run_id))?;
            continue;
        }
        let removed = runtime.block_on(propagation_backend_local::remove(&leftover.run_id))?;
        crate::output::text(&format!("run {}: {}", leftover.run_id, words(&removed)))?;
    }
    Ok(Exit::Success)
}

/// What has been done.
#[cfg(target_os = "linux")]
fn words(removed: &propagation_backend_local::Removed) -> String {
    let mut done = Vec::new();
    if removed.connections > 0 {
        let connections = count(removed.connections, "FUSE connection", "FUSE connections");
        done.push(format!("aborted {connections}"));
    }
    if !removed.processes.is_empty() {
        let processes = count(removed.processes.len(), "process", "processes");
        done.push(format!("ended {processes}, and with them its mounts and namespaces"));
    }
    if !removed.groups.is_empty() {
        let groups = count(removed.groups.len(), "control group", "control groups");
        done.push(format!("removed {groups}"));
    }
    match done.is_empty() {
        true => "has ended by itself".into(),
        false => done.join("; "),
    }
}

#[cfg(target_os = "linux")]
fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
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
