//! The state of a simulated node: its namespaces, its containers, and its way to the parent.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use mountinfo::{MountPath, MountTable};
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use propagation_model::ErrorKind;
use propagation_model::program::ProgramState;
use propagation_protocol::{
    Failure, Message, NodeSetup, PROTOCOL_VERSION, Place, ProgramEvent, Reply, Request,
};

use super::holder::Holder;
use super::oci::{self, Engine};
use super::outside::Outside;
use super::programs::Container;
use super::runtime::make_runtime;
use crate::failure::{failure, system};
use crate::mounts::{Proc, parse};
use crate::pipe::Pipe;
use crate::stuck::Stuck;
use crate::view::View;

/// A simulated node.
pub(super) struct Simulated {
    pub(super) setup: NodeSetup,
    /// The process outside the node.
    pub(super) outside: Outside,
    pub(super) proc: Proc,
    /// The node's own mount namespace, to come back to.
    pub(super) view: View,
    /// The runtime's, where it has one of its own.
    pub(super) runtime: Option<View>,
    /// What makes containers, where it is not the built-in engine.
    pub(super) engine: Option<Engine>,
    /// Processes that keep a descriptor, by where they have opened it.
    pub(super) holders: BTreeMap<Place, Holder>,
    pub(super) containers: BTreeMap<u32, Container>,
    /// Looks that were given up.
    pub(super) stuck: Stuck,
    /// Whether it goes on without its parent.
    pub(super) kept: bool,
    /// The way to the process that started it; none once that has gone.
    parent: Option<Pipe>,
    signals: SignalFd,
}

