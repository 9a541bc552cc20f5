//! The host agent: serves the containers of one run on a real node, which a kubelet starts.
//!
//! It runs on the node itself, or in a privileged pod that shares the node's process ids, and enters
//! the node's own mount namespace first. The programs in the run's containers connect to its
//! socket and get their orders there; the backend connects through [`attach`], and that connection may
//! break and be made again. The agent has one thread and never touches a path under which a FUSE mount may
//! lie: children with a deadline do.

mod attach;
mod bridge;
mod clean;
mod ending;
mod external;
mod faults;
mod here;
mod journal;
mod memory;
mod peer;
mod processes;
mod program;
mod programs;
mod release;
mod session;
mod state;
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, access, setsid};
use propagation_model::ErrorKind;
use propagation_model::plan::Bridge;
use propagation_model::program::Executed;
use propagation_protocol::Failure;
use propagation_protocol::host::{Layout, RUNS};

use crate::changes;
use crate::failure::{errno_text, failure, system};
use crate::mounts::errno_of;
use crate::pipe::Pipe;

pub use attach::attach;
pub use memory::mount_memory;
pub use program::{Program, run_program};

/// What a host agent is told.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The run that it looks after.
    pub run_id: String,
    /// The directory that the run's containers share.
    pub bridge: Bridge,
}

/// Makes the run's directory on the node, with this very binary in it, and serves until it is told
/// to end; returns the exit code. Its words go to standard error.
pub fn main(setup: &Setup) -> i32 {
    match prepare(setup) {
        Ok(host) => i32::from(crate::serve::serve(host).is_err()),
        Err(failure) => {
            use std::io::Write;
            let _ = writeln!(io::stderr(), "{}", line(&failure));
            1
        }
    }
}

/// Starts a host agent that outlives the caller, unless one serves already.
fn start_in_background(setup: &Setup) -> Result<(), Failure> {
    if dial(&Layout::on_node(&setup.run_id).control()).is_ok() {
        return Ok(());
    }
    let failed = |error: &io::Error| system("start the host agent", errno_of(error));
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(format!("{RUNS}/{}/agent.log", setup.run_id))
        .map_err(|e| failed(&e))?;
    let mut command = std::process::Command::new("/proc/self/exe");
    command.args(["host", "--run-id", &setup.run_id, "--bridge", &setup.bridge.path]);
    command.args(["--mountpoint", &setup.bridge.mountpoint]).stdin(std::process::Stdio::null());
    let output = log.try_clone().map_err(|e| failed(&e))?;
    command.stdout(output).stderr(log);
    command.spawn().map_err(|e| failed(&e))?;
    Ok(())
}

fn prepare(setup: &Setup) -> Result<state::Host, Failure> {
    let own = fs::read("/proc/self/exe")
        .map_err(|e| system("read the agent's own binary", errno_of(&e)))?;
    enter_node()?;
    // Away from a terminal or a session that ends.
    let _ = setsid();
    crate::sys::raise_descriptor_limit();
    let layout = Layout::on_node(&setup.run_id);
    let failed = |error: &io::Error| {
        system(format!("make the directory of the run, {}", layout.directory()), errno_of(error))
    };
    // Pods have the directory of the run as a volume; on the node itself only root gets there.
    for (path, mode) in [(RUNS, 0o700), (layout.directory(), 0o755)] {
        let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        let made = made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
        made.map_err(|e| failed(&e))?;
    }
    let files = || {
        write_binary(&layout.agent(), &own).map_err(|e| failed(&e))?;
        access(Path::new(&layout.agent()), AccessFlags::X_OK)
            .map_err(|errno| cannot_be_executed(&layout, errno))?;
        Ok((serve_at(&layout.control(), 0o600)?, serve_at(&layout.programs(), 0o666)?))
    };
    let (control, programs) = files().inspect_err(|_| leave(&layout))?;
    state::Host::new(setup, layout, control, programs)
}

/// Removes the files of a run that has not changed the node yet.
fn leave(layout: &Layout) {
    if !Path::new(&layout.journal()).exists() {
        let _ = fs::remove_file(layout.agent());
        let _ = fs::remove_dir(layout.directory());
        let _ = fs::remove_dir(RUNS);
    }
}

/// The run's pods execute the agent from there too.
fn cannot_be_executed(layout: &Layout, errno: nix::errno::Errno) -> Failure {
    let reason = format!("{}; {RUNS} is on a filesystem that is mounted noexec", errno_text(errno));
    let fix = "allow programs there: mount -o remount,exec";
    let operation = format!("execute {}", layout.agent());
    failure(ErrorKind::Environment, operation, reason, Some(fix))
}

/// The node's own mount namespace and root: those of its process 1.
fn enter_node() -> Result<(), Failure> {
    let namespace = open("/proc/1/ns/mnt", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| system("open the node's mount namespace, /proc/1/ns/mnt", errno))?;
    let groups = open("/proc/1/ns/cgroup", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS)
        .map_err(|errno| system("enter the node's mount namespace", errno))?;
    // Names of control groups are then as in the node's /sys/fs/cgroup.
    groups
        .and_then(|groups| setns(groups.as_fd(), CloneFlags::CLONE_NEWCGROUP))
        .map_err(|errno| system("enter the node's cgroup namespace", errno))
}

/// Runs a command as a child of this process, with everything that this process may do, and no more.
///
/// # Errors
/// In words, when no child can be made. How it ends is a result.
pub fn execute(command: &[String], deadline_ms: u64) -> Result<Executed, String> {
    crate::run_program::run(command, &BTreeMap::new(), deadline_ms)
        .map_err(|errno| format!("run {}: {}", command.join(" "), errno_text(errno)))
}

/// Puts the binary there, unless it is there already.
fn write_binary(path: &str, content: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return fs::set_permissions(path, fs::Permissions::from_mode(0o755));
    }
    changes::replace(path, content, Some(0o755))
}

fn serve_at(path: &str, mode: u32) -> Result<OwnedFd, Failure> {
    let failed = |errno| system(format!("listen at {path}"), errno);
    // Under another name first: who finds the socket can connect to it.
    let fresh = format!("{path}.new");
    let _ = fs::remove_file(&fresh);
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(Path::new(&fresh)).map_err(failed)?)
        .map_err(failed)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))
        .map_err(|e| failed(errno_of(&e)))?;
    listen(&listener, Backlog::MAXCONN).map_err(failed)?;
    fs::rename(&fresh, path).map_err(|e| failed(errno_of(&e)))?;
    Ok(listener)
}

/// Connects to a socket of the host agent.
fn dial(path: &str) -> Result<Pipe, nix::errno::Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(Path::new(path))?)?;
    Ok(Pipe::new(socket))
}

/// A failure in one line.
fn line(failure: &Failure) -> String {
    match &failure.fix {
        Some(fix) => format!("{}: {} ({fix})", failure.operation, failure.reason),
        None => format!("{}: {}", failure.operation, failure.reason),
    }
}

/// What a socket that cannot be reached means for a program.
fn cannot_reach(path: &str, errno: nix::errno::Errno) -> String {
    format!("reach the host agent at {path}: {}", errno_text(errno))
}
