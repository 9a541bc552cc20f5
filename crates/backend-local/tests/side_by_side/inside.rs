//! Acting in another namespace: this program again, with one thread, told what to do by its only
//! argument.
//!
//! ```text
//! test                                  the same program, `--inside JOB`
//!   |  --- Job (JSON, an argument) ------>  |   enters the namespaces, does one step
//!   |  <-- exit code 0 ------------------  |   it was done
//!   |  <-- exit code 1, words on stderr -  |   it was not
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

/// The word that makes a run of the test program such a helper.
pub(super) const WORD: &str = "--inside";

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// Mounts a tmpfs that calls its source `source`.
    Mount { source: String, at: String },
    /// Takes the topmost mount away, busy or not.
    Unmount { at: String },
    /// Makes one mount read-only; its filesystem stays as it is elsewhere.
    ReadOnly { at: String },
    /// Runs a program to its end; nothing of what it prints is kept.
    Run { program: String, arguments: Vec<String> },
}

/// A step, and where to do it.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    mount_namespace: PathBuf,
    /// For what the step starts; needed by a program that looks at /proc/self.
    pid_namespace: Option<PathBuf>,
    step: Step,
}

/// Does a step in the mount namespace of the process whose directory in some /proc is `process`; a
/// program that is run is in its pid namespace too.
///
/// # Errors
/// With the step and its own words.
pub(super) fn act(process: &Path, step: Step) -> Result<(), String> {
    let pid_namespace = matches!(step, Step::Run { .. }).then(|| process.join("ns/pid"));
    let job = Job { mount_namespace: process.join("ns/mnt"), pid_namespace, step };
    let failed = |why: String| format!("{:?} in {}: {why}", job.step, process.display());
    let text = serde_json::to_string(&job).map_err(|e| failed(e.to_string()))?;
    let program = std::env::current_exe().map_err(|e| failed(e.to_string()))?;
    let output = Command::new(program)
        .args([WORD, &text])
        .output()
        .map_err(|e| failed(format!("start the helper: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// The helper's whole life.
pub(super) fn main(job: &str) -> ExitCode {
    match serde_json::from_str(job).map_err(|e| e.to_string()).and_then(|job| carry_out(&job)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            eprintln!("{words}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(job: &Job) -> Result<(), String> {
    let open = |path: &Path| File::open(path).map_err(|e| format!("open {}: {e}", path.display()));
    // Both before either is entered: afterwards the paths mean something else.
    let mounts = open(&job.mount_namespace)?;
    let pids = job.pid_namespace.as_deref().map(open).transpose()?;
    if let Some(pids) = pids {
        setns(pids, CloneFlags::CLONE_NEWPID).map_err(|e| format!("setns(CLONE_NEWPID): {e}"))?;
    }
    setns(mounts, CloneFlags::CLONE_NEWNS).map_err(|e| format!("setns(CLONE_NEWNS): {e}"))?;
    let no_text = None::<&str>;
    match &job.step {
        Step::Mount { source, at } => {
            mount(Some(source.as_str()), at.as_str(), Some("tmpfs"), MsFlags::empty(), no_text)
                .map_err(|e| format!("mount(2): {e}"))
        }
        Step::Unmount { at } => {
            let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
            umount2(at.as_str(), flags).map_err(|e| format!("umount2(2): {e}"))
        }
        Step::ReadOnly { at } => {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            mount(no_text, at.as_str(), no_text, flags, no_text)
                .map_err(|e| format!("mount(2): {e}"))
        }
        Step::Run { program, arguments } => run(program, arguments),
    }
}

fn run(program: &str, arguments: &[String]) -> Result<(), String> {
    // A container that a runtime detaches keeps the runtime's standard files: no pipes here, or
    // their reader waits for the container.
    let status = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|e| format!("start {program}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program}: {status}")) }
}
