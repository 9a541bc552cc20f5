//! FUSE connections, and the outcomes of accesses through them.

use crate::errno::Errno;
use crate::marker::{MARKER_FILE, Marker};

/// Whether the daemon of a connection answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Daemon {
    /// It answers.
    Serves,
    /// It is alive and does not answer.
    Stopped,
    /// It answers this many milliseconds later.
    Slow(u64),
    /// It answers every request with this error.
    Fails(Errno),
    /// It is gone, and its connection with it, for every holder of the superblock.
    Gone,
}

impl Daemon {
    /// A daemon that answers with an errno; `NONE` ends that.
    pub(super) fn answering(errno: Errno) -> Self {
        match errno {
            Errno::NONE => Self::Serves,
            errno => Self::Fails(errno),
        }
    }
}

/// One FUSE connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) daemon: Daemon,
    pub(super) marker: Marker,
    /// UID that mounted it.
    pub(super) owner: u32,
    /// Whether other users are let in.
    pub(super) allow_other: bool,
}

/// Why an access gives no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// The call fails with this errno.
    Errno(Errno),
    /// The call does not return.
    Hang,
}

impl Connection {
    /// Outcome of an access by `uid`, whatever the file: the kernel checks the user before it asks the
    /// daemon, and root is no exception.
    pub(super) fn enter(&self, uid: u32) -> Result<(), Denied> {
        match self.daemon {
            _ if !self.allow_other && uid != self.owner => Err(Denied::Errno(Errno::EACCES)),
            Daemon::Serves | Daemon::Slow(_) => Ok(()),
            Daemon::Fails(errno) => Err(Denied::Errno(errno)),
            Daemon::Stopped => Err(Denied::Hang),
            Daemon::Gone => Err(Denied::Errno(Errno::ENOTCONN)),
        }
    }

    /// Delay of its answers, in milliseconds.
    pub(super) fn delay_ms(&self) -> u64 {
        match self.daemon {
            Daemon::Slow(ms) => ms,
            _ => 0,
        }
    }

    /// The content of a file of the mount.
    pub(super) fn read(&self, path: &str, uid: u32) -> Result<String, Denied> {
        self.enter(uid)?;
        match path.trim_start_matches('/') {
            MARKER_FILE => Ok(self.marker.render()),
            _ => Err(Denied::Errno(Errno::ENOENT)),
        }
    }
}
