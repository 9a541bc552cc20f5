//! A child process that does one thing, may hang, and can be given up.
#![allow(unsafe_code)] // fork

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::pipe::Pipe;
use crate::sys::{Fork, exit_now, fork, in_ms, now_ns};

/// A running child and what it sends.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: Pid,
    pub(crate) pipe: Pipe,
}

impl Child {
    /// Forks a child that runs `work` with its end of a pipe and exits.
    pub(crate) fn start(work: impl FnOnce(Pipe)) -> Result<Self, Errno> {
        let (ours, theirs) = Pipe::pair()?;
        // SAFETY: the agent has one thread wherever it forks: the only other one is started when a producer
        // serves, and nothing forks after.
        match unsafe { fork() }? {
            Fork::Child => {
                drop(ours);
                work(theirs);
                exit_now(0)
            }
            Fork::Parent(pid) => {
                drop(theirs);
                Ok(Self { pid, pipe: ours })
            }
        }
    }

    /// Forks a child that answers each request with what `work` makes of it, until the parent's end
    /// of the pipe closes.
    pub(crate) fn serve<Q: DeserializeOwned, A: Serialize>(
        work: impl Fn(Q) -> A,
    ) -> Result<Self, Errno> {
        Self::start(|mut pipe| {
            while let Ok(Some(request)) = pipe.receive() {
                if pipe.send(&work(request)).is_err() {
                    break;
                }
            }
        })
    }

    /// Kills the child, with its process group if it leads one, and reaps it if it dies at once. One that is stuck in the kernel stays until
    /// its FUSE connection ends; process 1 of the pid namespace reaps it then.
    pub(crate) fn give_up(&self) {
        let _ = killpg(self.pid, Signal::SIGKILL);
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
    }
}

/// Runs `work` in a child and returns its value, or `None` when the deadline passes first.
///
/// # Errors
/// When no child can be made, or it dies without an answer (`ECHILD`).
pub(crate) fn within<T: Serialize + DeserializeOwned>(
    deadline_ms: u64,
    work: impl FnOnce() -> T,
) -> Result<Option<T>, Errno> {
    let mut child = Child::start(|pipe| {
        // A parent that has gone needs no answer.
        let _ = pipe.send(&work());
    })?;
    let end = in_ms(deadline_ms);
    loop {
        if let Some(value) = child.pipe.next()? {
            let _ = waitpid(child.pid, None);
            return Ok(Some(value));
        }
        if child.pipe.is_closed() {
            let _ = waitpid(child.pid, None);
            return Err(Errno::ECHILD);
        }
        let left = end.saturating_sub(now_ns());
        if left == 0 {
            child.give_up();
            return Ok(None);
        }
        wait_readable(&child.pipe, left)?;
        child.pipe.fill(false)?;
    }
}

fn wait_readable(pipe: &Pipe, nanoseconds: u64) -> Result<(), Errno> {
    let mut descriptors = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    match poll(&mut descriptors, timeout(nanoseconds)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// A poll timeout, rounded up to the next millisecond.
pub(crate) fn timeout(nanoseconds: u64) -> PollTimeout {
    let milliseconds = i32::try_from(nanoseconds.div_ceil(1_000_000)).unwrap_or(i32::MAX);
    PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
}