impl Simulated {
    pub(super) fn new(
        setup: NodeSetup,
        outside: Outside,
        signals: SigSet,
    ) -> Result<Self, Failure> {
        let proc = Proc::open()?;
        let view =
            View::current(&proc).map_err(|e| system("open the node's mount namespace", e))?;
        let runtime = make_runtime(&setup.spec.runtime, &proc)?;
        let engine = oci::prepare(&setup)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&signals, flags)
            .map_err(|errno| system("listen for ended children", errno))?;
        Ok(Self {
            setup,
            outside,
            proc,
            view,
            runtime,
            engine,
            holders: BTreeMap::new(),
            containers: BTreeMap::new(),
            stuck: Stuck::default(),
            kept: false,
            parent: None,
            signals,
        })
    }

    /// Takes requests from the parent, which learns that the node is ready.
    pub(super) fn greet(&mut self, parent: Pipe, mapped_uids: u64) {
        self.parent = Some(parent);
        let agent = env!("CARGO_PKG_VERSION").into();
        self.tell(&Message::Hello { protocol: PROTOCOL_VERSION, agent, mapped_uids });
    }

    /// Says something to the parent.
    pub(super) fn tell(&mut self, message: &Message) {
        self.parent.take_if(|parent| parent.send(message).is_err());
    }

    pub(super) fn is_over(&self) -> bool {
        self.parent.is_none() && !self.kept
    }

    /// The requests that have come, once ended children are collected.
    pub(super) fn requests(&mut self) -> Result<Vec<Request>, Errno> {
        let mut signalled = false;
        while self.signals.read_signal()?.is_some() {
            signalled = true;
        }
        if signalled {
            self.reap();
        }
        let mut requests = Vec::new();
        // A kept node whose parent has gone has nothing to hear.
        let Some(parent) = &mut self.parent else { return Ok(requests) };
        let open = parent.fill(false)?;
        while let Some(request) = parent.next()? {
            requests.push(request);
        }
        if !open {
            self.parent = None;
        }
        Ok(requests)
    }

    /// Descriptors of the parent, of ended children, and of the programs of containers.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let programs = self.containers.values().filter_map(Container::events);
        let pipes = self.parent.iter().chain(programs).map(AsFd::as_fd);
        std::iter::once(self.signals.as_fd()).chain(pipes).collect()
    }

    /// Passes on what programs have sent.
    pub(super) fn take_events(&mut self) {
        let mut messages = Vec::new();
        for (id, container) in &mut self.containers {
            let (events, answers) = container.take_events();
            messages.extend(reports(*id, events));
            messages.extend(answers.into_iter().map(answer));
        }
        messages.iter().for_each(|message| self.tell(message));
    }

    /// Answers the requests to the programs of containers that are late.
    pub(super) fn give_up_late(&mut self, now: u64) {
        let late: Vec<Message> =
            self.containers.values_mut().flat_map(|one| one.late(now)).map(answer).collect();
        late.iter().for_each(|message| self.tell(message));
    }

    /// Notes which connections the daemons serve that have just mounted.
    pub(super) fn note_connections(&mut self) {
        let mounted = self.containers.iter().filter(|(_, container)| container.has_mounted());
        let mounted: Vec<(u32, Option<u32>)> = mounted
            .map(|(id, container)| (*id, self.connection_at_mountpoint(container)))
            .collect();
        for (id, connection) in mounted {
            if let Some(container) = self.containers.get_mut(&id) {
                container.serves_connection(connection);
            }
        }
    }

    /// The FUSE connection that is mounted at the mountpoint of a container, as it sees it.
    pub(super) fn connection_at_mountpoint(&self, container: &Container) -> Option<u32> {
        let table = self.table_of(container.view(0)?).ok()?;
        let mount = table.at(&MountPath::from(container.spec().fuse_path.as_str()))?;
        mount.is_fuse().then_some(mount.device.minor)
    }

    /// Collects ended and stopped children.
    fn reap(&mut self) {
        let flags = Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED | WaitPidFlag::WCONTINUED);
        while let Ok(status) = waitpid(None, flags) {
            let (pid, news) = match status {
                WaitStatus::Exited(pid, code) => (pid, News::Ended(ProgramState::Exited { code })),
                WaitStatus::Signaled(pid, signal, _) => {
                    let signal = propagation_model::Signal::from_number(signal as i32);
                    (pid, News::Ended(ProgramState::Signaled { signal }))
                }
                WaitStatus::Stopped(pid, _) => (pid, News::Stopped),
                WaitStatus::Continued(pid) => (pid, News::Continued),
                WaitStatus::StillAlive => return,
                _ => continue,
            };
            let found = self.containers.iter_mut().find(|(_, c)| c.runs(pid));
            let Some((id, container)) = found else { continue };
            // What it said before it ended comes first.
            let (mut events, mut answers) = container.take_events();
            answers.extend(match news {
                News::Ended(state) => {
                    events.push(ProgramEvent::Ended { state: state.clone() });
                    container.ended(&state)
                }
                News::Stopped => container.stopped(false),
                News::Continued => container.stopped(true),
            });
            let answers = answers.into_iter().map(answer);
            let messages: Vec<_> = reports(*id, events).chain(answers).collect();
            messages.iter().for_each(|message| self.tell(message));
            self.containers.retain(|_, container| !container.is_removed());
        }
    }

    /// The mount view of a place.
    pub(super) fn view_of(&self, place: &Place) -> Result<&View, Failure> {
        match place {
            Place::Node => Ok(&self.view),
            Place::Runtime => Ok(self.runtime.as_ref().unwrap_or(&self.view)),
            Place::Container(id, replica) => {
                let view = self.containers.get(id).and_then(|container| container.view(*replica));
                view.ok_or_else(|| {
                    let operation = format!("look from container {id}, replica {replica}");
                    let reason = "unknown container, or it has ended";
                    failure(ErrorKind::InvalidInput, operation, reason, None)
                })
            }
        }
    }

    /// The mount table of a view, in the kernel's words. Entering it never touches a FUSE daemon.
    pub(super) fn mountinfo_of(&self, view: &View) -> Result<Vec<u8>, Failure> {
        let enter = |view: &View| {
            view.enter_mounts().map_err(|errno| system("enter a mount namespace", errno))
        };
        enter(view)?;
        let text = self.proc.mountinfo();
        enter(&self.view)?;
        text
    }

    fn table_of(&self, view: &View) -> Result<MountTable, Failure> {
        parse(&self.mountinfo_of(view)?)
    }

    /// A container by its number.
    pub(super) fn container(&mut self, id: u32) -> Result<&mut Container, Failure> {
        self.containers.get_mut(&id).ok_or_else(|| {
            let reason = "unknown container, or it has ended";
            failure(ErrorKind::InvalidInput, format!("use container {id}"), reason, None)
        })
    }

    /// Ends the processes that keep descriptors open in a container.
    pub(super) fn end_holders(&mut self, id: u32) {
        self.holders.retain(|place, holder| {
            let goes = matches!(place, Place::Container(of, _) if *of == id);
            if goes {
                holder.end();
            }
            !goes
        });
    }
}

/// What has become of a child.
enum News {
    Ended(ProgramState),
    Stopped,
    Continued,
}

fn reports(container: u32, events: Vec<ProgramEvent>) -> impl Iterator<Item = Message> {
    events.into_iter().map(move |event| Message::Event { container, event })
}

fn answer((id, result): (u64, Result<Reply, Failure>)) -> Message {
    Message::Answer { id, result }
}
