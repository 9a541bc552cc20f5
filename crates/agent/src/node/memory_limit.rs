//! A memory limit for one process, so that the kernel kills it when it outgrows it: a control group of
//! version 1 or 2, named after the run. The process outside the node makes it and takes it away.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use propagation_model::ErrorKind;
use propagation_protocol::Failure;

use super::apart::apart;
use crate::failure::{errno_text, failure};
use crate::mounts::{errno_of, writable};

/// Where control groups are.
const ROOT: &str = "/sys/fs/cgroup";

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
        let root = Path::new(ROOT);
        let (parent, limit, events) = if root.join("memory/memory.limit_in_bytes").exists() {
            (root.join("memory"), "memory.limit_in_bytes", "memory.oom_control")
        } else {
            (root.to_owned(), "memory.max", "memory.events")
        };
        let made = Self { directory: parent.join(name), events };
        let refuse = |what: &str, path: &Path, error: &std::io::Error| {
            let reason = format!("{what} {}: {}", path.display(), errno_text(errno_of(error)));
            let fix = "run as root where control groups of memory can be written";
            failure(ErrorKind::Unsupported, "limit the memory of the daemon", reason, Some(fix))
        };
        apart("make a control group", || {
            // What cannot be made writable says so at the first write.
            let _ = writable(root);
            fs::create_dir(&made.directory)
                .map_err(|error| refuse("make", &made.directory, &error))?;
            if !made.directory.join(limit).exists() {
                // As where nothing like systemd has handed it on.
                let reason = format!("groups below {ROOT} have no memory controller");
                let fix = "echo +memory > /sys/fs/cgroup/cgroup.subtree_control";
                let operation = "limit the memory of the daemon";
                return Err(failure(ErrorKind::Unsupported, operation, reason, Some(fix)));
            }
            let files = [(limit, LIMIT_BYTES.to_string()), ("cgroup.procs", pid.to_string())];
            for (file, value) in files {
                let path = made.directory.join(file);
                fs::write(&path, value).map_err(|error| refuse("write", &path, &error))?;
            }
            Ok(())
        })?;
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
    /// One that still has processes stays, and is found by the name of the run.
    fn drop(&mut self) {
        let _ = apart("remove a control group", || {
            let _ = writable(Path::new(ROOT));
            let _ = fs::remove_dir(&self.directory);
            Ok(())
        });
    }
}
