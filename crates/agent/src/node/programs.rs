//! A container: its mount namespaces, and the program in it.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Gid, Pid, Uid, setgid, setgroups, setuid};
use propagation_core::ErrorKind;
use propagation_core::marker::Marker;
use propagation_core::plan::Role;
use propagation_core::program::{LoadReport, ProgramState};
use propagation_core::protocol::{ContainerSpec, Failure, ProgramCommand, ProgramEvent, Reply};

use super::container::{Made, Process};
use super::keeper::Keeper;
use super::memory_limit::MemoryLimit;
use super::oci::inside::Told;
use super::oci::{Engine, Handle};
use super::server::Server;
use super::view::View;
use crate::consumer::Consumer;
use crate::failure::{errno_text, failure, system};
use crate::load::Load;
use crate::pipe::Pipe;
use crate::producer::Producer;
use crate::reporter::Reporter;
use crate::supervisor::Supervisor;
use crate::sys::{Fork, close_from, duplicate_onto, exit_now, fork_into_pid_namespace, in_ms};

/// How long a container's processes may take to go after SIGKILL.
const REMOVE_MS: u64 = 5_000;

/// One container on the node.
#[derive(Debug)]
pub(super) struct Container {
    spec: ContainerSpec,
    views: Vec<View>,
    program: Option<Program>,
    pending: Vec<Pending>,
    removed: bool,
    /// What the mounts of its producer call their source.
    source: String,
    /// Who holds the descriptor of its FUSE connection.
    kept: Option<Keeper>,
    load: Option<Load>,
    /// What the runtime knows it by, until its process has ended.
    handle: Option<Handle>,
    /// The limit that its daemon is to outgrow.
    pub(super) memory_limit: Option<MemoryLimit>,
}

#[derive(Debug)]
struct Program {
    pid: Pid,
    pipe: Pipe,
    running: bool,
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The end of the program, because of a fault.
    End,
    /// The end of the program, after which the container is forgotten.
    Removal,
    /// The end of the program, which is forced when the deadline passes.
    EndOrForce,
    /// The end of the daemon under a supervisor.
    DaemonEnd,
    /// That the program is stopped.
    Stop,
    /// That it goes on.
    Continue,
    /// That the program says it has obeyed.
    Obedience,
}

/// A request that waits for something.
#[derive(Debug)]
struct Pending {
    request: u64,
    awaited: Awaited,
    deadline: u64,
}

pub(super) type Answer = (u64, Result<Reply, Failure>);

impl Container {
    /// Takes a container that has been made, with the runtime that did it, and starts its program.
    pub(super) fn start(
        spec: ContainerSpec,
        made: Made,
        engine: Option<&Engine>,
        source: &str,
    ) -> Result<Self, Failure> {
        let Made { views, process } = made;
        let handle =
            engine.filter(|_| process.is_some()).map(|engine| Handle::new(engine, spec.id));
        let program = match (views.first(), process) {
            (Some(_), Some(process)) => Some(Program::tell(&spec, process, source)?),
            (Some(view), None) if spec.program => {
                Some(Program::start(&spec, view, None, |reporter| run(&spec, source, reporter))?)
            }
            _ => None,
        };
        let load = match (&program, views.first()) {
            (Some(program), Some(view)) => start_load(&spec, view).inspect_err(|_| {
                // Nobody would know of it.
                let _ = kill(program.pid, Signal::SIGKILL);
            })?,
            _ => None,
        };
        Ok(Self {
            handle,
            spec,
            views,
            program,
            pending: Vec::new(),
            removed: false,
            source: source.to_owned(),
            kept: None,
            load,
            memory_limit: None,
        })
    }

    /// The mount view of a replica.
    pub(super) fn view(&self, replica: u32) -> Option<&View> {
        self.views.get(replica as usize)
    }

    pub(super) fn spec(&self) -> &ContainerSpec {
        &self.spec
    }

