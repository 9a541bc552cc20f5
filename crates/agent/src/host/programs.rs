//! The programs in the run's containers: which have connected, the orders of each, how each ends.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use propagation_model::ErrorKind;
use propagation_model::marker::Marker;
use propagation_model::plan::Role;
use propagation_model::program::ProgramState;
use propagation_protocol::host::{HostMessage, Layout, ProgramId, ProgramOrders};
use propagation_protocol::{ContainerSpec, Failure, ProgramCommand, ProgramEvent};

use super::peer::{Peer, Pod};
use super::processes::{Process, has_ended};
use crate::failure::{failure, system};
use crate::mounts::Proc;
use crate::node::{Keeper, from_hex};
use crate::pipe::Pipe;
use crate::reporter::to_hex;
use crate::view::View;

/// The most that may have connected without being known; the first that came goes for one more.
const MOST_STRANGERS: usize = 64;

/// The most refusals that are told of.
const MOST_REFUSALS: u32 = 32;

/// What is known of one container.
#[derive(Debug, Default)]
struct Slot {
    /// The pod that was made for it: only this pod is heard.
    pod: Option<Pod>,
    /// What its next program is to do, once.
    next: Option<Next>,
    running: Option<(Process, ContainerSpec)>,
    /// A program without orders: the kubelet has restarted its container.
    waiting: Option<Process>,
    /// What the program has said to its last command.
    said: Option<Said>,
    /// Keeps the connection of its producer.
    kept: Option<Keeper>,
    /// What the program before was told.
    before: Option<ContainerSpec>,
}

/// What a program is to do.
#[derive(Debug)]
struct Next {
    spec: ContainerSpec,
    /// On the connection that is kept.
    takes_over: bool,
}

/// What a program says to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It has obeyed.
    Obeyed(String),
    /// The daemon that it supervises has ended.
    DaemonEnded(ProgramState),
}

/// All containers of the run.
#[derive(Debug, Default)]
pub(super) struct Programs {
    slots: HashMap<ProgramId, Slot>,
    /// Connected peers that are not identified yet.
    strangers: Vec<Peer>,
    refusals: u32,
}

impl Programs {
    pub(super) fn accept(&mut self, pipe: Pipe) {
        // One that has ended again meanwhile is nobody.
        if let Ok(peer) = Peer::of(pipe) {
            if self.strangers.len() == MOST_STRANGERS {
                self.strangers.remove(0);
            }
            self.strangers.push(peer);
        }
    }

    /// Gives up the peers that are not identified.
    pub(super) fn forget_strangers(&mut self) {
        self.strangers.clear();
    }

