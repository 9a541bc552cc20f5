//! A container: its mount namespaces, and the program in it.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Gid, Pid, Uid, setgid, setgroups, setuid};
use propagation_core::ErrorKind;
use propagation_core::plan::{Fault, Role};
use propagation_core::program::ProgramState;
use propagation_core::protocol::{ContainerSpec, Failure, ProgramEvent, Reply};

use super::server::Server;
use crate::consumer::Consumer;
use crate::failure::{errno_text, failure, system};
use crate::pipe::Pipe;
use crate::producer::Producer;
use crate::reporter::Reporter;
use crate::sys::{Fork, close_from, duplicate_onto, exit_now, fork_into_pid_namespace, now_ns};

/// How long a container's processes may take to go after SIGKILL.
const REMOVE_MS: u64 = 5_000;

/// One container on the node.
#[derive(Debug)]
pub(super) struct Container {
    spec: ContainerSpec,
    namespaces: Vec<OwnedFd>,
    program: Option<Program>,
    pending: Vec<Pending>,
    removed: bool,
}

#[derive(Debug)]
struct Program {
    pid: Pid,
    pipe: Pipe,
    running: bool,
}

/// A request that waits for the program's end, or for its stop.
#[derive(Debug)]
struct Pending {
    request: u64,
    fault: Option<Fault>,
    deadline: u64,
}

type Answer = (u64, Result<Reply, Failure>);

impl Container {
    /// Takes the namespaces of a container that has been made and starts its program.
    pub(super) fn start(
        spec: ContainerSpec,
        namespaces: Vec<OwnedFd>,
        source: &str,
    ) -> Result<Self, Failure> {
        let program = match namespaces.first() {
            Some(namespace) if spec.program => Some(Program::start(&spec, namespace, source)?),
            _ => None,
        };
        Ok(Self { spec, namespaces, program, pending: Vec::new(), removed: false })
    }

    /// The mount namespace of a replica.
    pub(super) fn namespace(&self, replica: u32) -> Option<&OwnedFd> {
        self.namespaces.get(replica as usize)
    }

    pub(super) fn spec(&self) -> &ContainerSpec {
        &self.spec
    }

    /// Where its program's events arrive, while it is connected.
    pub(super) fn events(&self) -> Option<&Pipe> {
        self.program.as_ref().map(|program| &program.pipe).filter(|pipe| !pipe.is_closed())
    }

    pub(super) fn take_events(&mut self) -> Vec<ProgramEvent> {
        let mut events = Vec::new();
        if let Some(program) = &mut self.program
            && !program.pipe.is_closed()
        {
            let _ = program.pipe.fill(false);
            while let Ok(Some(event)) = program.pipe.next() {
                events.push(event);
            }
        }
        events
    }

    pub(super) fn runs(&self, pid: Pid) -> bool {
        self.program.as_ref().is_some_and(|program| program.running && program.pid == pid)
    }

    /// Whether it is a producer whose program runs.
    pub(super) fn serves(&self) -> bool {
        self.spec.role == Role::Producer && self.program.as_ref().is_some_and(|p| p.running)
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed && self.program.as_ref().is_none_or(|program| !program.running)
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.pending.iter().map(|pending| pending.deadline).min()
    }

    /// The program has been reaped, and with it everything in its pid namespace.
    pub(super) fn ended(&mut self, state: &ProgramState) -> Vec<Answer> {
        let Some(program) = &mut self.program else { return Vec::new() };
        program.running = false;
        let pid = program.pid;
        let waiting = std::mem::take(&mut self.pending);
        if !waiting.is_empty() {
            // The namespaces go with the last descriptor.
            self.namespaces.clear();
        }
        let evidence = format!("process {pid} of the node: {state}; its namespaces are gone");
        waiting
            .into_iter()
            .map(|pending| {
                let reply = match pending.fault {
                    Some(_) => Reply::Injected { evidence: evidence.clone() },
                    None => Reply::Done,
                };
                (pending.request, Ok(reply))
            })
            .collect()
    }

    /// The program has been stopped by a signal.
    pub(super) fn stopped(&mut self) -> Vec<Answer> {
        let Some(program) = &self.program else { return Vec::new() };
        let evidence = format!("process {} of the node is stopped", program.pid);
        let (stops, others) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|pending| pending.fault == Some(Fault::Stop));
        self.pending = others;
        let stops: Vec<Pending> = stops;
        stops
            .into_iter()
            .map(|pending| (pending.request, Ok(Reply::Injected { evidence: evidence.clone() })))
            .collect()
    }

    /// Requests whose deadline has passed.
    pub(super) fn late(&mut self, now: u64) -> Vec<Answer> {
        let (late, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|p| p.deadline <= now);
        self.pending = waiting;
        late.into_iter()
            .map(|pending| {
                let reason = format!("the program of {} did not end in time", self.spec.name);
                let fix = "it is stuck in the kernel: its FUSE daemon has to end first";
                let words = failure(ErrorKind::Timeout, "end a program", reason, Some(fix));
                (pending.request, Err(words))
            })
            .collect()
    }
}

