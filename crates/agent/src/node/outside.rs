//! The process that waits outside the node. It does for the node what needs rights over the machine, and aborts
//! the FUSE connections that would keep the node from ending.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use propagation_model::ErrorKind;
use propagation_protocol::Failure;
use serde::{Deserialize, Serialize};

use super::connections::{abort, of_fuse, open_below, served_below};
use super::memory_limit::MemoryLimit;
use crate::child::timeout;
use crate::facts::parent_of;
use crate::failure::{failure, system};
use crate::mounts::Proc;
use crate::pipe::Pipe;
use crate::sys::{in_ms, now_ns};

/// Time for killed processes to end, in milliseconds; a process that is left by then waits in the kernel for a
/// FUSE daemon.
pub(super) const ENDS_WITHIN_MS: u64 = 1_000;

/// The word of the command line that lets a node be kept.
const MAY_BE_KEPT: &str = "--keep";

/// What the node asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// The node should outlive the process that started it.
    Keep,
    /// To abort a FUSE connection.
    Abort {
        /// The minor device number of its mounts.
        minor: u32,
    },
    /// To abort the connections that a child of the node's process 1 serves, or any process below it.
    AbortOf {
        /// Its id on the node.
        pid: i32,
    },
    /// To limit the memory of a child of the node's process 1.
    LimitMemory {
        /// The number of its container.
        container: u32,
        /// Its id on the node.
        pid: i32,
    },
    /// To take the limit away, and tell what the kernel has counted.
    EndLimit {
        /// The number of the container.
        container: u32,
    },
}

/// The answer to the node: what was done.
type Answer = Result<String, Failure>;

/// The node's way to the process outside.
#[derive(Debug, Clone)]
pub(super) struct Outside(Rc<RefCell<Pipe>>);

impl Outside {
    pub(super) fn new(pipe: Pipe) -> Self {
        Self(Rc::new(RefCell::new(pipe)))
    }

    /// Asks for something, and waits until it is done.
    ///
    /// # Errors
    /// What the process outside could not do, or that it is gone.
    pub(super) fn ask(&self, ask: &Ask) -> Answer {
        let failed = |errno| system("ask the process outside the node", errno);
        let mut pipe = self.0.borrow_mut();
        pipe.send(ask).map_err(failed)?;
        pipe.receive::<Answer>().map_err(failed)?.ok_or_else(|| failed(Errno::EPIPE))?
    }
}

/// What the process outside holds from before there was a node.
pub(super) struct Before {
    run_id: String,
    /// Whether the process that started the node may keep it.
    may_be_kept: bool,
    /// Of the machine, where every process of the node has an id too.
    proc: Proc,
    /// The FUSE connections that the machine had: they are not the node's to end.
    connections: BTreeSet<u32>,
    /// Becomes ready when the parent is gone.
    control: OwnedFd,
    /// Becomes ready when the node has ended.
    ended: SignalFd,
}

impl Before {
    /// Opens what is needed later, and makes SIGCHLD readable.
    pub(super) fn take(run_id: &str, control: &Pipe) -> Result<Self, Failure> {
        let failed = |errno| system("prepare the process outside the node", errno);
        let proc = Proc::open()?;
        let connections = of_fuse(&proc.mount_table()?);
        let control = control.as_fd().try_clone_to_owned();
        let control = control.map_err(|error| failed(crate::mounts::errno_of(&error)))?;
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGCHLD);
        signals.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let ended = SignalFd::with_flags(&signals, flags).map_err(failed)?;
        let run_id = run_id.to_owned();
        let may_be_kept = std::env::args().any(|word| word == MAY_BE_KEPT);
        Ok(Self { run_id, may_be_kept, proc, connections, control, ended })
    }

    /// Waits until the node has ended, and obeys it meanwhile; returns its exit code.
    pub(super) fn wait_for(self, node: Pid, pipe: Pipe) -> i32 {
        let waiting = Waiting {
            before: self,
            node,
            pipe,
            kept: false,
            parent_gone: false,
            abort_at: None,
            limits: BTreeMap::new(),
        };
        waiting.run().unwrap_or(1)
    }
}

struct Waiting {
    before: Before,
    node: Pid,
    pipe: Pipe,
    kept: bool,
    parent_gone: bool,
    /// Instant at which the connections are aborted if the node still runs.
    abort_at: Option<u64>,
    limits: BTreeMap<u32, MemoryLimit>,
}