    /// When the first of them is given up.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.strangers.iter().map(Peer::deadline).min()
    }

    /// The pod that was made for a program.
    pub(super) fn admit(&mut self, program: ProgramId, pod: Pod) {
        self.slots.entry(program).or_default().pod = Some(pod);
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let slots = self.slots.values();
        let told = slots.clone().filter_map(|slot| slot.running.as_ref().map(|(p, _)| &p.pipe));
        let waiting = slots.filter_map(|slot| slot.waiting.as_ref().map(|p| &p.pipe));
        let known = told.chain(waiting).map(AsFd::as_fd);
        self.strangers.iter().map(Peer::descriptor).chain(known)
    }

    /// Says what the programs of a container are to do, all replicas.
    pub(super) fn expect(&mut self, spec: &ContainerSpec) {
        for replica in 0..spec.replicas {
            let program = ProgramId { container: spec.id, replica };
            let slot = self.slots.entry(program).or_default();
            slot.next = Some(Next { spec: spec.clone(), takes_over: false });
            // A producer that begins anew has a connection of its own.
            slot.kept = None;
        }
    }

    /// The next program of a container is to serve the connection that is kept.
    pub(super) fn expect_successor(
        &mut self,
        container: u32,
        marker: &Marker,
    ) -> Result<(), Failure> {
        let slot = self.slots.entry(ProgramId { container, replica: 0 }).or_default();
        let refuse = |kind, reason: &str| {
            let operation = format!("hand over the mount of container {container}");
            Err(failure(kind, operation, reason, None))
        };
        if slot.running.is_some() {
            return refuse(ErrorKind::Environment, "its daemon lives");
        }
        let (Some(before), Some(_)) = (&slot.before, &slot.kept) else {
            return refuse(ErrorKind::Unsupported, "nothing is kept for it");
        };
        let spec = ContainerSpec { marker: marker.clone(), ..before.clone() };
        slot.next = Some(Next { spec, takes_over: true });
        Ok(())
    }

    /// A program that was started here, without a pod.
    pub(super) fn runs_here(&mut self, program: ProgramId, process: Process, spec: ContainerSpec) {
        let slot = self.slots.entry(program).or_default();
        slot.next = None;
        slot.running = Some((process, spec));
    }

    /// Takes what has come; the messages that follow from it.
    pub(super) fn advance(&mut self, proc: &Proc, layout: &Layout) -> Vec<HostMessage> {
        let mut messages = Vec::new();
        for mut peer in std::mem::take(&mut self.strangers) {
            if !peer.listen() {
                continue;
            }
            let known = peer.hello.as_ref().and_then(|hello| {
                let slot = self.slots.get_mut(&hello.program)?;
                let pod = slot.pod.clone()?;
                Some((slot, pod))
            });
            let Some((slot, pod)) = known else {
                self.strangers.push(peer);
                continue;
            };
            let process = peer.check(&pod, layout, proc).and_then(|()| {
                peer.into_process(&pod, proc).map_err(|errno| errno.desc().to_owned())
            });
            match process {
                Ok(process) => slot.waiting = Some(process),
                Err(reason) => self.refuse(&reason),
            }
        }
        for (program, slot) in &mut self.slots {
            slot.take_events(*program, &mut messages);
            slot.release(*program, &mut messages);
        }
        messages
    }

    /// Refuses to give a peer orders; the host agent's log has the reason.
    fn refuse(&mut self, reason: &str) {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals <= MOST_REFUSALS {
            let _ = writeln!(std::io::stderr(), "refused: {reason}");
        }
    }

    fn slot(&self, container: u32, replica: u32) -> Result<&(Process, ContainerSpec), Failure> {
        let program = ProgramId { container, replica };
        self.slots.get(&program).and_then(|slot| slot.running.as_ref()).ok_or_else(|| {
            let words = format!("look from container {container}, replica {replica}");
            let reason = "unknown container, or it has ended";
            failure(ErrorKind::InvalidInput, words, reason, None)
        })
    }

    /// The mount view of a container. The node's rights are enough to enter it.
    pub(super) fn view(&self, container: u32, replica: u32) -> Result<&View, Failure> {
        self.slot(container, replica).map(|(process, _)| &process.view)
    }

    /// The id of a container's process.
    pub(super) fn pid(&self, container: u32, replica: u32) -> Option<i32> {
        self.slot(container, replica).ok().map(|(process, _)| process.pid)
    }

    /// What the program of a container was told.
    pub(super) fn spec(&self, container: u32) -> Option<&ContainerSpec> {
        self.slot(container, 0).ok().map(|(_, spec)| spec)
    }

    /// The processes of a container that have been told what to do.
    pub(super) fn told(&self, container: u32) -> impl Iterator<Item = &Process> {
        self.slots
            .iter()
            .filter(move |(program, _)| program.container == container)
            .filter_map(|(_, slot)| slot.running.as_ref().map(|(process, _)| process))
    }

    /// Gives the program of a container a command; what it says to it is [`Self::said`].
    pub(super) fn command(
        &mut self,
        container: u32,
        command: &ProgramCommand,
    ) -> Result<(), Failure> {
        let operation = || format!("give the program of container {container} a command");
        let slot = self.slots.get_mut(&ProgramId { container, replica: 0 });
        let Some((slot, (process, _))) = slot.and_then(|slot| {
            let Slot { running, said, .. } = slot;
            Some((said, running.as_mut()?))
        }) else {
            let reason = "its program has ended";
            return Err(failure(ErrorKind::Environment, operation(), reason, None));
        };
        *slot = None;
        process.pipe.send(command).map_err(|errno| system(operation(), errno))
    }

    /// What the program of a container has said to its last command.
    pub(super) fn said(&self, container: u32) -> Option<&Said> {
        self.slots.get(&ProgramId { container, replica: 0 })?.said.as_ref()
    }

    /// The program of a container serves another generation from now on.
    pub(super) fn serves(&mut self, container: u32, marker: &Marker) {
        let slot = self.slots.get_mut(&ProgramId { container, replica: 0 });
        if let Some((_, spec)) = slot.and_then(|slot| slot.running.as_mut()) {
            spec.marker = marker.clone();
        }
    }

    /// All processes of a container, or of all of them.
    pub(super) fn all(&self, container: Option<u32>) -> impl Iterator<Item = &Process> {
        self.slots
            .iter()
            .filter(move |(program, _)| container.is_none_or(|id| program.container == id))
            .flat_map(|(_, slot)| {
                slot.running.iter().map(|(process, _)| process).chain(&slot.waiting)
            })
    }

    /// Whether a producer's program runs.
    pub(super) fn a_producer_serves(&self) -> bool {
        let told = self.slots.values().filter_map(|slot| slot.running.as_ref());
        told.into_iter()
            .any(|(process, spec)| spec.role == Role::Producer && !has_ended(&process.handle))
    }

    /// What a container was to do next is off.
    pub(super) fn expect_nothing(&mut self, container: Option<u32>) {
        for (program, slot) in &mut self.slots {
            if container.is_none_or(|id| program.container == id) {
                slot.next = None;
                slot.kept = None;
            }
        }
    }
}