    /// Process 1 of the container, while it runs.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.program.as_ref().filter(|program| program.running).map(|program| program.pid)
    }

    /// Whether its daemon is a child of process 1.
    pub(super) fn is_supervised(&self) -> bool {
        is_supervised(&self.spec)
    }

    /// Where its program's events arrive, while it is connected.
    pub(super) fn events(&self) -> Option<&Pipe> {
        self.program.as_ref().map(|program| &program.pipe).filter(|pipe| !pipe.is_closed())
    }

    /// What its program has said, but for what is for the node alone; and the answers that follow.
    pub(super) fn take_events(&mut self) -> (Vec<ProgramEvent>, Vec<Answer>) {
        let (mut events, mut answers) = (Vec::new(), Vec::new());
        let Some(program) = self.program.as_mut().filter(|program| !program.pipe.is_closed())
        else {
            return (events, answers);
        };
        let _ = program.pipe.fill(false);
        while let Ok(Some(event)) = program.pipe.next() {
            match event {
                ProgramEvent::Kept { init } => {
                    if let Some((device, init)) =
                        program.pipe.take_descriptor().zip(from_hex(&init))
                    {
                        self.kept = Keeper::start(device, init).ok();
                    }
                }
                ProgramEvent::Obeyed { evidence } => {
                    let obeyed = |awaited| {
                        matches!(awaited, Awaited::Obedience | Awaited::Stop | Awaited::Continue)
                    };
                    answers.extend(settle(&mut self.pending, obeyed, &evidence));
                }
                ProgramEvent::DaemonEnded { state } => {
                    let evidence = format!("the daemon of {}: {state}", self.spec.name);
                    let ended = |awaited| awaited == Awaited::DaemonEnd;
                    answers.extend(settle(&mut self.pending, ended, &evidence));
                    events.push(ProgramEvent::DaemonEnded { state });
                }
                event => events.push(event),
            }
        }
        (events, answers)
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

    /// What its readers and writers have met since they were asked last.
    pub(super) fn load(&mut self) -> Option<LoadReport> {
        self.load.as_mut().map(Load::report)
    }

    /// The program has been reaped, and with it everything in its pid namespace.
    pub(super) fn ended(&mut self, state: &ProgramState) -> Vec<Answer> {
        let Some(program) = &mut self.program else { return Vec::new() };
        program.running = false;
        let pid = program.pid;
        let waiting = std::mem::take(&mut self.pending);
        self.load = None;
        if let Some(handle) = self.handle.take() {
            handle.forget();
        }
        // The namespaces go with the last descriptor. A successor that takes over needs them.
        let torn_down = !waiting.is_empty() && self.kept.is_none();
        if torn_down {
            self.views.clear();
        }
        let limit = self.memory_limit.take().map(|limit| format!("; {}", limit.evidence()));
        let evidence = format!(
            "process {pid} of the node: {state}{}{}",
            if torn_down { "; its namespaces are gone" } else { "" },
            limit.unwrap_or_default()
        );
        let removal = |awaited| awaited == Awaited::Removal;
        waiting
            .into_iter()
            .map(|pending| {
                let reply = match removal(pending.awaited) {
                    true => Reply::Done,
                    false => Reply::Injected { evidence: evidence.clone() },
                };
                (pending.request, Ok(reply))
            })
            .collect()
    }

    /// The program has been stopped by a signal, or goes on.
    pub(super) fn stopped(&mut self, goes_on: bool) -> Vec<Answer> {
        let Some(program) = &self.program else { return Vec::new() };
        let (awaited, words) =
            if goes_on { (Awaited::Continue, "goes on") } else { (Awaited::Stop, "is stopped") };
        let evidence = format!("process {} of the node {words}", program.pid);
        settle(&mut self.pending, |other| other == awaited, &evidence)
    }

    /// Requests whose deadline has passed.
    pub(super) fn late(&mut self, now: u64) -> Vec<Answer> {
        let (late, mut waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|p| p.deadline <= now);
        let mut answers = Vec::new();
        for pending in late {
            if pending.awaited == Awaited::EndOrForce
                && let Some(pid) = self.pid()
                && kill(pid, Signal::SIGKILL).is_ok()
            {
                let deadline = now + REMOVE_MS * 1_000_000;
                waiting.push(Pending { awaited: Awaited::End, deadline, ..pending });
                continue;
            }
            let reason = format!("the program of {} did not do it in time", self.spec.name);
            let fix = "if it is stuck in the kernel, its FUSE daemon has to end first";
            let words = failure(ErrorKind::Timeout, "end a program", reason, Some(fix));
            answers.push((pending.request, Err(words)));
        }
        self.pending = waiting;
        answers
    }

    /// Sends process 1 a signal; the answer follows with what is awaited.
    pub(super) fn signal(
        &mut self,
        request: u64,
        signal: Signal,
        awaited: Awaited,
        deadline_ms: u64,
    ) -> Result<(), Failure> {
        let operation = format!("send {signal} to {}", self.spec.name);
        let pid = self.pid().ok_or_else(|| has_ended(operation.clone()))?;
        kill(pid, signal).map_err(|errno| system(operation, errno))?;
        self.expect(request, awaited, deadline_ms);
        Ok(())
    }

    /// Tells the program something; the answer follows with what is awaited.
    pub(super) fn command(
        &mut self,
        request: u64,
        command: &ProgramCommand,
        awaited: Awaited,
        deadline_ms: u64,
    ) -> Result<(), Failure> {
        self.tell(command)?;
        self.expect(request, awaited, deadline_ms);
        Ok(())
    }

    /// Tells the program something that nobody waits for.
    pub(super) fn tell(&mut self, command: &ProgramCommand) -> Result<(), Failure> {
        let operation = format!("tell {} something", self.spec.name);
        let running = self.program.as_ref().filter(|program| program.running);
        let program = running.ok_or_else(|| has_ended(operation.clone()))?;
        program.pipe.send(command).map_err(|errno| system(operation, errno))
    }

    fn expect(&mut self, request: u64, awaited: Awaited, deadline_ms: u64) {
        self.pending.push(Pending { request, awaited, deadline: in_ms(deadline_ms) });
    }

    /// Starts a successor on the descriptor that is kept.
    pub(super) fn hand_over(&mut self, marker: &Marker) -> Result<(), Failure> {
        let operation = format!("hand over the mount of {}", self.spec.name);
        let refuse = |kind, reason: &str| Err(failure(kind, operation.clone(), reason, None));
        if self.pid().is_some() {
            return refuse(ErrorKind::Environment, "its daemon lives");
        }
        let Some(keeper) = &mut self.kept else {
            return refuse(ErrorKind::Unsupported, "nothing is kept for it");
        };
        let Some(view) = self.views.first() else {
            return refuse(ErrorKind::Environment, "its container is gone");
        };
        let (device, init) =
            keeper.take_copy().map_err(|errno| system(operation.clone(), errno))?;
        self.spec.marker = marker.clone();
        let producer = producer_of(&self.spec, &self.source);
        // The number survives the closing of everything else in the new process.
        const DEVICE: i32 = 4;
        let program = Program::start(&self.spec, view, Some((&device, DEVICE)), |reporter| {
            match crate::sys::adopt(DEVICE) {
                Ok(device) => producer.take_over(device, init, reporter),
                Err(_) => 1,
            }
        })?;
        self.program = Some(program);
        Ok(())
    }
}