impl Waiting {
    fn run(mut self) -> Result<i32, Errno> {
        loop {
            match waitpid(self.node, Some(WaitPidFlag::WNOHANG))? {
                WaitStatus::Exited(_, code) => return Ok(code),
                WaitStatus::Signaled(..) => return Ok(1),
                _ => {}
            }
            self.sleep()?;
            while self.before.ended.read_signal()?.is_some() {}
            self.pipe.fill(false)?;
            while let Ok(Some(ask)) = self.pipe.next::<Ask>() {
                let answer = self.obey(&ask);
                // A node that has gone needs no answer.
                let _ = self.pipe.send(&answer);
            }
            if self.abort_at.is_some_and(|at| now_ns() >= at) {
                let _ = abort(&self.connections());
                self.abort_at = Some(in_ms(ENDS_WITHIN_MS));
            }
        }
    }

    /// Sleeps until something happens.
    fn sleep(&mut self) -> Result<(), Errno> {
        let listens = !self.kept && !self.parent_gone;
        let mut descriptors = vec![PollFd::new(self.before.ended.as_fd(), PollFlags::POLLIN)];
        if !self.pipe.is_closed() {
            descriptors.push(PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN));
        }
        let hangs_up = descriptors.len();
        if listens {
            descriptors.push(PollFd::new(self.before.control.as_fd(), PollFlags::empty()));
        }
        let wait = self.abort_at.map(|at| timeout(at.saturating_sub(now_ns())));
        match poll(&mut descriptors, wait.unwrap_or(PollTimeout::NONE)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let hung_up = descriptors.get(hangs_up).is_some_and(|one| one.any().unwrap_or(false));
        drop(descriptors);
        if hung_up {
            self.parent_gone = true;
            self.abort_at = Some(in_ms(ENDS_WITHIN_MS));
        }
        Ok(())
    }

    /// The FUSE connections that only the node has.
    fn connections(&self) -> BTreeSet<u32> {
        &served_below(&self.before.proc, &[self.node]) - &self.before.connections
    }

    /// Does what the node asks for, if it concerns only the node: a program that has taken over its process 1 can
    /// ask for anything.
    fn obey(&mut self, ask: &Ask) -> Answer {
        let refuse = |operation: &str, reason: &str| {
            Err(failure(ErrorKind::Environment, operation, reason, None))
        };
        match ask {
            Ask::Keep if self.before.may_be_kept => {
                self.kept = true;
                Ok(String::new())
            }
            Ask::Keep => refuse("keep the node", "it was not started to be kept"),
            Ask::Abort { minor } if self.connections().contains(minor) => {
                abort(&BTreeSet::from([*minor]))
            }
            Ask::Abort { .. } => refuse("abort a FUSE connection", "it is none of the node's"),
            Ask::AbortOf { pid } => {
                let served = open_below(&self.before.proc, &[self.pid_here(*pid)?]);
                match &served - &self.before.connections {
                    own if own.is_empty() => refuse(
                        "abort a FUSE connection",
                        "the process serves none, as far as is shown",
                    ),
                    own => abort(&own),
                }
            }
            Ask::LimitMemory { container, pid } => {
                let name = format!("propagation-{}-{container}", self.before.run_id);
                let limit = MemoryLimit::put(&name, self.pid_here(*pid)?)?;
                self.limits.insert(*container, limit);
                Ok(String::new())
            }
            Ask::EndLimit { container } => {
                let limit = self.limits.remove(container);
                Ok(limit.map_or_else(String::new, |limit| limit.evidence()))
            }
        }
    }

    /// What a child of the node's process 1 is called outside.
    fn pid_here(&self, pid: i32) -> Result<Pid, Failure> {
        let operation = format!("find process {pid} of the node");
        let proc = &self.before.proc;
        let names = proc.list(".").map_err(|errno| system(operation.clone(), errno))?;
        let mut pids = names.iter().filter_map(|name| name.parse::<i32>().ok());
        let found = pids.find(|here| {
            parent_of(proc, *here) == Some(self.node.as_raw()) && inside(proc, *here) == Some(pid)
        });
        found.map(Pid::from_raw).ok_or_else(|| {
            failure(ErrorKind::Environment, operation, "/proc does not show it", None)
        })
    }
}

/// The id of a process in the pid namespace below.
fn inside(proc: &Proc, pid: i32) -> Option<i32> {
    let status = proc.read(&format!("{pid}/status")).ok()?;
    let text = String::from_utf8_lossy(&status);
    let ids = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}
