//! The held descriptor: a process that opens the marker once and keeps it.
//!
//! It sleeps in poll(2) on that descriptor. The kernel wakes it when the FUSE connection ends, and
//! what it then reads is what every program with an open file gets. It has to be a process of its
//! own: one with an open file on a FUSE mount must not fork and exec.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::Uid;
use propagation_model::marker::{MARKER_FILE, Marker};
use propagation_model::observation::Outcome;
use propagation_protocol::Seen;

use crate::child::Child;
use crate::failure::reported;
use crate::pipe::Pipe;
use crate::sys::now_ns;

/// Starts a holder; it reports once, when its descriptor has ended, and exits.
pub(crate) fn start(mountpoint: &str) -> Result<Child, Errno> {
    Child::start(|pipe| hold(mountpoint, &pipe))
}

fn hold(mountpoint: &str, pipe: &Pipe) {
    let path = Path::new(mountpoint).join(MARKER_FILE);
    let started = now_ns();
    let file = match open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(file) => file,
        Err(errno) => {
            // The mount has ended between the consumer's look and this: news all the same.
            let outcome = Outcome::errno(reported(errno), "open");
            let _ = pipe.send(&seen(started, outcome, None));
            return;
        }
    };
    loop {
        // No events are asked for: only the end of the connection (POLLERR), or of the consumer.
        let mut descriptors = [
            PollFd::new(file.as_fd(), PollFlags::empty()),
            PollFd::new(pipe.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut descriptors, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        if descriptors[1].any().unwrap_or(true) {
            return;
        }
        let started = now_ns();
        let mut content = [0; 4096];
        let (outcome, generation) = match nix::sys::uio::pread(&file, &mut content, 0) {
            Ok(length) => {
                let marker = Marker::parse(&content[..length]);
                (Outcome::Ok, marker.map(|marker| marker.generation))
            }
            Err(errno) => (Outcome::errno(reported(errno), "read"), None),
        };
        let ended = !outcome.is_ok();
        if pipe.send(&seen(started, outcome, generation)).is_err() || ended {
            return;
        }
    }
}

fn seen(started: u64, outcome: Outcome, generation: Option<u64>) -> Seen {
    let at_ns = now_ns();
    let uid = Uid::effective().as_raw();
    Seen { uid, at_ns, took_ns: at_ns - started, outcome, generation, mount: None }
}
