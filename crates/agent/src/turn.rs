//! Turns for looks: a hanging look may outlive the process that waited for it, and the next look would hang
//! beside it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen,
    socket, sockopt::PeerCredentials,
};
use nix::unistd::Uid;

use crate::child::timeout;
use crate::sys::now_ns;

/// A turn. It is over when the last process ends that has a copy of it: the children made meanwhile have
/// one.
#[derive(Debug)]
pub(crate) struct Turn {
    /// A listening socket. Its name, which is in no filesystem, is free when it is closed.
    _name: OwnedFd,
}

impl Turn {
    /// Takes the turn of that name in this network namespace as soon as it is free; none if it is not free by
    /// `until`. A turn of another user is not waited for: it could be kept on purpose.
    ///
    /// # Errors
    /// The errors of socket(2), bind(2) and connect(2).
    pub(crate) fn take(key: &str, until: u64) -> Result<Option<Self>, Errno> {
        let uid = Uid::effective();
        let address = UnixAddr::new_abstract(format!("propagation-probe-{uid}-{key}").as_bytes())?;
        loop {
            let socket = stream()?;
            match bind(socket.as_raw_fd(), &address) {
                Ok(()) => {
                    listen(&socket, Backlog::new(BACKLOG)?)?;
                    return Ok(Some(Self { _name: socket }));
                }
                Err(Errno::EADDRINUSE) => {}
                Err(errno) => return Err(errno),
            }
            let waiting = stream()?;
            match connect(waiting.as_raw_fd(), &address) {
                Ok(()) => {}
                // It has ended meanwhile, or has not begun to listen.
                Err(Errno::ECONNREFUSED) => {
                    if now_ns() >= until {
                        return Ok(None);
                    }
                    continue;
                }
                // Many wait already.
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(errno),
            }
            let owner = Uid::from_raw(getsockopt(&waiting, PeerCredentials)?.uid());
            if owner != uid && !owner.is_root() {
                return Ok(Some(Self { _name: waiting }));
            }
            if !ends(&waiting, until)? {
                return Ok(None);
            }
        }
    }
}

/// How many may wait for one turn.
const BACKLOG: i32 = 128;

fn stream() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// Whether the other end has closed by then.
fn ends(socket: &OwnedFd, until: u64) -> Result<bool, Errno> {
    loop {
        let left = until.saturating_sub(now_ns());
        // Nothing is sent: only the end is of interest.
        let mut descriptors = [PollFd::new(socket.as_fd(), PollFlags::empty())];
        match poll(&mut descriptors, timeout(left)) {
            Ok(0) if left == 0 => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno),
        }
    }
}
