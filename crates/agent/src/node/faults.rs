//! Faults: what each does to which process, and what proves that it has happened.

use nix::sys::signal::Signal;
use propagation_model::ErrorKind;
use propagation_model::plan::{Fault, Role};
use propagation_protocol::{Failure, ProgramCommand};

use super::outside::Ask;
use super::programs::{Awaited, Container};
use super::simulated::Simulated;
use crate::failure::failure;

impl Simulated {
    /// Begins a fault. Returns its evidence, or none when the answer follows once it has provably happened.
    pub(super) fn begin_fault(
        &mut self,
        request: u64,
        id: u32,
        fault: &Fault,
        deadline_ms: u64,
    ) -> Result<Option<String>, Failure> {
        match fault {
            Fault::Abort => return self.abort(id).map(Some),
            Fault::Continue => {
                if let Some(evidence) = self.runs_anyway(id) {
                    return Ok(Some(evidence));
                }
                self.with(id, fault, |container| begin(container, request, fault, deadline_ms))?;
            }
            Fault::Oom => {
                self.limit_memory(id)?;
                self.with(id, fault, |container| {
                    let command = ProgramCommand::UseMemory;
                    container.command(request, &command, Awaited::End, deadline_ms)
                })?;
            }
            fault => {
                self.with(id, fault, |container| begin(container, request, fault, deadline_ms))?;
            }
        }
        // A container that goes takes with it what was kept open in it.
        if fault.ends_the_daemon() {
            self.end_holders(id);
        }
        Ok(None)
    }

    fn with(
        &mut self,
        id: u32,
        fault: &Fault,
        work: impl FnOnce(&mut Container) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let container = self.containers.get_mut(&id).ok_or_else(|| {
            let reason = "unknown container, or it has ended";
            failure(ErrorKind::Environment, format!("{fault} of container {id}"), reason, None)
        })?;
        work(container)
    }

    /// That the process 1 which is to go on is not stopped: the kernel tells nothing of such a SIGCONT.
    fn runs_anyway(&self, id: u32) -> Option<String> {
        let container = self.containers.get(&id)?;
        // A supervisor knows of its daemon.
        let pid =
            container.pid().filter(|_| !container.is_supervised() && !container.is_stopped())?;
        Some(format!("process {pid} of the node goes on: it was not stopped"))
    }

    /// Ends the connections of producers that were killed and have not ended.
    pub(super) fn release_stuck(&mut self, now: u64) {
        let stuck =
            self.containers.iter_mut().filter_map(|(id, one)| one.is_stuck(now).then_some(*id));
        for id in stuck.collect::<Vec<_>>() {
            self.release(id);
        }
    }

    /// Aborts the connection of a stuck producer. If that fails, the request for its removal gets the answer that
    /// it has not ended.
    fn release(&self, id: u32) {
        let pid = self.containers.get(&id).and_then(Container::pid);
        let released = pid.map(|pid| self.outside.ask(&Ask::AbortOf { pid: pid.as_raw() }));
        // By its mountpoint, where nobody else can have mounted there.
        let others = self.containers.values().filter(|one| one.serves()).count() > 1;
        if released.is_none_or(|released| released.is_err()) && !others {
            let _ = self.abort(id);
        }
    }

    /// Ends the connection that a producer's daemon serves, or that is mounted in a container, through
    /// fusectl.
    fn abort(&self, id: u32) -> Result<String, Failure> {
        let operation = "abort the FUSE connection";
        let refuse = |reason: String| Err(failure(ErrorKind::Environment, operation, reason, None));
        let Some(container) = self.containers.get(&id) else {
            return refuse("unknown container, or it has ended".into());
        };
        let own = container.connection();
        let Some(minor) = own.or_else(|| self.connection_at_mountpoint(container)) else {
            let path = &container.spec().fuse_path;
            return refuse(format!("no daemon of it serves, and nothing is mounted at {path}"));
        };
        self.outside.ask(&Ask::Abort { minor })
    }

