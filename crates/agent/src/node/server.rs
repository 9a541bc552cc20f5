//! The server's loop: requests in, answers and events out, children in between.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use mountinfo::MountPath;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use propagation_model::ErrorKind;
use propagation_model::marker::Marker;
use propagation_model::observation::Access;
use propagation_model::plan::Stale;
use propagation_model::program::ProgramState;
use propagation_protocol::{
    Call, Failure, Message, NodeSetup, Place, ProgramCommand, ProgramEvent, Reply, Request,
};

use super::hold::{Holder, Holding};
use super::observe::Observing;
use super::oci::{self, Engine};
use super::outside::{Ask, Outside};
use super::programs::Container;
use super::start::Starting;
use super::view::{View, make_runtime};
use crate::child::{Child, timeout};
use crate::facts;
use crate::failure::{failure, system};
use crate::mounts::Proc;
use crate::pipe::Pipe;
use crate::stuck::Stuck;
use crate::sys::{in_ms, now_ns};

/// How long a call that touches the node's filesystem may take.
const CALL_MS: u64 = 10_000;

/// The state of a node.
pub(super) struct Server {
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
    mapped_uids: u64,
    signals: SignalFd,
    jobs: Vec<Job>,
    outbox: Vec<Message>,
    keep: bool,
}

/// A request that children work on.
struct Job {
    request: u64,
    work: Work,
}

enum Work {
    /// One child that sends the answer.
    Call {
        child: Child,
        deadline: u64,
        allowed_ms: u64,
        operation: &'static str,
    },
    Start(Starting),
    Observe(Observing),
    Hold(Holding),
}

/// What came of polling a job.
pub(super) enum Progress {
    Unfinished,
    Finished(Result<Reply, Failure>),
}

