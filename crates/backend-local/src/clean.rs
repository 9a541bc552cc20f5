//! Finding and removing what a dead run has left, from nothing but the run ids.
//!
//! A simulated node leaves nothing but processes: its mounts, directories and namespaces live as
//! long as they do. Every process of a node has the run id in its command line.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Whether the program that started it still runs: then it is not left over but going on.
    pub going_on: bool,
}

/// How long killed processes may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// The runs of which there are processes on this machine, as far as the caller may see: those that
/// are left over, and those that go on right now.
///
/// # Errors
/// [`ErrorKind::Environment`] when /proc cannot be read.
pub fn leftovers() -> Result<Vec<Leftover>, Error> {
    let runs = runs()?.into_iter();
    Ok(runs
        .map(|(run_id, (processes, parents))| {
            let going_on = parents.iter().any(|parent| runs_still(parent));
            Leftover { run_id, processes, going_on }
        })
        .collect())
}

/// The processes of a run, and the identities of who started them.
type Found = (Vec<i32>, BTreeSet<String>);

/// Every run of which there is a process.
fn runs() -> Result<BTreeMap<RunId, Found>, Error> {
    let failed =
        |error: std::io::Error| Error::new(ErrorKind::Environment, "read /proc", error.to_string());
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

/// The run that an agent's command line belongs to, and the identity of who started it.
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

/// This process: its id and when it started. The id alone may be another's later.
pub(crate) fn own_identity() -> String {
    let pid = std::process::id();
    format!("{pid}:{}", start_time(pid).unwrap_or_default())
}

/// Whether the process with this identity runs, here or in a pid namespace below: a process that
/// runs there has another id there, and the same start.
fn runs_still(identity: &str) -> bool {
    let Some((pid, started)) = identity.split_once(':') else { return false };
    let (Ok(pid), Ok(started)) = (pid.parse(), started.parse()) else { return false };
    start_time(pid) == Some(started) || processes().any(|id| is_called_below(id, pid, started))
}

/// Whether a process has this id in the pid namespace that it is in (proc(5), NSpid of status), and
/// started then.
fn is_called_below(pid: u32, below: u32, started: u64) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let last = ids.split_whitespace().skip(1).last().and_then(|id| id.parse().ok());
    last == Some(below) && start_time(pid) == Some(started)
}

/// The processes that can be seen.
fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
}

/// When a process started, in clock ticks since boot: field 22 of proc(5)'s stat. None for one that
/// has ended, reaped or not.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" { None } else { fields.nth(18)?.parse().ok() }
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
        let Some((processes, _)) = runs()?.remove(run_id) else { return Ok(killed) };
        for pid in &processes {
            match kill(Pid::from_raw(*pid), Signal::SIGKILL) {
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(errno) => {
                    return Err(Error::new(
                        ErrorKind::Environment,
                        format!("kill process {pid} of run {run_id}"),
                        format!("{} ({errno:?})", errno.desc()),
                    )
                    .with_fix(
                        "run `propagation clean` as the user who started the run, or as root",
                    ));
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
                format!("processes {:?} are stuck in the kernel", processes),
            )
            .with_fix(
                "abort their FUSE connection: echo 1 > /sys/fs/fuse/connections/<minor>/abort",
            ));
        }
        // Ends of processes that are not one's children cannot be waited for; look again soon.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use propagation_core::RunId;

    use super::{own_identity, run_of, runs_still};

    #[test]
    fn only_agents_are_found() {
        let agent = b"propagation-agent\0node\0--run-id\x0020261123t053012-ab\0--parent\x007:9\0";
        let run = RunId::parse("20261123t053012-ab").expect("a run id");
        assert_eq!(run_of(agent), Some((run, "7:9".into())));
        assert_eq!(run_of(b"vi\0node\0--run-id\0x\0--parent\0x\0"), None);
        assert_eq!(run_of(b"propagation-agent\0probe\0/x\0"), None);
        assert_eq!(run_of(b""), None);
    }

    #[test]
    fn this_process_runs_and_another_start_does_not() {
        assert!(runs_still(&own_identity()));
        assert!(!runs_still(&format!("{}:1", std::process::id())));
        assert!(!runs_still("nonsense"));
    }
}