    fn limit_memory(&mut self, id: u32) -> Result<(), Failure> {
        let refuse =
            |kind, reason: &str| Err(failure(kind, "limit the memory of the daemon", reason, None));
        let Some(container) = self.containers.get_mut(&id) else {
            return refuse(ErrorKind::Environment, "unknown container");
        };
        if container.is_supervised() || container.spec().role != Role::Producer {
            let reason = "only a built-in daemon that is process 1 can be told to use memory";
            return refuse(ErrorKind::Unsupported, reason);
        }
        let Some(pid) = container.pid() else {
            return refuse(ErrorKind::Environment, "its program has ended");
        };
        self.outside.ask(&Ask::LimitMemory { container: id, pid: pid.as_raw() })?;
        container.memory_limit = Some(self.outside.clone());
        Ok(())
    }
}

/// Sends the signal or the command of a fault.
fn begin(
    container: &mut Container,
    request: u64,
    fault: &Fault,
    deadline_ms: u64,
) -> Result<(), Failure> {
    let supervised = container.is_supervised();
    let daemon_end = match container.spec().supervised {
        true => Awaited::DaemonEnd,
        false => Awaited::End,
    };
    let signal_daemon = |signal: Signal| ProgramCommand::Signal { signal: signal as i32 };
    let (signal, awaited) = match fault {
        Fault::Kill if supervised => {
            let command = signal_daemon(Signal::SIGKILL);
            return container.command(request, &command, daemon_end, deadline_ms);
        }
        Fault::Terminate | Fault::Exit if supervised => {
            let command = match (fault, container.spec().fuse.is_builtin()) {
                (Fault::Exit, true) => ProgramCommand::Exit,
                _ => signal_daemon(Signal::SIGTERM),
            };
            return container.command(request, &command, daemon_end, deadline_ms);
        }
        Fault::Stop | Fault::Continue if supervised => {
            let (signal, awaited) = match fault {
                Fault::Stop => (Signal::SIGSTOP, Awaited::Stop),
                _ => (Signal::SIGCONT, Awaited::Continue),
            };
            return container.command(request, &signal_daemon(signal), awaited, deadline_ms);
        }
        Fault::Exit => {
            only_producers(container, fault)?;
            let command = ProgramCommand::Exit;
            return container.command(request, &command, Awaited::End, deadline_ms);
        }
        Fault::Slow(_) | Fault::Errors(_) => {
            only_producers(container, fault)?;
            let command = ProgramCommand::Obey { fault: fault.clone() };
            return container.command(request, &command, Awaited::Obedience, deadline_ms);
        }
        Fault::Kill | Fault::KillParent => (Signal::SIGKILL, Awaited::End),
        Fault::Terminate => (Signal::SIGTERM, Awaited::End),
        Fault::Delete => (Signal::SIGTERM, Awaited::EndOrForce),
        Fault::ForceDelete => {
            let least = deadline_ms.min(LEAST_GRACE_MS);
            return container.signal(request, Signal::SIGTERM, Awaited::EndOrForce, least);
        }
        Fault::Stop => (Signal::SIGSTOP, Awaited::Stop),
        Fault::Continue => (Signal::SIGCONT, Awaited::Continue),
        Fault::Abort | Fault::Oom | Fault::Unmount | Fault::LazyUnmount => {
            let reason = "this fault does not apply to the processes of a container";
            return Err(failure(ErrorKind::InvalidInput, fault.to_string(), reason, None));
        }
    };
    container.signal(request, signal, awaited, deadline_ms)
}

/// What a kubelet gives the processes of a pod at the least, in milliseconds.
const LEAST_GRACE_MS: u64 = 2_000;

fn only_producers(container: &Container, fault: &Fault) -> Result<(), Failure> {
    if container.spec().role == Role::Producer {
        return Ok(());
    }
    let reason = format!("{} serves no filesystem", container.spec().name);
    Err(failure(ErrorKind::Environment, fault.to_string(), reason, None))
}
