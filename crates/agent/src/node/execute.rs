//! Running a program on a simulated node, or in a container on it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::unistd::Pid;
use propagation_model::program::{Executed, ProgramState};
use propagation_protocol::{Failure, Place};

use super::capabilities::drop_all_but;
use super::programs::Container;
use super::simulated::Simulated;
use crate::failure::system;
use crate::mounts::to_nix;
use crate::run_program;

impl Simulated {
    /// Runs a program in the mount namespace of a place.
    pub(super) fn run_program(
        &self,
        place: &Place,
        command: &[String],
        deadline_ms: u64,
    ) -> Result<Executed, Failure> {
        let words = format!("run {}", command.join(" "));
        let failed = |errno| system(words.clone(), errno);
        let view = self.view_of(place)?;
        let init = self.apart_in(place);
        // Opened before: its number may be another's afterwards.
        let watched = init.map(watch_end).transpose();
        let enter = || {
            if let Some(pid) = init {
                let processes = self.proc.open_file(&format!("{pid}/ns/pid"))?;
                // For the children of this process.
                setns(processes, CloneFlags::CLONE_NEWPID)?;
            }
            view.enter()?;
            // What the program of an unprivileged container may not do, no other program in it may.
            if let Place::Container(id, _) = place
                && let Some(spec) = self.containers.get(id).map(Container::spec)
                && !spec.privileged
                && !spec.host
            {
                drop_all_but(&spec.capabilities)?;
            }
            prctl::set_no_new_privs()
        };
        let ran = watched.and_then(|watched| {
            let ran = run_program::run_after(command, &BTreeMap::new(), deadline_ms, enter);
            ran.map(|executed| (executed, watched))
        });
        let killed = || ProgramState::Signaled { signal: propagation_model::Signal::SIGKILL };
        match ran {
            // Its pid namespace was gone before the program was in it.
            Err(Errno::ENOENT | Errno::ESRCH) if init.is_some() => {
                Ok(Executed { state: Some(killed()), output: CONTAINER_ENDED.into() })
            }
            Err(errno) => Err(failed(errno)),
            Ok((mut executed, watched)) => {
                let cut_short = executed.state == Some(killed())
                    || executed.exit_code() == Some(run_program::NOT_STARTED);
                if cut_short && watched.is_some_and(|watched| ends(&watched)) {
                    executed.output.push_str(CONTAINER_ENDED);
                }
                Ok(executed)
            }
        }
    }

    /// Process 1 of a container with a /proc of its own, in which nothing finds itself that runs outside:
    /// one that a runtime has made.
    fn apart_in(&self, place: &Place) -> Option<Pid> {
        let Place::Container(id, _) = place else { return None };
        self.engine.as_ref()?;
        self.containers.get(id)?.pid()
    }
}

/// What is said of a program that its container took with it.
const CONTAINER_ENDED: &str = "its container ended\n";

/// A descriptor that becomes ready when a process ends.
fn watch_end(pid: Pid) -> Result<OwnedFd, Errno> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(Errno::ESRCH)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).map_err(to_nix)
}

/// Whether a process ends: process 1 of a pid namespace waits for those that it takes with it.
fn ends(watched: &OwnedFd) -> bool {
    /// Far above what it takes, in milliseconds.
    const LIMIT_MS: u16 = 2_000;
    let mut descriptors = [PollFd::new(watched.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut descriptors, PollTimeout::from(LIMIT_MS)), Ok(ready) if ready > 0)
}
