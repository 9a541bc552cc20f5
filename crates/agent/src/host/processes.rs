//! Process 1 of a container on a real node: signalling it, and how it stands.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use propagation_model::plan::Fault;
use propagation_protocol::Failure;
use rustix::process::{Signal, pidfd_send_signal};

use crate::facts::state_of;
use crate::failure::system;
use crate::mounts::{Proc, to_nix};
use crate::pipe::Pipe;
use crate::view::View;

/// One process that is process 1 of a container.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// Ready when it has ended.
    pub(super) handle: OwnedFd,
    pub(super) view: View,
    pub(super) pipe: Pipe,
    /// When it was made, and when it said that it is there.
    pub(super) process_ns: u64,
    pub(super) came_ns: u64,
    pub(super) said_its_end: bool,
}

impl Process {
    fn signal(&self, signal: Signal) -> Result<(), Errno> {
        pidfd_send_signal(&self.handle, signal).map_err(to_nix)
    }
}

/// The signal that is a fault; none for one that needs more. The program is process 1 of its container.
pub(super) fn signal_of(fault: &Fault) -> Option<Signal> {
    match fault {
        Fault::Kill | Fault::KillParent => Some(Signal::KILL),
        Fault::Terminate => Some(Signal::TERM),
        Fault::Stop => Some(Signal::STOP),
        Fault::Continue => Some(Signal::CONT),
        _ => None,
    }
}

/// Signals one process; one that has ended is not there to be signalled.
pub(super) fn send(process: &Process, signal: Signal) -> Result<(), Failure> {
    match process.signal(signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(system(format!("send {signal:?} to process {}", process.pid), errno)),
    }
}

/// Whether a process is stopped.
pub(super) fn is_stopped(proc: &Proc, pid: i32) -> bool {
    matches!(state_of(proc, &pid.to_string()), Some('T' | 't'))
}

/// Whether a process has ended, by a handle of it: everything in its pid namespace has ended with it.
pub(super) fn has_ended(handle: &OwnedFd) -> bool {
    let mut descriptors = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
    poll(&mut descriptors, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
