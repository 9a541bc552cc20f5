//! A memory limit for one process, so that the kernel kills it when it outgrows it: a control group of
//! version 1 or 2, named after the run.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use propagation_model::ErrorKind;
use propagation_protocol::Failure;

use crate::failure::{errno_text, failure};
use crate::mounts::errno_of;

/// How much the process may use beyond what it has, in bytes.
const LIMIT_BYTES: u64 = 32 << 20;

/// A control group with a limit. Dropping it removes it, if it is empty by then.
#[derive(Debug)]
pub(super) struct MemoryLimit {
    directory: PathBuf,
    /// The file that counts the kernel's kills in it.
    events: &'static str,
}

impl MemoryLimit {
    /// Moves a process into a new control group with a limit.
    ///
    /// # Errors
    /// `Unsupported` where control groups cannot be written: that is said as the reason of a skip.
    pub(super) fn put(name: &str, pid: Pid) -> Result<Self, Failure> {
        let root = Path::new("/sys/fs/cgroup");
        let (parent, limit, events) = if root.join("memory/memory.limit_in_bytes").exists() {
            (root.join("memory"), "memory.limit_in_bytes", "memory.oom_control")
        } else {
            (root.to_owned(), "memory.max", "memory.events")
        };
        let directory = parent.join(name);
        let refuse = |what: &str, error: &std::io::Error| {
            let reason = format!("{what}: {}", errno_text(errno_of(error)));
            let fix = "run as root where control groups of memory can be written";
            failure(ErrorKind::Unsupported, "limit the memory of the daemon", reason, Some(fix))
        };
        fs::create_dir(&directory)
            .map_err(|error| refuse(&format!("make {}", directory.display()), &error))?;
        let made = Self { directory, events };
        let write = |file: &str, value: String| {
            let path = made.directory.join(file);
            fs::write(&path, value)
                .map_err(|error| refuse(&format!("write {}", path.display()), &error))
        };
        write(limit, LIMIT_BYTES.to_string())?;
        write("cgroup.procs", pid.to_string())?;
        Ok(made)
    }

    /// What the kernel has counted.
    pub(super) fn evidence(&self) -> String {
        let text = fs::read_to_string(self.directory.join(self.events)).unwrap_or_default();
        let kills = text.lines().find(|line| line.starts_with("oom_kill "));
        kills
            .map_or_else(|| "no kill was counted".into(), |line| format!("{}: {line}", self.events))
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // A group that is not empty stays, and is found by the name of the run.
        let _ = fs::remove_dir(&self.directory);
    }
}
