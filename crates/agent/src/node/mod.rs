//! The simulated node: a process that is kernel view, kubelet and container runtime in one.
//!
//! Two processes come up. The first makes the namespaces and waits; the second is process 1 of the
//! node's pid namespace and serves. When the socket to the parent closes, for whatever reason, the
//! second exits, and the kernel ends everything that the node contains.
//!
//! The server has one thread and never blocks: whatever may touch a FUSE mount, or a path under
//! which one may lie, runs in a child with a deadline.

pub(crate) mod calls;
mod capabilities;
mod container;
mod faults;
mod hold;
mod keeper;
mod memory_limit;
mod observe;
mod oci;
mod programs;
mod role;
mod root;
mod rootfs;
mod server;
mod start;
mod sub_path;
mod user_namespace;
mod view;

use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Uid, setsid};
use propagation_protocol::{Failure, Message, NodeSetup, PROTOCOL_VERSION};

use crate::facts::mapped_uids;
use crate::failure::system;
use crate::pipe::Pipe;
use crate::sys::{Fork, fork};

pub use oci::inside::main as container;
pub(crate) use role::run;

/// Makes the node and serves it; returns the exit code. The socket to the parent is standard input.
pub fn main() -> i32 {
    // Nothing is open yet but what the caller left open for its children: the descriptor of a lock,
    // say, which a node that is kept would hold for good.
    crate::sys::close_from(3);
    let mut control = match take_control() {
        Ok(control) => control,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{}: {}", failure.operation, failure.reason);
            return 1;
        }
    };
    let setup = match control.receive::<NodeSetup>() {
        Ok(Some(setup)) => setup,
        _ => return 1,
    };
    match isolate() {
        Ok(Some(code)) => code,
        Ok(None) => serve(&setup, control),
        Err(failure) => cannot_serve(&control, failure),
    }
}

/// Moves the socket away from standard input, so that no child inherits it as such.
fn take_control() -> Result<Pipe, Failure> {
    let failed = |errno| system("take the control socket from standard input", errno);
    let control: OwnedFd = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|e| failed(crate::mounts::errno_of(&e)))?;
    if let Ok(null) = std::fs::File::open("/dev/null") {
        // Kept for the life of the process as its standard input.
        std::mem::forget(crate::sys::duplicate_onto(null.as_fd(), 0).map_err(failed)?);
    }
    Ok(Pipe::new(control))
}

/// Enters the namespaces. Returns the exit code in the process that waits outside, and nothing in
/// the one that is the node.
fn isolate() -> Result<Option<i32>, Failure> {
    // Executed from memory, a process is called by the number of a descriptor.
    let _ = prctl::set_name(c"propagation");
    // The caller's directory is not to be held by a node that is kept.
    let _ = nix::unistd::chdir("/");
    // Away from the terminal: Ctrl-C is for the parent, which then closes the socket.
    let _ = setsid();
    if !Uid::effective().is_root() || !can_unshare() {
        user_namespace::enter()?;
        user_namespace::check_powers()?;
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| system("make a mount namespace", errno))?;
    unshare(CloneFlags::CLONE_NEWIPC).map_err(|errno| system("make an IPC namespace", errno))?;
    // A network of its own: nothing but its own loopback device.
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| system("make a network namespace", errno))?;
    crate::sys::raise_loopback().map_err(|errno| system("bring up the loopback device", errno))?;
    unshare(CloneFlags::CLONE_NEWPID).map_err(|errno| system("make a pid namespace", errno))?;
    match fork().map_err(|errno| system("start the node", errno))? {
        Fork::Parent(pid) => {
            crate::sys::close_from(3);
            Ok(Some(match waitpid(pid, None) {
                Ok(WaitStatus::Exited(_, code)) => code,
                _ => 1,
            }))
        }
        Fork::Child => {
            prctl::set_pdeathsig(Signal::SIGKILL)
                .map_err(|errno| system("tie the node to its parent", errno))?;
            Ok(None)
        }
    }
}

/// Root in a container may lack the right to make namespaces without a user namespace.
fn can_unshare() -> bool {
    unshare(CloneFlags::CLONE_NEWNS).is_ok()
}

fn serve(setup: &NodeSetup, control: Pipe) -> i32 {
    let prepared = || -> Result<server::Server, Failure> {
        let mapped = mapped_uids();
        crate::sys::raise_descriptor_limit();
        root::enter(setup)?;
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGCHLD);
        signals.thread_block().map_err(|errno| system("block SIGCHLD", errno))?;
        server::Server::new(setup.clone(), signals, mapped)
    };
    let server = match prepared() {
        Ok(server) => server,
        Err(failure) => return cannot_serve(&control, failure),
    };
    let hello = Message::Hello {
        protocol: PROTOCOL_VERSION,
        agent: env!("CARGO_PKG_VERSION").into(),
        mapped_uids: server.mapped_uids(),
    };
    if control.send(&hello).is_err() {
        return 0;
    }
    i32::from(server.run(control).is_err())
}

fn cannot_serve(control: &Pipe, failure: Failure) -> i32 {
    let _ = control.send(&Message::CannotServe { failure });
    1
}
