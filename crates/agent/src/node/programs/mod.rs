//! A container: its mount namespaces, and the program in it.

mod hand_over;
mod pending;
mod program;
mod remove;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use propagation_model::ErrorKind;
use propagation_model::plan::Role;
use propagation_model::program::{LoadReport, ProgramState};
use propagation_protocol::{ContainerSpec, Failure, ProgramCommand, ProgramEvent};

use super::keeper::Keeper;
use super::made::Made;
use super::oci::{Engine, Handle};
use super::outside::{Ask, Outside};
use super::role::{is_supervised, run};
use crate::failure::{failure, system};
use crate::load::Load;
use crate::pipe::Pipe;
use crate::view::View;
use pending::{Answer, Waiting};
use program::Program;

pub(super) use pending::Awaited;

/// One container on the node.
#[derive(Debug)]
pub(super) struct Container {
    spec: ContainerSpec,
    views: Vec<View>,
    program: Option<Program>,
    waiting: Waiting,
    removed: bool,
    /// What the mounts of its producer call their source.
    source: String,
    /// The keeper of the descriptor of its FUSE connection.
    kept: Option<Keeper>,
    load: Option<Load>,
    /// The FUSE connection that its daemon serves, once that has mounted: it lives on where nothing is
    /// mounted on the node any more.
    connection: Option<u32>,
    /// It has mounted, and its connection is not looked up yet.
    mounted: bool,
    /// Whether process 1 is stopped by a signal.
    stopped: bool,
    /// Instant at which the connection of its daemon is aborted if the daemon still runs.
    abort_at: Option<u64>,
    /// What the runtime knows it by, until its process has ended.
    handle: Option<Handle>,
    /// The process that limits its daemon's memory, to be told when to stop.
    pub(super) memory_limit: Option<Outside>,
}

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
            (Some(view), None) => {
                Some(Program::start(&spec, view, None, |reporter| run(&spec, source, reporter))?)
            }
            (None, _) => None,
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
            waiting: Waiting::default(),
            removed: false,
            source: source.to_owned(),
            kept: None,
            connection: None,
            mounted: false,
            load,
            stopped: false,
            abort_at: None,
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

    /// The FUSE connection of its daemon.
    pub(super) fn connection(&self) -> Option<u32> {
        self.connection
    }

    /// Takes note of the connection that its daemon serves.
    pub(super) fn serves_connection(&mut self, connection: Option<u32>) {
        self.mounted = false;
        self.connection = connection.or(self.connection);
    }

    /// Whether it has mounted since its connection was noted last.
    pub(super) fn has_mounted(&self) -> bool {
        self.mounted
    }

    /// Process 1 of the container, while it runs.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.program.as_ref().filter(|program| program.running).map(|program| program.pid)
    }

    /// Whether process 1 is stopped by a signal.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether its daemon is a child of process 1.
    pub(super) fn is_supervised(&self) -> bool {
        is_supervised(&self.spec)
    }

    /// Where its program's events arrive, while it is connected.
    pub(super) fn events(&self) -> Option<&Pipe> {
        self.program.as_ref().map(|program| &program.pipe).filter(|pipe| !pipe.is_closed())
    }

    /// The events of its program, except those for the node alone, and the answers that follow from them.
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
                    answers.extend(self.waiting.settle(obeyed, &evidence));
                }
                ProgramEvent::DaemonEnded { state } => {
                    let transport = self.spec.fuse.transport;
                    let server =
                        transport.is_some_and(|one| one.has_server() && !one.is_re_export());
                    let what = if server { "server" } else { "daemon" };
                    let evidence = format!("the {what} of {}: {state}", self.spec.name);
                    self.connection = self.connection.filter(|_| self.kept.is_some());
                    let ended = |awaited| awaited == Awaited::DaemonEnd;
                    answers.extend(self.waiting.settle(ended, &evidence));
                    events.push(ProgramEvent::DaemonEnded { state });
                }
                event => {
                    self.mounted |= matches!(event, ProgramEvent::Mounted { .. });
                    events.push(event);
                }
            }
        }
        (events, answers)
    }

    pub(super) fn runs(&self, pid: Pid) -> bool {
        self.program.as_ref().is_some_and(|program| program.running && program.pid == pid)
    }

    /// Whether it is a producer with a running program.
    pub(super) fn serves(&self) -> bool {
        self.spec.role == Role::Producer && self.program.as_ref().is_some_and(|p| p.running)
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed && self.program.as_ref().is_none_or(|program| !program.running)
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.waiting.deadline().into_iter().chain(self.abort_at).min()
    }

    /// Whether its daemon was killed and did not end in time; true once.
    pub(super) fn is_stuck(&mut self, now: u64) -> bool {
        self.abort_at.take_if(|at| now >= *at).is_some()
    }

    /// What its readers and writers have met since they were asked last.
    pub(super) fn load(&mut self) -> Option<LoadReport> {
        self.load.as_mut().map(Load::report)
    }

    /// The program has been reaped, and with it everything in its pid namespace.
    pub(super) fn ended(&mut self, state: &ProgramState) -> Vec<Answer> {
        let Some(program) = &mut self.program else { return Vec::new() };
        program.running = false;
        self.stopped = false;
        self.connection = self.connection.filter(|_| self.kept.is_some());
        self.abort_at = None;
        let pid = program.pid;
        self.load = None;
        if let Some(handle) = self.handle.take() {
            handle.forget();
        }
        // The namespaces go with the last descriptor. A successor that takes over needs them.
        let torn_down = !self.waiting.is_empty() && self.kept.is_none();
        if torn_down {
            self.views.clear();
        }
        let counted = self.memory_limit.take().map(|outside| {
            let counted = outside.ask(&Ask::EndLimit { container: self.spec.id });
            format!("; {}", counted.unwrap_or_else(|failure| failure.reason))
        });
        let evidence = format!(
            "process {pid} of the node: {state}{}{}",
            if torn_down { "; its namespaces are gone" } else { "" },
            counted.unwrap_or_default()
        );
        self.waiting.end(&evidence)
    }

    /// The program has been stopped by a signal, or goes on.
    pub(super) fn stopped(&mut self, goes_on: bool) -> Vec<Answer> {
        self.stopped = !goes_on;
        let Some(program) = &self.program else { return Vec::new() };
        let (awaited, words) =
            if goes_on { (Awaited::Continue, "goes on") } else { (Awaited::Stop, "is stopped") };
        let evidence = format!("process {} of the node {words}", program.pid);
        self.waiting.settle(|other| other == awaited, &evidence)
    }

    /// The answers to requests past their deadline.
    pub(super) fn late(&mut self, now: u64) -> Vec<Answer> {
        let pid = self.pid();
        let force = || pid.is_some_and(|pid| kill(pid, Signal::SIGKILL).is_ok());
        self.waiting.late(now, &self.spec.name, force)
    }

    /// Sends process 1 a signal; the answer comes with the awaited event.
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
        self.waiting.expect(request, awaited, deadline_ms);
        Ok(())
    }

    /// Sends the program a command; the answer comes with the awaited event.
    pub(super) fn command(
        &mut self,
        request: u64,
        command: &ProgramCommand,
        awaited: Awaited,
        deadline_ms: u64,
    ) -> Result<(), Failure> {
        self.tell(command)?;
        self.waiting.expect(request, awaited, deadline_ms);
        Ok(())
    }

    /// Sends the program a command without an answer.
    pub(super) fn tell(&mut self, command: &ProgramCommand) -> Result<(), Failure> {
        let operation = format!("tell {} something", self.spec.name);
        let running = self.program.as_ref().filter(|program| program.running);
        let program = running.ok_or_else(|| has_ended(operation.clone()))?;
        program.pipe.send(command).map_err(|errno| system(operation, errno))
    }
}

fn has_ended(operation: String) -> Failure {
    failure(ErrorKind::Environment, operation, "its program has ended", None)
}

/// Bytes from text in hexadecimal.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.as_bytes().chunks(2).map(byte).collect()
}

fn start_load(spec: &ContainerSpec, view: &View) -> Result<Option<Load>, Failure> {
    if spec.readers == 0 && spec.writers == 0 {
        return Ok(None);
    }
    let load = Load::start(spec.readers, spec.writers, &spec.fuse_path, || view.enter());
    load.map(Some).map_err(|errno| system(format!("start the load of {}", spec.name), errno))
}
