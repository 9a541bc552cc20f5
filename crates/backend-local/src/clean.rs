//! Finds and removes the remains of a dead run, by the run ids alone.
//!
//! A simulated node leaves only processes, and the control group of a daemon with a memory limit. Mounts,
//! directories and namespaces end with the processes. Every process of a node has the run id in its command
//! line, and the group has it in its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use propagation_core::client::finished;
use propagation_core::client::operator::runs_still;
use propagation_core::{Error, ErrorKind, RunId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What is left of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The run.
    pub run_id: RunId,
    /// Its processes.
    pub processes: Vec<i32>,
    /// Its control groups that have no process.
    pub groups: Vec<PathBuf>,
    /// Whether the program that started it still runs: then it is not left over but going on.
    pub going_on: bool,
}

/// What has been removed of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// The processes that were killed.
    pub processes: Vec<i32>,
    /// How many FUSE connections were aborted, which may have kept processes from ending.
    pub connections: usize,
    /// The control groups that were removed.
    pub groups: Vec<PathBuf>,
}

/// How long killed processes may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// The runs with processes on this machine that the caller may see: dead runs, and runs that are still going
/// on.
///
/// # Errors
/// [`ErrorKind::Environment`] when /proc cannot be read.
pub fn leftovers() -> Result<Vec<Leftover>, Error> {
    let mut runs = runs()?;
    let mut groups = empty_groups();
    for run_id in groups.keys() {
        runs.entry(run_id.clone()).or_default();
    }
    let runs = runs.into_iter();
    Ok(runs
        .map(|(run_id, (processes, parents))| {
            let going_on = parents.iter().any(|parent| runs_still(parent));
            let groups = groups.remove(&run_id).unwrap_or_default();
            Leftover { run_id, processes, groups, going_on }
        })
        .collect())
}

/// The control groups of runs without processes, by their names: `propagation-RUN-CONTAINER`.
fn empty_groups() -> BTreeMap<RunId, Vec<PathBuf>> {
    const PARENTS: [&str; 2] = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
    let mut groups: BTreeMap<RunId, Vec<PathBuf>> = BTreeMap::new();
    let entries = PARENTS.into_iter().filter_map(|parent| fs::read_dir(parent).ok()).flatten();
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let named = name.strip_prefix("propagation-").and_then(|name| name.rsplit_once('-'));
        let run_id = named.and_then(|(run, _)| RunId::parse(run).ok());
        let empty = |path: &Path| {
            fs::read(path.join("cgroup.procs")).is_ok_and(|processes| processes.is_empty())
        };
        if let Some(run_id) = run_id.filter(|_| empty(&path)) {
            groups.entry(run_id).or_default().push(path);
        }
    }
    groups
}

/// The processes of a run, and the identities of the processes that started them.
type Found = (Vec<i32>, BTreeSet<String>);

/// Every run of which there is a process.
fn runs() -> Result<BTreeMap<RunId, Found>, Error> {
    let failed =
        |error: std::io::Error| Error::from_source(ErrorKind::Environment, "read /proc", error);
    let mut runs: BTreeMap<RunId, Found> = BTreeMap::new();
    for entry in fs::read_dir("/proc").map_err(failed)?.filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that ends meanwhile has no command line any more.
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if let Some((run_id, parent)) = run_of(&command) {
            let (processes, parents) = runs.entry(run_id).or_default();
            processes.push(pid);
            parents.insert(parent);
        }
    }
    Ok(runs)
}

/// The run that an agent's command line belongs to, and the identity of the process that started it.
fn run_of(command: &[u8]) -> Option<(RunId, String)> {
    let mut words = command.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let mut expect = |word: &str| words.next().filter(|next| next == word).map(drop);
    expect(propagation_agent_embed::NAME)?;
    expect("node")?;
    expect("--run-id")?;
    let run_id = RunId::parse(&words.next()?).ok()?;
    words.next().filter(|next| next == "--parent")?;
    Some((run_id, words.next()?.into_owned()))
}

/// Removes what is left of a run: aborts its FUSE connections, kills its processes and waits until they
/// are gone, and with them its namespaces and mounts; then its control groups. Idempotent.
///
/// # Errors
/// [`ErrorKind::Environment`] when a process or a control group belongs to another user;
/// [`ErrorKind::Timeout`] when a process stays stuck in the kernel.
pub async fn remove(run_id: &RunId) -> Result<Removed, Error> {
    let run_id = run_id.clone();
    finished(tokio::task::spawn_blocking(move || end(&run_id))).await
}