fn has_ended(operation: String) -> Failure {
    failure(ErrorKind::Environment, operation, "its program has ended", None)
}

/// The answers to the requests that wait for something that has happened.
fn settle(
    pending: &mut Vec<Pending>,
    happened: impl Fn(Awaited) -> bool,
    evidence: &str,
) -> Vec<Answer> {
    let (done, waiting): (Vec<_>, Vec<_>) =
        std::mem::take(pending).into_iter().partition(|one| happened(one.awaited));
    *pending = waiting;
    let reply = || Reply::Injected { evidence: evidence.to_owned() };
    done.into_iter().map(|one| (one.request, Ok(reply()))).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.as_bytes().chunks(2).map(byte).collect()
}

fn start_load(spec: &ContainerSpec, view: &View) -> Result<Option<Load>, Failure> {
    if spec.readers + spec.writers == 0 {
        return Ok(None);
    }
    let load = Load::start(spec.readers, spec.writers, &spec.fuse_path, || view.enter());
    load.map(Some).map_err(|errno| system(format!("start the load of {}", spec.name), errno))
}

impl Program {
    /// Tells the process of a container what it is.
    fn tell(spec: &ContainerSpec, process: Process, source: &str) -> Result<Self, Failure> {
        let told = Told { container: spec.clone(), source: source.to_owned() };
        let Process { pid, pipe } = process;
        match pipe.send(&told) {
            Ok(()) => Ok(Self { pid, pipe, running: true }),
            // It has ended, and will be reaped; if it has been, nobody would learn of it.
            Err(Errno::EPIPE) if kill(pid, None).is_ok() => Ok(Self { pid, pipe, running: true }),
            Err(errno) => Err(system(format!("start the program of {}", spec.name), errno)),
        }
    }

