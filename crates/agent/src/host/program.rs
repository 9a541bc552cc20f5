//! The program of a container that a kubelet has started: asks the host agent what to do, and does
//! it. Until it is told it waits, so that a container that the kubelet restarts does nothing before
//! its time.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use propagation_model::program::ProgramState;
use propagation_protocol::ProgramEvent;
use propagation_protocol::host::{ProgramHello, ProgramOrders};

use super::{cannot_reach, dial};
use crate::failure::errno_text;
use crate::pipe::Pipe;
use crate::reporter::Reporter;

/// What the container's command line says.
#[derive(Debug, Clone)]
pub struct Program {
    /// The socket of the host agent, as seen in the container.
    pub socket: String,
    /// Which program this is, with its secret.
    pub hello: ProgramHello,
    /// What a producer's mount calls its source.
    pub source: String,
}

/// Waits to be told, and does it; the exit code, or why it could not be told.
///
/// # Errors
/// In words, when the host agent cannot be reached.
pub fn run_program(program: &Program) -> Result<i32, String> {
    let failed = |errno| format!("wait for the host agent: {}", errno_text(errno));
    let mut pipe = dial(&program.socket).map_err(|errno| cannot_reach(&program.socket, errno))?;
    pipe.send(&program.hello).map_err(failed)?;
    let Some(orders) = receive_or_end(&mut pipe).map_err(failed)? else { return Ok(0) };
    let device = pipe.take_descriptor();
    let reporter = Reporter::to_host(pipe);
    let replica = program.hello.program.replica;
    let code = carry_out(replica, &orders, &program.source, device, &reporter).map_err(failed)?;
    Ok(code)
}

/// Does what a program is told, until its end; the exit code.
pub(super) fn carry_out(
    replica: u32,
    orders: &ProgramOrders,
    source: &str,
    device: Option<OwnedFd>,
    reporter: &Reporter,
) -> Result<i32, Errno> {
    let spec = &orders.container;
    let code = match (&orders.takes_over, device) {
        _ if replica > 0 => wait_for_the_end(reporter).map(|()| 0)?,
        (Some(init), Some(device)) => {
            let init = crate::node::from_hex(init).ok_or(Errno::EBADMSG)?;
            crate::node::producer_of(spec, source).take_over(device, &init, reporter)
        }
        _ => crate::node::run(spec, source, reporter),
    };
    reporter.event(&ProgramEvent::Ended { state: ProgramState::Exited { code } });
    Ok(code)
}

/// Process 1 of a pid namespace gets only the signals that it asks for.
fn sigterm() -> Result<SignalFd, Errno> {
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    term.thread_block()?;
    SignalFd::with_flags(&term, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// What is to be done; none when the program is to end instead.
fn receive_or_end(pipe: &mut Pipe) -> Result<Option<ProgramOrders>, Errno> {
    let term = sigterm()?;
    loop {
        if let Some(orders) = pipe.next()? {
            return Ok(Some(orders));
        }
        let mut descriptors = [
            PollFd::new(pipe.as_fd(), PollFlags::POLLIN),
            PollFd::new(term.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut descriptors, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        if descriptors[1].any().unwrap_or(true) || !pipe.fill(false)? {
            return Ok(None);
        }
    }
}

/// A mount view without a program: until SIGTERM, or until the host agent ends.
fn wait_for_the_end(reporter: &Reporter) -> Result<(), Errno> {
    let term = sigterm()?;
    let mut descriptors = vec![PollFd::new(term.as_fd(), PollFlags::POLLIN)];
    descriptors.extend(reporter.node().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::empty())));
    loop {
        match poll(&mut descriptors, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => return Ok(()),
        }
    }
}