impl Slot {
    fn take_events(&mut self, program: ProgramId, messages: &mut Vec<HostMessage>) {
        // Nothing is to be said before it is told.
        self.waiting.take_if(|process| {
            !process.pipe.fill(false).unwrap_or(false)
                || !matches!(process.pipe.next::<ProgramEvent>(), Ok(None))
        });
        let Some((process, _)) = &mut self.running else { return };
        let mut open = process.pipe.fill(false).unwrap_or(false);
        loop {
            match process.pipe.next::<ProgramEvent>() {
                Ok(Some(ProgramEvent::Obeyed { evidence })) => {
                    self.said = Some(Said::Obeyed(evidence));
                }
                Ok(Some(ProgramEvent::Kept { init })) => {
                    let given = process.pipe.take_descriptor().zip(from_hex(&init));
                    self.kept = given.and_then(|(device, init)| Keeper::start(device, init).ok());
                }
                Ok(Some(event)) => {
                    process.said_its_end |= matches!(event, ProgramEvent::Ended { .. });
                    if let ProgramEvent::DaemonEnded { state } = &event {
                        self.said = Some(Said::DaemonEnded(state.clone()));
                    }
                    messages.push(HostMessage::Event { program, event });
                }
                Ok(None) => break,
                // No program of this agent: it is not heard any more.
                Err(_) => {
                    open = false;
                    break;
                }
            }
        }
        if !open {
            if !process.said_its_end {
                // It could not say anything: that is what SIGKILL does.
                let state = ProgramState::Signaled { signal: propagation_model::Signal::SIGKILL };
                messages.push(HostMessage::Event { program, event: ProgramEvent::Ended { state } });
            }
            self.before = self.running.take().map(|(_, spec)| spec);
        }
    }

    /// Tells a program that waits what to do, if there is something.
    fn release(&mut self, program: ProgramId, messages: &mut Vec<HostMessage>) {
        if self.running.is_some() || self.next.is_none() || self.waiting.is_none() {
            return;
        }
        if let (Some(mut process), Some(next)) = (self.waiting.take(), self.next.take()) {
            if next.spec.fuse.keeper {
                process.pipe.take_descriptors();
            }
            if self.tell(&process, &next).is_err() {
                // It has just ended; the kubelet restarts it.
                self.next = Some(next);
                return;
            }
            let Process { process_ns, came_ns, .. } = process;
            messages.push(HostMessage::Arrived { program, process_ns, came_ns });
            self.running = Some((process, next.spec));
        }
    }

    /// Sends a program its orders.
    fn tell(&mut self, process: &Process, next: &Next) -> Result<(), Errno> {
        let mut takes_over = None;
        if let Some(keeper) = self.kept.as_mut().filter(|_| next.takes_over) {
            let (device, init) = keeper.take_copy()?;
            takes_over = Some(to_hex(init));
            process.pipe.send_descriptors(&[device])?;
        }
        process.pipe.send(&ProgramOrders { container: next.spec.clone(), takes_over })
    }
}
