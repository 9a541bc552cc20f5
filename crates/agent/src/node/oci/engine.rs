//! The runtime's program: identifies it and calls it without control groups.
#![allow(unsafe_code)] // the number of a descriptor in a forked child

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mountinfo::MountEntry;
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitStatus, waitpid};
use propagation_model::ErrorKind;
use propagation_model::plan::RuntimeSpec;
use propagation_protocol::Failure;
use serde::Deserialize;

use super::super::root::runtime_on_node;
use crate::child::Child;
use crate::failure::{errno_text, failure, system};
use crate::mounts::{Proc, errno_of, propagate_recursive, remount_read_only, tmpfs};
use crate::pipe::Pipe;
use crate::run_program;
use crate::sys::{duplicate_above, duplicate_onto};

/// Where runtimes keep what they know of their containers: on the node.
const STATE: &str = "/run/propagation/runtime-state";

/// The number of the first descriptor that a runtime hands on to the container's program.
pub(super) const HANDED_ON: i32 = 3;

/// Time for a runtime to print its version, in milliseconds: far above the time on a busy machine.
const VERSION_MS: u64 = 10_000;

/// Where systemd mounts version 2 of the control groups beside version 1.
const HYBRID: &str = "/sys/fs/cgroup/unified";

/// The family of a runtime, which decides its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// opencontainers/runc.
    Runc,
    /// containers/crun.
    Crun,
}

impl Kind {
    /// By the first line that it prints for `--version`.
    fn of(title: &str) -> Option<Self> {
        match title.split_whitespace().next()? {
            "runc" => Some(Self::Runc),
            "crun" => Some(Self::Crun),
            _ => None,
        }
    }
}

/// A runtime that can make containers on this node.
#[derive(Debug, Clone)]
pub(in super::super) struct Engine {
    program: PathBuf,
    kind: Kind,
    /// Begins the names of its containers, so that what it might leave is found by the run.
    pub(super) prefix: String,
}

impl Engine {
    /// Asks the runtime of the node for its version.
    ///
    /// # Errors
    /// `Unsupported` when it does not run here, or when control groups cannot be withheld from it.
    pub(super) fn open(runtime: &RuntimeSpec, run_id: &str) -> Result<Self, Failure> {
        let program = runtime_on_node(runtime);
        let operation = format!("use the runtime {}", runtime.engine);
        let words = [program.to_string_lossy().into_owned(), "--version".to_owned()];
        let ran = run_program::run(&words, &BTreeMap::new(), VERSION_MS)
            .map_err(|errno| system(operation.clone(), errno))?;
        let refuse = |reason: String, fix: &str| {
            Err(failure(ErrorKind::Unsupported, operation.clone(), reason, Some(fix)))
        };
        let said = ran.output.trim();
        if ran.exit_code() != Some(0) {
            let reason = format!("`--version` of it did not succeed: {said}");
            return refuse(reason, "name a runtime that runs on this machine");
        }
        let title = said.lines().next().unwrap_or_default();
        match Kind::of(title) {
            Some(kind) => Ok(Self { program, kind, prefix: format!("propagation-{run_id}") }),
            None => refuse(
                format!("it calls itself {title:?}, and its options are not known"),
                "name a runc or a crun",
            ),
        }
    }

    /// Runs the runtime to its end, in the mount namespace of the caller as far as propagation goes.
    /// A descriptor that it is to hand on gets the number [`HANDED_ON`].
    ///
    /// # Errors
    /// With the runtime's own words.
    pub(super) fn call(
        &self,
        bundle: &Path,
        words: &[&str],
        keep: Option<&Pipe>,
    ) -> Result<(), String> {
        let failed = |errno| format!("start {}: {}", self.program.display(), errno_text(errno));
        let mut child = self.start(bundle, words, keep).map_err(failed)?;
        let before_exec = child.pipe.receive::<String>().map_err(failed)?;
        let status = waitpid(child.pid, None).map_err(failed)?;
        match (before_exec, status) {
            (Some(text), _) => Err(text),
            (None, WaitStatus::Exited(_, 0)) => Ok(()),
            (None, status) => {
                let log = fs::read_to_string(log_of(bundle)).unwrap_or_default();
                Err(last_error(&log).unwrap_or_else(|| {
                    format!("{} {} ended: {status:?}", self.program.display(), words[0])
                }))
            }
        }
    }

