//! Faults of the programs in pods: what each does to which process, and what proves that it has happened.

use std::os::fd::BorrowedFd;

use mountinfo::MountPath;
use nix::unistd::Pid;
use propagation_model::ErrorKind;
use propagation_model::marker::Marker;
use propagation_model::plan::{Fault, Role, Stale};
use propagation_protocol::{ContainerSpec, Failure, ProgramCommand, Reply};
use rustix::process::Signal;

use super::ending::{Ending, Then};
use super::processes::{send, signal_of};
use super::programs::Said;
use super::state::Host;
use crate::failure::failure;
use crate::mounts::parse;
use crate::node::{abort, is_supervised, open_below};
use crate::serve::{Begun, Job, Progress, in_child};
use crate::sys::in_ms;

/// What a program is to say to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
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

/// A program that is to say that it has obeyed, or that its daemon has ended.
struct Telling {
    container: u32,
    awaited: Awaited,
    deadline: u64,
}

impl Job<Host> for Telling {
    /// What a program says is waited for anyway.
    fn descriptors<'a>(&'a self, _: &'a Host) -> Vec<BorrowedFd<'a>> {
        Vec::new()
    }

    fn deadline(&self) -> Option<u64> {
        Some(self.deadline)
    }

    fn advance(&mut self, host: &mut Host, now: u64) -> Progress {
        let operation = || format!("wait for the program of container {}", self.container);
        let injected = |evidence| Progress::Finished(Ok(Reply::Injected { evidence }));
        match (host.programs.said(self.container), self.awaited) {
            (Some(Said::Obeyed(evidence)), Awaited::Obedience) => injected(evidence.clone()),
            (Some(Said::DaemonEnded(state)), Awaited::DaemonEnd) => {
                injected(format!("the daemon {state}; its supervisor goes on"))
            }
            _ if host.programs.pid(self.container, 0).is_none() => {
                let reason = "it has ended before it did what it was told";
                let failure = failure(ErrorKind::Environment, operation(), reason, None);
                Progress::Finished(Err(failure))
            }
            _ if now >= self.deadline => {
                let fix = "if it is stuck in the kernel, its FUSE daemon has to end first";
                let reason = "it did not do in time what it was told";
                let failure = failure(ErrorKind::Timeout, operation(), reason, Some(fix));
                Progress::Finished(Err(failure))
            }
            _ => Progress::Unfinished,
        }
    }
}

impl Host {
    /// Does a fault; the job ends when it has provably happened.
    pub(super) fn do_fault(
        &mut self,
        container: u32,
        fault: &Fault,
        deadline_ms: u64,
    ) -> Result<Begun<Self>, Failure> {
        let operation = || format!("do the fault {fault} to container {container}");
        let refuse = |kind, reason: &str| Err(failure(kind, operation(), reason, None));
        if *fault == Fault::Abort {
            return in_child(self, "abort the FUSE connection", 0, |host| host.abort(container));
        }
        let Some(spec) = self.programs.spec(container) else {
            return refuse(ErrorKind::Environment, "its program has ended");
        };
        match way(fault, spec) {
            None => refuse(ErrorKind::Unsupported, "the program of a pod cannot be made to do it"),
            Some(Way::Signal(signal)) => {
                self.programs.told(container).try_for_each(|process| send(process, signal))?;
                let told = self.programs.told(container);
                Ending::of(told, Then::Fault(signal), deadline_ms).map(Begun::job)
            }
            Some(Way::Command(command, awaited)) => {
                // A handle outlives the end that the command may bring.
                let told = self.programs.told(container);
                let ending = Ending::of(told, Then::Told, deadline_ms)?;
                self.programs.command(container, &command)?;
                let deadline = in_ms(deadline_ms);
                Ok(match awaited {
                    Some(awaited) => Begun::job(Telling { container, awaited, deadline }),
                    None => Begun::job(ending),
                })
            }
        }
    }

    /// Starts the daemon under its supervisor again, in the same container.
    pub(super) fn start_daemon(
        &mut self,
        container: u32,
        marker: Marker,
        stale: Option<Stale>,
    ) -> Result<Reply, Failure> {
        let stale = stale.or_else(|| {
            let spec = self.programs.spec(container)?;
            Some(spec.fuse.stale)
        });
        self.programs.serves(container, &marker);
        let stale = stale.unwrap_or_default();
        self.programs.command(container, &ProgramCommand::StartDaemon { marker, stale })?;
        Ok(Reply::Done)
    }

    /// Ends the connection that the daemon of a container serves, or that is mounted there, through fusectl.
    /// Runs in a child.
    fn abort(&self, container: u32) -> Result<Reply, Failure> {
        let operation = "abort the FUSE connection";
        let refuse = |reason: String| Err(failure(ErrorKind::Environment, operation, reason, None));
        let (Some(pid), Some(spec)) =
            (self.programs.pid(container, 0), self.programs.spec(container))
        else {
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
        abort(&minors).map(|evidence| Reply::Injected { evidence })
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