impl Server {
    pub(super) fn new(
        setup: NodeSetup,
        outside: Outside,
        signals: SigSet,
        mapped_uids: u64,
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
            mapped_uids,
            signals,
            jobs: Vec::new(),
            outbox: Vec::new(),
            keep: false,
        })
    }

    pub(super) fn mapped_uids(&self) -> u64 {
        self.mapped_uids
    }

    /// Serves until the parent closes the socket.
    pub(super) fn run(mut self, mut control: Pipe) -> Result<(), Errno> {
        loop {
            while let Some(request) = control.next::<Request>()? {
                self.take(request);
            }
            self.work();
            for message in self.outbox.drain(..) {
                if control.send(&message).is_err() && !self.keep {
                    return Ok(());
                }
            }
            if control.is_closed() && !self.keep {
                return Ok(());
            }
            let ready = self.wait(&control)?;
            if ready.control {
                control.fill(false)?;
            }
            if ready.signals {
                while self.signals.read_signal()?.is_some() {}
                self.reap();
            }
        }
    }

    /// Sleeps until a descriptor is ready or a deadline passes.
    fn wait(&self, control: &Pipe) -> Result<Ready, Errno> {
        let input = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut descriptors = vec![input(self.signals.as_fd())];
        // A kept node whose parent has gone has nothing to hear.
        let listens = !control.is_closed();
        if listens {
            descriptors.push(input(control.as_fd()));
        }
        let programs = self.containers.values().filter_map(Container::events);
        descriptors.extend(programs.map(|pipe| input(pipe.as_fd())));
        let children = self.jobs.iter().flat_map(|job| job.work.children(self));
        descriptors.extend(children.map(|child| input(child.pipe.as_fd())));
        let deadlines = self.jobs.iter().filter_map(|job| job.work.deadline());
        let pending = self.containers.values().filter_map(Container::deadline);
        let wake = deadlines.chain(pending).min();
        let wait = wake.map_or(PollTimeout::NONE, |at| timeout(at.saturating_sub(now_ns())));
        match poll(&mut descriptors, wait) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Ready { control: false, signals: false }),
            Err(errno) => return Err(errno),
        }
        let any = |index: usize| descriptors[index].any().unwrap_or(false);
        Ok(Ready { control: listens && any(1), signals: any(0) })
    }

    /// Handles what programs and children have sent, and gives up late work.
    fn work(&mut self) {
        let now = now_ns();
        for (id, container) in &mut self.containers {
            let (events, answers) = container.take_events();
            self.outbox
                .extend(events.into_iter().map(|event| Message::Event { container: *id, event }));
            for (request, result) in answers.into_iter().chain(container.late(now)) {
                self.outbox.push(Message::Answer { id: request, result });
            }
        }
        self.note_connections();
        let stuck =
            self.containers.iter_mut().filter_map(|(id, one)| one.is_stuck(now).then_some(*id));
        for id in stuck.collect::<Vec<_>>() {
            self.release(id);
        }
        let mut jobs = std::mem::take(&mut self.jobs);
        jobs.retain_mut(|job| {
            let progress = match &mut job.work {
                Work::Call { child, deadline, allowed_ms, operation } => {
                    poll_call(child, *deadline, *allowed_ms, operation, now)
                }
                Work::Start(starting) => starting.poll(self, now),
                Work::Observe(observing) => observing.poll(self, now),
                Work::Hold(holding) => holding.poll(self, now),
            };
            match progress {
                Progress::Unfinished => true,
                Progress::Finished(result) => {
                    self.answer(job.request, result);
                    false
                }
            }
        });
        self.jobs.append(&mut jobs);
    }

    /// Notes which connections the daemons serve that have just mounted.
    fn note_connections(&mut self) {
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
            let id = *id;
            let (mut events, mut answers) = container.take_events();
            answers.extend(match news {
                News::Ended(state) => {
                    events.push(ProgramEvent::Ended { state: state.clone() });
                    container.ended(&state)
                }
                News::Stopped => container.stopped(false),
                News::Continued => container.stopped(true),
            });
            self.outbox
                .extend(events.into_iter().map(|event| Message::Event { container: id, event }));
            for (request, evidence) in answers {
                self.answer(request, evidence);
            }
            self.containers.retain(|_, container| !container.is_removed());
        }
    }

    pub(super) fn answer(&mut self, id: u64, result: Result<Reply, Failure>) {
        self.outbox.push(Message::Answer { id, result });
    }

    fn take(&mut self, request: Request) {
        let id = request.id;
        let begun = match request.call {
            Call::Start { containers, deadline_ms } => {
                Starting::begin(self, containers, deadline_ms).map(Work::Start)
            }
            Call::Observe { looks, access: Access::Held, expect, deadline_ms } => {
                Holding::begin(self, &looks, &expect, deadline_ms).map(Work::Hold)
            }
            Call::Observe { looks, access, expect, deadline_ms } => {
                self.stuck.forget_ended();
                Observing::begin(self, looks, access, expect, deadline_ms).map(Work::Observe)
            }
            Call::Mounts { places } => {
                let result = self.mounts(&places);
                return self.answer(id, result);
            }
            Call::LetGo { place } => {
                if let Some(holder) = self.holders.remove(&place) {
                    holder.end();
                }
                return self.answer(id, Ok(Reply::Done));
            }
            Call::Keep => {
                let kept = self.outside.ask(&Ask::Keep);
                self.keep = kept.is_ok();
                return self.answer(id, kept.map(|_| Reply::Done));
            }
            Call::Inject { container, fault, deadline_ms } => {
                return self.inject(id, container, &fault, deadline_ms);
            }
            Call::Remove { container } => return self.remove(id, container),
            Call::Usage => {
                let usage = facts::usage(&self.proc);
                return self.answer(id, Ok(usage));
            }
            Call::StartDaemon { container, marker, stale } => {
                let started = self.start_daemon(container, marker, stale);
                return self.answer(id, started.map(|()| Reply::Done));
            }
            Call::HandOver { container, marker } => {
                let handed = self.container(container).and_then(|c| c.hand_over(&marker));
                return self.answer(id, handed.map(|()| Reply::Done));
            }
            Call::Load { container } => {
                let load = self.container(container).map(Container::load);
                return self.answer(id, load.map(|load| Reply::Load { load }));
            }
            // A program may take its time, and enters namespaces that this process has to stay out of.
            call @ Call::Execute { .. } => self.call_in_child(call),
            // Without a container no FUSE daemon lives on the node, and nothing can hang.
            call if self.containers.is_empty() && self.jobs.is_empty() => {
                let result = self.carry_out(&call);
                return self.answer(id, result);
            }
            call => self.call_in_child(call),
        };
        match begun {
            Ok(work) => self.jobs.push(Job { request: id, work }),
            Err(failure) => self.answer(id, Err(failure)),
        }
    }

    /// Calls that touch the node's filesystem run in a child that can be given up.
    fn call_in_child(&mut self, call: Call) -> Result<Work, Failure> {
        let operation = match &call {
            Call::Facts => "read the facts of the node",
            Call::Apply { .. } => "change the node",
            Call::Undo { .. } => "undo a change of the node",
            Call::RebindHost { .. } => "re-bind on the node",
            Call::Unmount { .. } => "unmount on the node",
            Call::Publish { .. } => "publish a volume",
            Call::Unpublish { .. } => "unpublish a volume",
            Call::Execute { .. } => "run a program",
            _ => "re-bind in a container",
        };
        // A program has its own deadline, which passes first.
        let allowed_ms = match &call {
            Call::Execute { deadline_ms, .. } => deadline_ms.saturating_add(CALL_MS),
            _ => CALL_MS,
        };
        let child = Child::start(|pipe| {
            let result = self.carry_out(&call);
            let _ = pipe.send(&result);
        })
        .map_err(|errno| system("start a child", errno))?;
        let deadline = in_ms(allowed_ms);
        Ok(Work::Call { child, deadline, allowed_ms, operation })
    }

    /// A container by its number.
    fn container(&mut self, id: u32) -> Result<&mut Container, Failure> {
        self.containers.get_mut(&id).ok_or_else(|| {
            let reason = "unknown container, or it has ended";
            failure(ErrorKind::InvalidInput, format!("use container {id}"), reason, None)
        })
    }

    fn start_daemon(
        &mut self,
        id: u32,
        marker: Marker,
        stale: Option<Stale>,
    ) -> Result<(), Failure> {
        let container = self.container(id)?;
        let stale = stale.unwrap_or(container.spec().fuse.stale);
        container.tell(&ProgramCommand::StartDaemon { marker, stale })
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

struct Ready {
    control: bool,
    signals: bool,
}

impl Work {
    fn children<'a>(&'a self, server: &'a Server) -> Vec<&'a Child> {
        match self {
            Self::Hold(holding) => holding.children(server),
            Self::Call { child, .. } => vec![child],
            Self::Start(starting) => vec![starting.child()],
            Self::Observe(observing) => observing.children().collect(),
        }
    }

    fn deadline(&self) -> Option<u64> {
        match self {
            Self::Call { deadline, .. } => Some(*deadline),
            Self::Start(starting) => Some(starting.deadline()),
            Self::Observe(observing) => observing.deadline(),
            Self::Hold(holding) => Some(holding.deadline()),
        }
    }
}

fn poll_call(
    child: &mut Child,
    deadline: u64,
    allowed_ms: u64,
    operation: &str,
    now: u64,
) -> Progress {
    let failed = |reason: &str| {
        Progress::Finished(Err(failure(ErrorKind::Internal, operation, reason, None)))
    };
    if child.pipe.fill(false).is_err() {
        return failed("its child is out of reach");
    }
    match child.pipe.next::<Result<Reply, Failure>>() {
        Ok(Some(result)) => Progress::Finished(result),
        Err(_) => failed("its child sent something else"),
        Ok(None) if child.pipe.is_closed() => failed("its child died"),
        Ok(None) if now >= deadline => {
            child.give_up();
            Progress::Finished(Err(failure(
                ErrorKind::Timeout,
                operation,
                format!("no answer in {allowed_ms} ms: a FUSE mount on the way hangs"),
                Some("kill its daemon, or abort its connection in /sys/fs/fuse/connections"),
            )))
        }
        Ok(None) => Progress::Unfinished,
    }
}
