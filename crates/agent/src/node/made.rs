//! A container that has been made, or the refusal to make it.

use nix::errno::Errno;
use nix::unistd::Pid;
use propagation_model::program::StartRefused;

use crate::failure::{go_errno_text, reported};
use crate::pipe::Pipe;
use crate::view::View;

/// A container that has been made.
#[derive(Debug)]
pub(super) struct Made {
    /// Its mount namespaces, one for each replica.
    pub(super) views: Vec<View>,
    /// Its process, where the maker has started one.
    pub(super) process: Option<Process>,
}

/// A process of a container that waits for its role.
#[derive(Debug)]
pub(super) struct Process {
    /// Its id on the node.
    pub(super) pid: Pid,
    /// The node's end of what it reports through.
    pub(super) pipe: Pipe,
}

/// The refusal of a system call, in the words of a runtime.
pub(super) fn refused(operation: &str, errno: Errno) -> StartRefused {
    StartRefused::with(reported(errno), format!("{operation}: {}", go_errno_text(errno)))
}