    /// Starts the runtime. The child says why it could not be executed, or nothing.
    ///
    /// # Errors
    /// When no child can be made.
    pub(super) fn start(
        &self,
        bundle: &Path,
        words: &[&str],
        keep: Option<&Pipe>,
    ) -> Result<Child, Errno> {
        Child::start(|pipe| {
            // Out of the way of the number that is handed on.
            let high = match duplicate_above(pipe.as_fd(), 64) {
                Ok(high) => Pipe::new(high),
                Err(errno) => {
                    let _ = pipe.send(&format!("duplicate a descriptor: {}", errno_text(errno)));
                    return;
                }
            };
            let Err(text) = self.execute(bundle, words, keep);
            let _ = high.send(&text);
        })
    }

    /// In a child: becomes the runtime. Returns only when it cannot, with the reason.
    fn execute(
        &self,
        bundle: &Path,
        words: &[&str],
        keep: Option<&Pipe>,
    ) -> Result<Infallible, String> {
        let failed = |what: &'static str| move |errno| format!("{what}: {}", errno_text(errno));
        // Whoever waits for it may be given up; the container's process does not inherit this.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("tie the runtime to its caller"))?;
        SigSet::all().thread_unblock().map_err(failed("unblock signals"))?;
        self.withhold_cgroups()?;
        if let Some(pipe) = keep {
            // SAFETY: this process becomes another program, and uses nothing else that has the number.
            let handed = unsafe { duplicate_onto(pipe.as_fd(), HANDED_ON) };
            std::mem::forget(handed.map_err(failed("hand on a descriptor"))?);
        }
        let program = self.program.to_string_lossy().into_owned();
        let words = words.iter().map(|&word| word.to_owned());
        let words: Vec<_> =
            std::iter::once(program).chain(self.options(bundle)).chain(words).collect();
        // A container keeps the standard files of the runtime that detaches from it.
        let error = run_program::command(&words, &BTreeMap::new())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .exec();
        Err(format!("execute {}: {}", self.program.display(), errno_text(errno_of(&error))))
    }

    /// The options before the command.
    fn options(&self, bundle: &Path) -> Vec<String> {
        let cgroups = match self.kind {
            Kind::Runc => "--rootless=true",
            Kind::Crun => "--cgroup-manager=disabled",
        };
        vec![
            format!("--root={STATE}"),
            format!("--log={}", log_of(bundle).display()),
            "--log-format=json".into(),
            cgroups.into(),
        ]
    }

    /// Control groups belong to the machine, and would stay if the node were killed, so the runtime gets none. It
    /// runs in a copy of its mount namespace without them. Copies of shared mounts are their peers, copies of
    /// slaves have the same masters, so propagation does not change.
    fn withhold_cgroups(&self) -> Result<(), String> {
        let failed = |errno| format!("withhold control groups: {}", errno_text(errno));
        unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
        propagate_recursive(Path::new("/sys"), MsFlags::MS_PRIVATE).map_err(failed)?;
        match self.kind {
            // It makes do where it may not make them and was not told to.
            Kind::Runc => {
                let table = Proc::open().and_then(|proc| proc.mount_table());
                let table = table.map_err(|f| format!("{}: {}", f.operation, f.reason))?;
                let groups = |mount: &&MountEntry| mount.fs_type.starts_with("cgroup");
                for mount in table.iter().filter(groups) {
                    let at = mount.mount_point.to_string_lossy();
                    remount_read_only(Path::new(&*at)).map_err(failed)?;
                }
            }
            // Even when it is told to use none, it refuses version 2 with controllers beside version 1.
            Kind::Crun if Path::new(HYBRID).is_dir() => {
                tmpfs(Path::new(HYBRID), "mode=755").map_err(failed)?;
            }
            Kind::Crun => {}
        }
        Ok(())
    }
}

fn log_of(bundle: &Path) -> PathBuf {
    bundle.join("log")
}

/// A line of a runtime's log.
#[derive(Debug, Deserialize)]
struct Line {
    level: String,
    msg: String,
}

/// What a runtime has logged last as an error.
fn last_error(log: &str) -> Option<String> {
    let mut lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines.find(|line| line.level == "error").map(|line| line.msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_known_by_what_it_calls_itself() {
        assert_eq!(Kind::of("runc version 1.1.5+ds1"), Some(Kind::Runc));
        assert_eq!(Kind::of("crun version 1.8.1"), Some(Kind::Crun));
        assert_eq!(Kind::of("youki version 0.5.3"), None);
        assert_eq!(Kind::of(""), None);
    }

    #[test]
    fn the_last_error_is_the_runtimes_word() {
        let log = r#"{"level":"warning","msg":"first","time":"t"}
{"level":"error","msg":"runc create failed: no such file","time":"t"}
not json
"#;
        assert_eq!(last_error(log).as_deref(), Some("runc create failed: no such file"));
        assert_eq!(last_error(""), None);
    }
}
