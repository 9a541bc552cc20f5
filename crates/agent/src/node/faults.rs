//! Faults: what each does to which process, and what proves that it has happened.

use std::fs;
use std::path::Path;

use mountinfo::MountPath;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use propagation_model::ErrorKind;
use propagation_model::plan::{Fault, Role};
use propagation_protocol::{Failure, ProgramCommand, Reply};

use super::memory_limit::MemoryLimit;
use super::programs::{Awaited, Container};
use super::server::Server;
use crate::facts::CONNECTIONS;
use crate::failure::{errno_named, errno_text, failure};
use crate::mounts::errno_of;

impl Server {
    /// Does a fault; the answer follows when it has provably happened.
    pub(super) fn inject(&mut self, request: u64, id: u32, fault: &Fault, deadline_ms: u64) {
        let done = match fault {
            Fault::Abort => self.abort(id).map(Some),
            Fault::Oom => self.limit_memory(id).and_then(|()| {
                self.with(id, fault, |container| {
                    let command = ProgramCommand::UseMemory;
                    container.command(request, &command, Awaited::End, deadline_ms)
                })
            }),
            fault => {
                self.with(id, fault, |container| begin(container, request, fault, deadline_ms))
            }
        };
        match done {
            // A container that goes takes with it what was kept open in it.
            Ok(None) if fault.ends_the_daemon() => self.end_holders(id),
            Ok(None) => {}
            Ok(Some(evidence)) => self.answer(request, Ok(Reply::Injected { evidence })),
            Err(failure) => self.answer(request, Err(failure)),
        }
    }

    fn with(
        &mut self,
        id: u32,
        fault: &Fault,
        work: impl FnOnce(&mut Container) -> Result<(), Failure>,
    ) -> Result<Option<String>, Failure> {
        let container = self.containers.get_mut(&id).ok_or_else(|| {
            let reason = "there is no such container, or it has ended";
            failure(ErrorKind::Environment, format!("{fault} of container {id}"), reason, None)
        })?;
        work(container).map(|()| None)
    }

    /// Ends the connection of a producer's mount through fusectl.
    fn abort(&self, id: u32) -> Result<String, Failure> {
        let operation = "abort the FUSE connection";
        let refuse = |reason: String, fix: Option<&str>| {
            Err(failure(ErrorKind::Environment, operation, reason, fix))
        };
        let Some(container) = self.containers.get(&id) else {
            return refuse("there is no such container, or it has ended".into(), None);
        };
        let path = MountPath::from(container.spec().fuse_path.as_str());
        let table = match container.view(0) {
            Some(view) => self.table_of(view)?,
            None => return refuse("its container has ended".into(), None),
        };
        let Some(mount) = table.at(&path).filter(|mount| mount.is_fuse()) else {
            return refuse(format!("nothing is mounted at {path}"), None);
        };
        let connections = Path::new(CONNECTIONS);
        let file = connections.join(mount.device.minor.to_string()).join("abort");
        if !file.exists() {
            // On the node only: its mount namespace is its own.
            let _ = mount_fusectl(connections);
        }
        match fs::write(&file, "1") {
            Ok(()) => Ok(format!("wrote 1 to {}", file.display())),
            Err(error) => refuse(
                format!("write {}: {}", file.display(), errno_text(errno_of(&error))),
                Some("mount fusectl: mount -t fusectl none /sys/fs/fuse/connections"),
            ),
        }
    }

    fn limit_memory(&mut self, id: u32) -> Result<(), Failure> {
        let name = format!("propagation-{}-{id}", self.setup.run_id);
        let refuse =
            |kind, reason: &str| Err(failure(kind, "limit the memory of the daemon", reason, None));
        let Some(container) = self.containers.get_mut(&id) else {
            return refuse(ErrorKind::Environment, "there is no such container");
        };
        if container.is_supervised() || container.spec().role != Role::Producer {
            let reason = "only a built-in daemon that is process 1 can be told to use memory";
            return refuse(ErrorKind::Unsupported, reason);
        }
        let Some(pid) = container.pid() else {
            return refuse(ErrorKind::Environment, "its program has ended");
        };
        container.memory_limit = Some(MemoryLimit::put(&name, pid)?);
        Ok(())
    }
}

fn mount_fusectl(target: &Path) -> Result<(), Errno> {
    mount(Some("fusectl"), target, Some("fusectl"), MsFlags::empty(), None::<&str>)
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
        Fault::Slow(delay_ms) => {
            only_producers(container, fault)?;
            let command = ProgramCommand::Slow { delay_ms: *delay_ms };
            return container.command(request, &command, Awaited::Obedience, deadline_ms);
        }
        Fault::Errors(name) => {
            only_producers(container, fault)?;
            let errno = if name == "0" { Some(0) } else { errno_named(name) };
            let Some(errno) = errno else {
                let reason = format!("unknown errno {name}");
                return Err(failure(ErrorKind::InvalidInput, fault.to_string(), reason, None));
            };
            let command = ProgramCommand::Errors { errno };
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
            let reason = "this is not done to a container's processes";
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
