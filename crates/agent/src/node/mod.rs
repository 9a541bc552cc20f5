//! The simulated node: a process that is kernel view, kubelet and container runtime in one.
//!
//! Two processes come up. The first makes the namespaces and waits; the second is process 1 of the
//! node's pid namespace and serves. When the socket to the parent closes, for whatever reason, the
//! second exits, and the kernel ends everything that the node contains.
//!
//! The server has one thread and never blocks: whatever may touch a FUSE mount, or a path under
//! which one may lie, runs in a child with a deadline.
#![allow(unsafe_code)] // fork, and numbers of descriptors where the program begins

mod apart;
mod capabilities;
mod connections;
mod contain;
mod container;
mod execute;
mod faults;
mod hold;
mod holder;
mod host_path;
mod keeper;
mod kernel_calls;
mod made;
mod memory_limit;
mod oci;
mod outside;
mod programs;
mod role;
mod root;
mod rootfs;
mod runtime;
mod simulated;
mod start;
mod sub_path;
mod user_namespace;
mod world;

use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Uid, setsid};
use propagation_protocol::{Failure, Message, NodeSetup};

use crate::facts::mapped_uids;
use crate::failure::system;
use crate::pipe::Pipe;
use crate::sys::{Fork, fork_into_pid_namespace};
use outside::{Before, Outside};

pub use connections::release;
pub(crate) use connections::{abort, open_below};
pub(crate) use keeper::Keeper;
pub use oci::inside::main as container;
pub(crate) use programs::from_hex;
pub(crate) use role::{is_supervised, producer_of, run};

/// Makes the node and serves it; returns the exit code. The socket to the parent is standard input.
pub fn main() -> i32 {
    // Nothing is open yet but what the caller left open for its children: the descriptor of a lock,
    // say, which a node that is kept would hold for good.
    // SAFETY: the program begins here, and owns nothing of that range yet.
    unsafe { crate::sys::close_from(3) };
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
    match isolate(&setup, &control) {
        Ok(Side::Outside(code)) => code,
        Ok(Side::Node(outside)) => serve(&setup, control, outside),
        Err(failure) => cannot_serve(&control, failure),
    }
}

/// Which of the two processes the caller is.
enum Side {
    /// The one outside, when the node has ended: its exit code.
    Outside(i32),
    /// The node, with its way to the one outside.
    Node(Outside),
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
        // SAFETY: standard input goes on with the other file, and nothing drops it.
        let replaced = unsafe { crate::sys::duplicate_onto(null.as_fd(), 0) };
        std::mem::forget(replaced.map_err(failed)?);
    }
    Ok(Pipe::new(control))
}

/// Enters the namespaces, in two processes from then on.
fn isolate(setup: &NodeSetup, control: &Pipe) -> Result<Side, Failure> {
    // Executed from memory, a process is called by the number of a descriptor.
    let _ = prctl::set_name(c"propagation");
    // The caller's directory is not to be held by a node that is kept.
    let _ = nix::unistd::chdir("/");
    // Away from the terminal: Ctrl-C is for the parent, which then closes the socket.
    let _ = setsid();
    // Asked while it can be.
    crate::selinux::denied();
    if !Uid::effective().is_root() || !can_unshare() {
        user_namespace::enter()?;
        user_namespace::check_powers()?;
    }
    let before = Before::take(&setup.run_id, control)?;
    let (ours, theirs) = Pipe::pair().map_err(|errno| system("start the node", errno))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| system("make a mount namespace", errno))?;
    unshare(CloneFlags::CLONE_NEWIPC).map_err(|errno| system("make an IPC namespace", errno))?;
    // A network of its own: nothing but its own loopback device.
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| system("make a network namespace", errno))?;
    crate::sys::raise_loopback().map_err(|errno| system("bring up the loopback device", errno))?;
    // Servers of a scenario listen where they do elsewhere. Root of a contained node has no right over this
    // network any more; without the setting it has the ports from 1024 on.
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    // What is started outside later stays outside.
    // SAFETY: there is one thread here, as wherever the agent forks.
    let forked = unsafe { fork_into_pid_namespace() };
    match forked.map_err(|errno| system("start the node", errno))? {
        Fork::Parent(pid) => {
            drop(theirs);
            Ok(Side::Outside(before.wait_for(pid, ours)))
        }
        Fork::Child => {
            drop((before, ours));
            prctl::set_pdeathsig(Signal::SIGKILL)
                .map_err(|errno| system("tie the node to its parent", errno))?;
            Ok(Side::Node(Outside::new(theirs)))
        }
    }
}

/// Root in a container may lack the right to make namespaces without a user namespace.
fn can_unshare() -> bool {
    unshare(CloneFlags::CLONE_NEWNS).is_ok()
}

fn serve(setup: &NodeSetup, control: Pipe, outside: Outside) -> i32 {
    let mapped_uids = mapped_uids();
    match prepare(setup, outside) {
        Ok(mut node) => {
            node.greet(control, mapped_uids);
            i32::from(crate::serve::serve(node).is_err())
        }
        Err(failure) => cannot_serve(&control, failure),
    }
}

fn prepare(setup: &NodeSetup, outside: Outside) -> Result<simulated::Simulated, Failure> {
    crate::sys::raise_descriptor_limit();
    let runtime = root::base(setup)?;
    contain::contain(setup)?;
    root::furnish(setup, runtime)?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_block().map_err(|errno| system("block SIGCHLD", errno))?;
    simulated::Simulated::new(setup.clone(), outside, signals)
}

fn cannot_serve(control: &Pipe, failure: Failure) -> i32 {
    let _ = control.send(&Message::CannotServe { failure });
    1
}