impl Program {
    fn start(spec: &ContainerSpec, namespace: &OwnedFd, source: &str) -> Result<Self, Failure> {
        let failed = |errno| system(format!("start the program of {}", spec.name), errno);
        let (ours, theirs) = Pipe::pair().map_err(failed)?;
        match fork_into_pid_namespace().map_err(failed)? {
            Fork::Parent(pid) => Ok(Self { pid, pipe: ours, running: true }),
            Fork::Child => {
                let code = match become_program(spec, namespace, &theirs) {
                    Ok(reporter) => run(spec, source, &reporter),
                    Err(errno) => {
                        let text = format!("enter the container: {}", errno_text(errno));
                        let _ = theirs.send(&ProgramEvent::Failed { text });
                        1
                    }
                };
                exit_now(code)
            }
        }
    }
}

/// Enters the container's mount namespace, drops what belongs to the node, becomes the user.
fn become_program(
    spec: &ContainerSpec,
    namespace: &OwnedFd,
    pipe: &Pipe,
) -> Result<Reporter, Errno> {
    const REPORT: i32 = 3;
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS)?;
    let report = duplicate_onto(pipe.as_fd(), REPORT)?;
    close_from(REPORT + 1);
    SigSet::all().thread_unblock()?;
    // The name is for people who look at `ps`.
    if let Ok(name) = std::ffi::CString::new(spec.name.as_str()) {
        let _ = prctl::set_name(&name);
    }
    if spec.uid != 0 {
        // Where setgroups(2) is denied (a user namespace without newuidmap) there are no others.
        let _ = setgroups(&[]);
        setgid(Gid::from_raw(spec.uid))?;
        setuid(Uid::from_raw(spec.uid))?;
    }
    crate::sys::close_on_exec_from(REPORT);
    Ok(Reporter::to_node(Pipe::new(report)))
}

fn run(spec: &ContainerSpec, source: &str, reporter: &Reporter) -> i32 {
    match spec.role {
        Role::Producer => Producer {
            volume: spec.destination.clone(),
            mountpoint: spec.fuse_path.clone(),
            source: source.to_owned(),
            marker: spec.marker.clone(),
            allow_other: spec.allow_other,
        }
        .run(reporter),
        Role::Consumer | Role::Control => Consumer {
            mountpoint: spec.fuse_path.clone(),
            marker_ms: spec.marker_ms,
            probe_ms: spec.probe_ms,
        }
        .run(reporter),
    }
}

impl Server {
    /// Sends the signal of a fault; the answer follows when it has provably happened.
    pub(super) fn inject(&mut self, request: u64, id: u32, fault: Fault, deadline_ms: u64) {
        let signal = match fault {
            Fault::Kill => Signal::SIGKILL,
            Fault::Terminate => Signal::SIGTERM,
            Fault::Stop => Signal::SIGSTOP,
        };
        self.signal(request, id, signal, Some(fault), deadline_ms);
    }

    /// Ends a container; the answer follows when its processes are gone.
    pub(super) fn remove(&mut self, request: u64, id: u32) {
        if let Some(container) = self.containers.get_mut(&id) {
            container.removed = true;
        }
        let running = self
            .containers
            .get(&id)
            .is_some_and(|c| c.program.as_ref().is_some_and(|program| program.running));
        if running {
            self.signal(request, id, Signal::SIGKILL, None, REMOVE_MS);
        } else {
            self.containers.remove(&id);
            self.answer(request, Ok(Reply::Done));
        }
    }

    fn signal(
        &mut self,
        request: u64,
        id: u32,
        signal: Signal,
        fault: Option<Fault>,
        deadline_ms: u64,
    ) {
        let operation = format!("send {signal} to container {id}");
        let container = self.containers.get_mut(&id);
        let Some((container, pid)) = container.and_then(|container| {
            let pid = container.program.as_ref().filter(|program| program.running)?.pid;
            Some((container, pid))
        }) else {
            let words = failure(ErrorKind::Environment, operation, "its program has ended", None);
            return self.answer(request, Err(words));
        };
        match kill(pid, signal) {
            Ok(()) => {
                let deadline = now_ns() + deadline_ms.saturating_mul(1_000_000);
                container.pending.push(Pending { request, fault, deadline });
            }
            Err(errno) => self.answer(request, Err(system(operation, errno))),
        }
    }
}