    /// Starts a program; a descriptor that it is to have gets the number that goes with it.
    fn start(
        spec: &ContainerSpec,
        view: &View,
        keep: Option<(&OwnedFd, i32)>,
        run: impl FnOnce(&Reporter) -> i32,
    ) -> Result<Self, Failure> {
        let failed = |errno| system(format!("start the program of {}", spec.name), errno);
        let (ours, theirs) = Pipe::pair().map_err(failed)?;
        match fork_into_pid_namespace().map_err(failed)? {
            Fork::Parent(pid) => Ok(Self { pid, pipe: ours, running: true }),
            Fork::Child => {
                let mut reporter = Reporter::to_node(theirs);
                let code = match become_program(spec, view, &mut reporter, keep) {
                    Ok(()) => run(&reporter),
                    Err(errno) => {
                        let text = format!("enter the container: {}", errno_text(errno));
                        reporter.event(&ProgramEvent::Failed { text });
                        1
                    }
                };
                exit_now(code)
            }
        }
    }
}

/// Enters the container's namespaces, drops what belongs to the node, becomes the user. Whatever fails, the
/// reporter can tell.
fn become_program(
    spec: &ContainerSpec,
    view: &View,
    reporter: &mut Reporter,
    keep: Option<(&OwnedFd, i32)>,
) -> Result<(), Errno> {
    const REPORT: i32 = 3;
    view.enter()?;
    // Both are moved out of the way of the other first.
    let pipe = reporter.node().ok_or(Errno::EBADF)?;
    let high = crate::sys::duplicate_above(pipe.as_fd(), 64)?;
    let kept = keep.map(|(fd, number)| Ok((crate::sys::duplicate_above(fd.as_fd(), 64)?, number)));
    let kept: Option<(OwnedFd, i32)> = kept.transpose()?;
    let report = duplicate_onto(high.as_fd(), REPORT)?;
    let mut first_unused = REPORT + 1;
    if let Some((fd, number)) = &kept {
        std::mem::forget(duplicate_onto(fd.as_fd(), *number)?);
        first_unused = number + 1;
    }
    // The numbers of the old one are closed with all others, and must not be closed again.
    std::mem::forget((
        std::mem::replace(reporter, Reporter::to_node(Pipe::new(report))),
        high,
        kept,
    ));
    close_from(first_unused);
    SigSet::all().thread_unblock()?;
    // The name is for people who look at `ps`.
    if let Ok(name) = std::ffi::CString::new(spec.name.as_str()) {
        let _ = prctl::set_name(&name);
    }
    if !spec.privileged && !spec.host && spec.role == Role::Producer {
        super::capabilities::drop_all_but(&spec.capabilities)?;
    }
    if spec.uid != 0 {
        // Where setgroups(2) is denied (a user namespace without newuidmap) there are no others.
        let _ = setgroups(&[]);
        setgid(Gid::from_raw(spec.uid))?;
        setuid(Uid::from_raw(spec.uid))?;
    }
    crate::sys::close_on_exec_from(REPORT);
    Ok(())
}

fn is_supervised(spec: &ContainerSpec) -> bool {
    spec.role == Role::Producer && (spec.supervised || !spec.fuse.is_builtin())
}

fn producer_of(spec: &ContainerSpec, source: &str) -> Producer {
    Producer {
        volume: spec.volumes.first().map(|v| v.destination.clone()).unwrap_or_default(),
        mountpoint: spec.fuse_path.clone(),
        source: source.to_owned(),
        marker: spec.marker.clone(),
        fuse: spec.fuse.clone(),
    }
}

/// Runs the program of a container, in it; returns the exit code.
pub(crate) fn run(spec: &ContainerSpec, source: &str, reporter: &Reporter) -> i32 {
    match spec.role {
        Role::Producer if is_supervised(spec) => Supervisor {
            name: spec.name.clone(),
            producer: producer_of(spec, source),
            outlives: spec.supervised,
            mount_ms: spec.marker_ms,
            probe_ms: spec.probe_ms,
        }
        .run(reporter),
        Role::Producer => producer_of(spec, source).run(reporter),
        Role::Consumer | Role::Control => Consumer {
            mountpoint: spec.fuse_path.clone(),
            marker_ms: spec.marker_ms,
            probe_ms: spec.probe_ms,
        }
        .run(reporter),
    }
}

impl Server {
    /// Ends a container; the answer follows when its processes are gone.
    pub(super) fn remove(&mut self, request: u64, id: u32) {
        self.end_holders(id);
        let Some(container) = self.containers.get_mut(&id) else {
            return self.answer(request, Ok(Reply::Done));
        };
        container.removed = true;
        container.kept = None;
        if container.pid().is_none() {
            self.containers.remove(&id);
            return self.answer(request, Ok(Reply::Done));
        }
        if let Err(failure) =
            container.signal(request, Signal::SIGKILL, Awaited::Removal, REMOVE_MS)
        {
            self.answer(request, Err(failure));
        }
    }
}
