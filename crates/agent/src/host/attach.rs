//! The relay between the caller's stream (of `kubectl exec`, of ssh) and the host agent.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::{read, write};
use propagation_protocol::encode;
use propagation_protocol::host::{FromHost, Layout};

use super::{Setup, cannot_reach, dial, line, start_in_background};
use crate::child::timeout;
use crate::failure::system;
use crate::pipe::Pipe;
use crate::sys::now_ns;

/// How long a host agent that has just been started may take to listen.
const LISTENS_WITHIN_NS: u64 = 10_000_000_000;

/// How much is carried at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Carries bytes between the standard streams and the host agent of a run until either side ends;
/// with `start` the agent is started first where none serves. Returns the exit code.
pub fn attach(setup: &Setup, start: bool) -> i32 {
    let started = if start { start_in_background(setup) } else { Ok(()) };
    let layout = Layout::on_node(&setup.run_id);
    let reached = started.and_then(|()| {
        reach(&layout).map_err(|errno| system(cannot_reach(&layout.control(), errno), errno))
    });
    let pipe = match reached {
        Ok(pipe) => pipe,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "{}", line(&failure));
            if let Ok(frame) = encode(&FromHost::CannotServe { failure }) {
                let mut out = io::stdout().lock();
                let _ = out.write_all(&frame).and_then(|()| out.flush());
            }
            return 1;
        }
    };
    match relay(pipe.as_fd()) {
        Ok(()) => 0,
        Err(errno) => {
            let _ = writeln!(io::stderr(), "carry bytes: {errno}");
            1
        }
    }
}

/// Connects, waiting for the socket to appear in its directory.
fn reach(layout: &Layout) -> Result<Pipe, Errno> {
    let end = now_ns() + LISTENS_WITHIN_NS;
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    watch.add_watch(layout.directory(), AddWatchFlags::IN_MOVED_TO)?;
    loop {
        match dial(&layout.control()) {
            Err(Errno::ENOENT | Errno::ECONNREFUSED) if now_ns() < end => {}
            result => return result,
        }
        let mut descriptors = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        match poll(&mut descriptors, timeout(end.saturating_sub(now_ns()))) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let _ = watch.read_events();
    }
}

fn relay(agent: BorrowedFd<'_>) -> Result<(), Errno> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let (stdin, stdout) = (stdin.as_fd(), stdout.as_fd());
    loop {
        let mut descriptors =
            [PollFd::new(stdin, PollFlags::POLLIN), PollFd::new(agent, PollFlags::POLLIN)];
        match poll(&mut descriptors, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
        }
        for (index, to) in [(0, agent), (1, stdout)] {
            if descriptors[index].any().unwrap_or(true) {
                let from = if index == 0 { stdin } else { agent };
                if !carry(from, to)? {
                    return Ok(());
                }
            }
        }
    }
}

/// Carries one chunk; returns whether there may be more.
fn carry(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let count = match read(from, &mut chunk) {
        Ok(0) | Err(Errno::ECONNRESET | Errno::EIO) => return Ok(false),
        Ok(count) => count,
        Err(Errno::EINTR | Errno::EAGAIN) => return Ok(true),
        Err(errno) => return Err(errno),
    };
    let mut rest = &chunk[..count];
    while !rest.is_empty() {
        match write(to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut descriptors = [PollFd::new(to, PollFlags::POLLOUT)];
                let _ = poll(&mut descriptors, PollTimeout::NONE);
            }
            Err(Errno::EPIPE) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}
