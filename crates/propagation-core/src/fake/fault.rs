//! Faults: signals to a workload's processes, and what they leave.

use super::fuse::Daemon;
use super::record::Container;
use super::runtime::never_started;
use super::world::World;
use crate::Signal;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind};
use crate::observation::Actor;
use crate::plan::{Fault, Operation, Role};
use crate::program::{ProgramState, Refused};

impl World {
    pub(super) fn inject(
        &mut self,
        number: u32,
        fault: &Fault,
    ) -> Result<Result<String, Refused>, Error> {
        let Some(record) = self.workloads.get(&number) else { return Err(never_started()) };
        let name = record.spec.name.clone();
        let stopped = record.container.as_ref().is_some_and(|container| container.stopped);
        if !record.runs() {
            let operation = format!("{fault}: {name}");
            return Ok(Err(Refused::new(operation, "its program has ended")));
        }
        let said = |words: &str| Ok(Ok(format!("the program of {name} on the fake node {words}")));
        match fault {
            fault if !self.settings.capabilities.faults.contains(&fault.kind()) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("{fault}: {name}"),
                format!("not declared: {}", fault.kind().name()),
            )),
            Fault::Unmount | Fault::LazyUnmount => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{fault}: {name}"),
                "this is done to the node and not to a workload",
            )),
            Fault::Stop => {
                self.stop_processes(number, true);
                said("is stopped")
            }
            Fault::Continue => {
                self.stop_processes(number, false);
                said("goes on")
            }
            Fault::Abort => {
                self.set_daemon(number, Daemon::Gone);
                self.settle();
                said("has lost its connection")
            }
            // What the model is asked for is reading, which opens.
            Fault::Slow(delays) => {
                let delays =
                    [Operation::Open, Operation::Read].into_iter().filter_map(|op| delays.of(op));
                let daemon = match delays.max().copied().unwrap_or_default() {
                    0 => Daemon::Serves,
                    ms => Daemon::Slow(ms),
                };
                self.set_daemon(number, daemon);
                self.settle();
                said("answers later")
            }
            Fault::Errors(errnos) => {
                let errno = [Operation::Open, Operation::Read].iter().find_map(|op| errnos.of(*op));
                self.set_daemon(number, Daemon::answering(errno.copied().unwrap_or(Errno::NONE)));
                self.settle();
                said("answers with an error")
            }
            Fault::Terminate | Fault::Exit if stopped => Ok(Err(Refused::new(
                format!("terminate {name}"),
                "its processes are stopped and take no signal but SIGKILL",
            ))),
            Fault::Terminate | Fault::Exit | Fault::Delete | Fault::ForceDelete => {
                if !stopped {
                    self.unmount_own(number);
                }
                let state = self.state_after_term(number);
                self.end_by_fault(number, state.clone());
                said(&state.to_string())
            }
            Fault::Kill | Fault::KillParent | Fault::Oom => {
                let state = ProgramState::Signaled { signal: Signal::SIGKILL };
                self.end_by_fault(number, state.clone());
                said(&state.to_string())
            }
        }
    }

    /// Only the producer handles SIGTERM.
    fn state_after_term(&self, number: u32) -> ProgramState {
        match self.workloads.get(&number).map(|record| record.spec.role) {
            Some(Role::Producer) => ProgramState::Exited { code: 0 },
            _ => ProgramState::Signaled { signal: Signal::SIGTERM },
        }
    }

    fn stop_processes(&mut self, number: u32, stopped: bool) {
        if let Some(container) =
            self.workloads.get_mut(&number).and_then(|record| record.container.as_mut())
        {
            container.stopped = stopped;
        }
        let daemon = if stopped { Daemon::Stopped } else { Daemon::Serves };
        self.set_daemon(number, daemon);
        self.settle();
    }

    /// Ends the processes of a container. With a keeper the connection of a producer goes on, and nobody answers.
    fn end_by_fault(&mut self, number: u32, state: ProgramState) {
        let serves = self.connection_of(number).is_some_and(|one| one.daemon != Daemon::Gone);
        let record = self.workloads.get_mut(&number);
        let Some(record) = record.filter(|one| serves && self.plan.fuse_of(&one.spec).keeper)
        else {
            return self.end(number, state);
        };
        record.reported.send_modify(|reported| reported.status.program = state);
        self.set_daemon(number, Daemon::Stopped);
        if let Some(record) = self.workloads.get_mut(&number) {
            record.kept = record.container.take().map(|kept| Container { stopped: false, ..kept });
        }
        self.settle();
    }

    /// Ends a container: its processes, its keeper, and the namespaces with them.
    pub(super) fn end(&mut self, number: u32, state: ProgramState) {
        if let Some(record) = self.workloads.get_mut(&number) {
            record.container = record.container.take().or(record.kept.take());
        }
        self.set_daemon(number, Daemon::Gone);
        let Some(record) = self.workloads.get_mut(&number) else { return };
        let name = &record.spec.name;
        self.held
            .retain(|actor, _| !matches!(actor, Actor::Workload { name: of, .. } if of == name));
        let Some(container) = record.container.take() else { return };
        for namespace in container.namespaces {
            self.kernel.end_namespace(namespace);
        }
        record.reported.send_modify(|reported| {
            if reported.status.program == ProgramState::Running {
                reported.status.program = state;
            }
        });
        self.settle();
    }
}