fn end(run_id: &RunId) -> Result<Removed, Error> {
    let mut removed = Removed::default();
    if let Some((processes, _)) = runs()?.remove(run_id) {
        removed.connections = release(&processes);
    }
    let deadline = Instant::now() + GONE_WITHIN;
    let mut failure = None;
    // A process may make another before it is killed. One that cannot be ended may call itself the run's and be
    // another user's: the others end all the same.
    while let Some((processes, _)) = runs()?.remove(run_id) {
        let (mut signalled, mut gone) = (Vec::new(), Vec::new());
        for pid in processes {
            match signal(pid, run_id) {
                Ok(()) => signalled.push(pid),
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        for pid in signalled {
            match ends(pid, run_id, deadline) {
                Ok(true) => gone.push(pid),
                Ok(false) => drop(failure.get_or_insert_with(|| stuck(run_id, pid))),
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        if gone.is_empty() {
            break;
        }
        removed.processes.extend(gone);
    }
    for group in empty_groups().remove(run_id).unwrap_or_default() {
        match fs::remove_dir(&group) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let operation = format!("remove {}", group.display());
                return Err(Error::from_source(ErrorKind::Environment, operation, error)
                    .with_fix("run `propagation clean` as root"));
            }
            _ => removed.groups.push(group),
        }
    }
    failure.map_or(Ok(removed), Err)
}

/// Aborts the FUSE connections that processes and all below them have mounted, so that none is stuck;
/// how many. One that cannot be aborted shows when its processes do not end.
fn release(processes: &[i32]) -> usize {
    let pids: Vec<String> = processes.iter().map(ToString::to_string).collect();
    let released = propagation_agent_embed::command().and_then(|mut command| {
        command.args(["release", "--pids", &pids.join(",")]).stderr(Stdio::null()).output()
    });
    match released {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().count()
        }
        _ => 0,
    }
}

/// A handle on a process, if it is there and still the run's.
fn process(pid: i32, run_id: &RunId) -> Result<Option<OwnedFd>, Errno> {
    let id = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    match pidfd_open(id, PidfdFlags::empty()) {
        Ok(handle) => {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            Ok(run_of(&command).is_some_and(|(run, _)| run == *run_id).then_some(handle))
        }
        Err(Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Kills a process of the run; one that has ended has been killed.
fn signal(pid: i32, run_id: &RunId) -> Result<(), Error> {
    let sent = process(pid, run_id).and_then(|handle| match handle {
        Some(handle) => pidfd_send_signal(&handle, Signal::KILL),
        None => Ok(()),
    });
    match sent {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(failed(format!("kill process {pid} of run {run_id}"), errno)),
    }
}

/// Whether a process of the run has ended by then: its handle is readable when it has (pidfd_open(2)).
fn ends(pid: i32, run_id: &RunId, deadline: Instant) -> Result<bool, Error> {
    let waited = process(pid, run_id).and_then(|handle| {
        let Some(handle) = handle else { return Ok(true) };
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        let mut ended = [PollFd::new(&handle, PollFlags::IN)];
        retry_on_intr(|| poll(&mut ended, Some(&left))).map(|ready| ready > 0)
    });
    waited.map_err(|errno| failed(format!("wait for process {pid} of run {run_id}"), errno))
}

fn failed(operation: String, errno: Errno) -> Error {
    let errno = nix::errno::Errno::from_raw(errno.raw_os_error());
    Error::new(ErrorKind::Environment, operation, format!("{} ({errno:?})", errno.desc()))
        .with_fix("run `propagation clean` as the user who started the run, or as root")
}

fn stuck(run_id: &RunId, pid: i32) -> Error {
    let reason = format!("process {pid} is stuck in the kernel");
    Error::new(ErrorKind::Timeout, format!("end run {run_id}"), reason)
        .with_fix("abort their FUSE connection: echo 1 > /sys/fs/fuse/connections/<minor>/abort")
}

#[cfg(test)]
mod tests {
    use propagation_core::RunId;

    use super::run_of;

    #[test]
    fn only_agents_are_found() {
        let agent = b"propagation-agent\0node\0--run-id\x0020261123t053012-ab\0--parent\x007:9\0";
        let run = RunId::parse("20261123t053012-ab").expect("a run id");
        assert_eq!(run_of(agent), Some((run, "7:9".into())));
        assert_eq!(run_of(b"vi\0node\0--run-id\0x\0--parent\0x\0"), None);
        assert_eq!(run_of(b"propagation-agent\0probe\0/x\0"), None);
        assert_eq!(run_of(b""), None);
    }
}
