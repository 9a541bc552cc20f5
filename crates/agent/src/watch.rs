//! Events of mounts and unmounts in the process's own namespace.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};

use crate::mounts::Proc;

/// A descriptor of mountinfo, which poll(2) reports once after every change of the mount table.
///
/// The mount events of fanotify say no more, and the end of a process with such a mark takes 5 to 25 ms: the kernel
/// waits for its reaper of marks.
#[derive(Debug)]
pub(crate) struct MountWatch(OwnedFd);

impl MountWatch {
    /// How it watches, for the consumer's log.
    pub(crate) const NAME: &str = "poll on mountinfo";

    /// Watches the mount namespace of the calling thread.
    pub(crate) fn open(proc: &Proc) -> Result<Self, Errno> {
        proc.of_thread("mountinfo").map(Self)
    }

    /// What to poll.
    pub(crate) fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(self.0.as_fd(), PollFlags::POLLPRI)
    }
}
