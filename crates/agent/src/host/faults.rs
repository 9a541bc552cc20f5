//! Faults of the programs in pods: what each does to which process, and what proves that it has happened.

use mountinfo::MountPath;
use nix::unistd::Pid;
use propagation_model::ErrorKind;
use propagation_model::marker::Marker;
use propagation_model::plan::{Fault, Role, Stale};
use propagation_protocol::host::{HostCall, HostReply};
use propagation_protocol::{Call, ContainerSpec, Failure, ProgramCommand, Reply};
use rustix::process::Signal;

use super::programs::{Said, send, signal_of};
use super::server::{Job, Server, Then, signalled};
use crate::failure::failure;
use crate::mounts::parse;
use crate::node::{abort, is_supervised, open_below};
use crate::sys::in_ms;

/// What a program is to say to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// That it has obeyed.
    Obedience,
    /// That the daemon which it supervises has ended.
    DaemonEnd,
}

/// How a fault is done to a program.
enum Way {
    Signal(Signal),
    /// A command, and what is said to it; none for one that ends the program.
    Command(ProgramCommand, Option<Awaited>),
}

impl Server {
    /// Does a fault; the job ends when it has provably happened.
    pub(super) fn inject(
        &mut self,
        container: u32,
        fault: &Fault,
        deadline_ms: u64,
    ) -> Result<Job, Failure> {
        let operation = || format!("do the fault {fault} to container {container}");
        let refuse = |kind, reason: &str| Err(failure(kind, operation(), reason, None));
        if *fault == Fault::Abort {
            return self.in_child(HostCall::Node {
                call: Call::Inject { container, fault: fault.clone(), deadline_ms },
            });
        }
        let Some((_, spec)) = self.programs.running(container, 0) else {
            return refuse(ErrorKind::Environment, "its program has ended");
        };
        match way(fault, spec) {
            None => refuse(ErrorKind::Unsupported, "the program of a pod cannot be made to do it"),
            Some(Way::Signal(signal)) => {
                self.programs.told(container).try_for_each(|process| send(process, signal))?;
                signalled(self.programs.told(container), Then::Fault(signal), deadline_ms)
            }
            Some(Way::Command(command, awaited)) => {
                // A handle outlives the end that the command may bring.
                let ending = signalled(self.programs.told(container), Then::Told, deadline_ms)?;
                self.programs.command(container, &command)?;
                let deadline = in_ms(deadline_ms);
                Ok(awaited.map_or(ending, |awaited| Job::Telling { container, awaited, deadline }))
            }
        }
    }

    /// The evidence of what a program was to do, or that it is too late for it; none while it is waited for.
    pub(super) fn has_said(
        &self,
        container: u32,
        awaited: Awaited,
        late: bool,
    ) -> Option<Result<String, Failure>> {
        let operation = || format!("wait for the program of container {container}");
        match (self.programs.said(container), awaited) {
            (Some(Said::Obeyed(evidence)), Awaited::Obedience) => Some(Ok(evidence.clone())),
            (Some(Said::DaemonEnded(state)), Awaited::DaemonEnd) => {
                Some(Ok(format!("the daemon {state}; its supervisor goes on")))
            }
            _ if self.programs.running(container, 0).is_none() => {
                let reason = "it has ended before it did what it was told";
                Some(Err(failure(ErrorKind::Environment, operation(), reason, None)))
            }
            _ if late => {
                let fix = "if it is stuck in the kernel, its FUSE daemon has to end first";
                let reason = "it did not do in time what it was told";
                Some(Err(failure(ErrorKind::Timeout, operation(), reason, Some(fix))))
            }
            _ => None,
        }
    }

    /// The next program of a container serves the connection of the one before.
    pub(super) fn hand_over(&mut self, container: u32, marker: &Marker) -> Result<Reply, Failure> {
        self.programs.expect_successor(container, marker).map(|()| Reply::Done)
    }

    /// Starts the daemon under its supervisor again, in the same container.
    pub(super) fn start_daemon(
        &mut self,
        container: u32,
        marker: Marker,
        stale: Option<Stale>,
    ) -> Result<Reply, Failure> {
        let stale = stale.or_else(|| {
            let (_, spec) = self.programs.running(container, 0)?;
            Some(spec.fuse.stale)
        });
        self.programs.serves(container, &marker);
        let stale = stale.unwrap_or_default();
        self.programs.command(container, &ProgramCommand::StartDaemon { marker, stale })?;
        Ok(Reply::Done)
    }

    /// Ends the connection that the daemon of a container serves, or that is mounted there, through fusectl.
    /// Runs in a child.
    pub(super) fn abort(&self, container: u32) -> Result<HostReply, Failure> {
        let operation = "abort the FUSE connection";
        let refuse = |reason: String| Err(failure(ErrorKind::Environment, operation, reason, None));
        let Some((pid, spec)) = self.programs.running(container, 0) else {
            return refuse("unknown container, or it has ended".into());
        };
        let mut minors = open_below(&self.proc, &[Pid::from_raw(pid)]);
        if minors.is_empty() {
            let text = self.proc.read(&format!("{pid}/mountinfo")).unwrap_or_default();
            let table = parse(&text).ok();
            let path = MountPath::from(spec.fuse_path.as_str());
            let mount = table.as_ref().and_then(|table| table.at(&path));
            minors.extend(mount.filter(|mount| mount.is_fuse()).map(|mount| mount.device.minor));
        }
        if minors.is_empty() {
            let path = &spec.fuse_path;
            return refuse(format!("no daemon of it serves, and nothing is mounted at {path}"));
        }
        abort(&minors).map(|evidence| HostReply::Node { reply: Reply::Injected { evidence } })
    }
}

/// How a fault is done to a program; none for one that it cannot be made to do. A supervisor passes on what its
/// daemon is to suffer.
fn way(fault: &Fault, spec: &ContainerSpec) -> Option<Way> {
    let ends = if spec.supervised { Some(Awaited::DaemonEnd) } else { None };
    let signal = |signal: Signal, awaited| {
        Some(Way::Command(ProgramCommand::Signal { signal: signal.as_raw() }, awaited))
    };
    let (serves, builtin) = (spec.role == Role::Producer, spec.fuse.is_builtin());
    match fault {
        Fault::Kill if is_supervised(spec) => signal(Signal::KILL, ends),
        Fault::Terminate if is_supervised(spec) => signal(Signal::TERM, ends),
        Fault::Stop if is_supervised(spec) => signal(Signal::STOP, Some(Awaited::Obedience)),
        Fault::Continue if is_supervised(spec) => signal(Signal::CONT, Some(Awaited::Obedience)),
        Fault::Exit if serves && builtin => Some(Way::Command(ProgramCommand::Exit, ends)),
        Fault::Exit if serves => signal(Signal::TERM, ends),
        Fault::Slow(_) | Fault::Errors(_) if serves => {
            let command = ProgramCommand::Obey { fault: fault.clone() };
            Some(Way::Command(command, Some(Awaited::Obedience)))
        }
        fault => signal_of(fault).map(Way::Signal),
    }
}
