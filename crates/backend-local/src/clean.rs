//! Finding and removing what a dead run has left, from nothing but the run ids.
//!
//! A simulated node leaves nothing but processes: its mounts, directories and namespaces live as
//! long as they do. Every process of a node has the run id in its command line.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use propagation_core::{Error, ErrorKind, RunId};

/// What is left of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The run.
    pub run_id: RunId,
    /// Its processes.
    pub processes: Vec<i32>,
}

/// How long killed processes may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// What is left of runs on this machine, as far as the caller may see. A run that goes on right now
/// is among them.
///
/// # Errors
/// [`ErrorKind::Environment`] when /proc cannot be read.
pub fn leftovers() -> Result<Vec<Leftover>, Error> {
    let failed =
        |error: std::io::Error| Error::new(ErrorKind::Environment, "read /proc", error.to_string());
    let mut runs: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").map_err(failed)?.filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that ends meanwhile has no command line any more.
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if let Some(run_id) = run_of(&command) {
            runs.entry(run_id).or_default().push(pid);
        }
    }
    Ok(runs
        .into_iter()
        .filter_map(|(run_id, processes)| {
            Some(Leftover { run_id: RunId::parse(&run_id).ok()?, processes })
        })
        .collect())
}

/// The run that an agent's command line belongs to.
fn run_of(command: &[u8]) -> Option<String> {
    let mut words = command.split(|byte| *byte == 0);
    let ours = words.next()? == propagation_agent_embed::NAME.as_bytes()
        && words.next()? == b"node"
        && words.next()? == b"--run-id";
    ours.then(|| words.next().map(|id| String::from_utf8_lossy(id).into_owned()))?
}

/// Removes what is left of a run: kills its processes and waits until they are gone, and with them
/// its namespaces and mounts. Idempotent.
///
/// # Errors
/// [`ErrorKind::Environment`] when a process belongs to another user; [`ErrorKind::Timeout`] when
/// one is stuck in the kernel.
pub async fn remove(run_id: &RunId) -> Result<Vec<i32>, Error> {
    let mut killed = Vec::new();
    let started = Instant::now();
    loop {
        let left = leftovers()?.into_iter().find(|leftover| leftover.run_id == *run_id);
        let Some(left) = left else { return Ok(killed) };
        for pid in &left.processes {
            match kill(Pid::from_raw(*pid), Signal::SIGKILL) {
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(errno) => {
                    return Err(Error::new(
                        ErrorKind::Environment,
                        format!("kill process {pid} of run {run_id}"),
                        format!("{} ({errno:?})", errno.desc()),
                    )
                    .with_fix("run `propagation clean` as the user who started the run, or as root"));
                }
            }
            if !killed.contains(pid) {
                killed.push(*pid);
            }
        }
        if started.elapsed() > GONE_WITHIN {
            return Err(Error::new(
                ErrorKind::Timeout,
                format!("end run {run_id}"),
                format!("processes {:?} are stuck in the kernel", left.processes),
            )
            .with_fix("abort their FUSE connection: echo 1 > /sys/fs/fuse/connections/<minor>/abort"));
        }
        // Ends of processes that are not one's children cannot be waited for; look again soon.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::run_of;

    #[test]
    fn only_agents_are_found() {
        assert_eq!(
            run_of(b"propagation-agent\0node\0--run-id\x0020261123t053012-ab\0"),
            Some("20261123t053012-ab".into())
        );
        assert_eq!(run_of(b"vi\0node\0--run-id\0x\0"), None);
        assert_eq!(run_of(b"propagation-agent\0probe\0/x\0"), None);
        assert_eq!(run_of(b""), None);
    }
}
