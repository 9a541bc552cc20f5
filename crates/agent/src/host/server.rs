//! The loop of the host agent: it waits for whatever happens next and blocks in nothing else.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitPidFlag, waitpid};
use propagation_model::ErrorKind;
use propagation_model::plan::Bridge;
use propagation_protocol::host::{HostCall, HostReply, HostRequest, Layout};
use propagation_protocol::{Call, Failure, Reply};
use rustix::process::Signal;

use super::Setup;
use super::faults::Awaited;
use super::looks::Looks;
use super::peer::Pod;
use super::programs::{Programs, is_stopped, send};
use super::session::Session;
use crate::child::{Child, timeout};
use crate::failure::{failure, system};
use crate::mounts::Proc;
use crate::pipe::Pipe;
use crate::stuck::Stuck;
use crate::sys::{in_ms, now_ns};

/// How long a call that touches the node's filesystem may take.
const CALL_MS: u64 = 30_000;

/// How long processes may take to go after SIGKILL.
const KILLED_WITHIN_MS: u64 = 5_000;

/// Time for a kubelet to end a container after its deletion. It is waited for: a kubelet restarts a container
/// that is killed earlier.
const ENDED_WITHIN_MS: u64 = 5_000;

/// How often is looked whether a process is stopped, which makes no event.
const STOPPED_AGAIN_NS: u64 = 1_000_000;

/// The host agent at work.
pub(super) struct Server {
    pub(super) run_id: String,
    pub(super) bridge: Bridge,
    pub(super) layout: Layout,
    pub(super) proc: Proc,
    pub(super) programs: Programs,
    control: OwnedFd,
    arrivals: OwnedFd,
    session: Session,
    /// Looks that were given up.
    stuck: Stuck,
    jobs: Vec<(u64, Job)>,
    ending: bool,
}

/// Something that takes its time.
pub(super) enum Job {
    Looks(Looks),
    /// A child that carries a call out.
    Call {
        child: Child,
        deadline: u64,
        allowed_ms: u64,
    },
    /// Processes that are to end or to stop.
    Ending {
        handles: Vec<OwnedFd>,
        pids: Vec<i32>,
        then: Then,
        deadline: u64,
    },
    /// A program that is to say that it has obeyed, or that its daemon has ended.
    Telling {
        container: u32,
        awaited: Awaited,
        deadline: u64,
    },
}

/// Why processes are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It was done to them, and is proven.
    Fault(Signal),
    /// They were told to end.
    Told,
    /// They are killed if they have not ended by themselves.
    Kill,
    /// Nothing more.
    Nothing,
    /// The node is cleaned.
    Clean,
}

/// How a job stands.
enum Step {
    GoesOn(Job),
    Done(Result<HostReply, Failure>),
}

impl Server {
    pub(super) fn new(
        setup: &Setup,
        layout: Layout,
        control: OwnedFd,
        arrivals: OwnedFd,
    ) -> Result<Self, Failure> {
        let proc = Proc::open()?;
        let started = proc.read("sys/kernel/random/uuid");
        let started = started.map_err(|errno| system("draw random numbers", errno))?;
        let started = String::from_utf8_lossy(&started).trim().to_owned();
        Ok(Self {
            run_id: setup.run_id.clone(),
            bridge: setup.bridge.clone(),
            layout,
            proc,
            programs: Programs::default(),
            control,
            arrivals,
            session: Session::of(started),
            stuck: Stuck::default(),
            jobs: Vec::new(),
            ending: false,
        })
    }

    pub(super) fn run(mut self) -> Result<(), Errno> {
        while !self.ending {
            let ready = self.wait()?;
            if ready[0]
                && let Some(pipe) = self.accept(Self::control)?
            {
                self.session.accept(pipe);
            }
            if ready[1]
                && let Some(pipe) = self.accept(Self::arrivals)?
            {
                self.programs.accept(pipe);
            }
            self.take_programs();
            for request in self.session.requests() {
                self.take(request);
            }
            self.advance_jobs();
            while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|s| s.pid().is_some()) {}
        }
        Ok(())
    }

    fn control(&self) -> &OwnedFd {
        &self.control
    }

    fn arrivals(&self) -> &OwnedFd {
        &self.arrivals
    }

    /// Accepts a connection. When no descriptor is left, unidentified peers are given up.
    fn accept(&mut self, listener: fn(&Self) -> &OwnedFd) -> Result<Option<Pipe>, Errno> {
        match Pipe::accept(listener(self)) {
            Err(Errno::EMFILE | Errno::ENFILE) => {
                self.programs.forget_strangers();
                Ok(None)
            }
            result => result,
        }
    }

    /// Sleeps until something happens; whether the two listeners are ready.
    fn wait(&self) -> Result<[bool; 2], Errno> {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut descriptors = vec![readable(self.control.as_fd()), readable(self.arrivals.as_fd())];
        descriptors.extend(self.session.descriptors().map(readable));
        descriptors.extend(self.programs.descriptors().map(readable));
        for (_, job) in &self.jobs {
            descriptors.extend(job.descriptors().into_iter().map(readable));
        }
        let wake = self.jobs.iter().filter_map(|(_, job)| job.wake_at());
        let wake = wake.chain(self.programs.deadline()).min();
        let limit = wake.map_or(PollTimeout::NONE, |at| timeout(at.saturating_sub(now_ns())));
        match poll(&mut descriptors, limit) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok([0, 1].map(|index: usize| descriptors[index].any().unwrap_or(false)))
    }

    fn take_programs(&mut self) {
        for message in self.programs.advance(&self.proc, &self.layout) {
            self.session.send(message);
        }
    }

    fn take(&mut self, request: HostRequest) {
        let HostRequest { id, call } = request;
        let done = |reply| Ok(HostReply::Node { reply });
        let job = match call {
            HostCall::Node { call } => match call {
                Call::Start { containers, .. } => {
                    if let Err(failure) = self.check_mountpoint(&containers) {
                        return self.session.answer(id, Err(failure));
                    }
                    containers.iter().for_each(|spec| self.programs.expect(spec));
                    match self.start_here(&containers) {
                        Ok(messages) => messages.into_iter().for_each(|it| self.session.send(it)),
                        Err(failure) => return self.session.answer(id, Err(failure)),
                    }
                    let refused = containers.iter().map(|_| None).collect();
                    self.session.answer(id, done(Reply::Started { refused }));
                    // Whoever waits already is told at once.
                    return self.take_programs();
                }
                Call::Observe { looks, access, expect, deadline_ms } => {
                    self.stuck.forget_ended();
                    Looks::begin(&self.programs, looks, expect, access, deadline_ms).map(Job::Looks)
                }
                Call::Mounts { places } => {
                    let result = self.mounts(&places);
                    return self.session.answer(id, result.and_then(done));
                }
                Call::Inject { container, fault, deadline_ms } => {
                    self.inject(container, &fault, deadline_ms)
                }
                Call::HandOver { container, marker } => {
                    let handed = self.hand_over(container, &marker);
                    self.session.answer(id, handed.and_then(done));
                    return self.take_programs();
                }
                Call::StartDaemon { container, marker, stale } => {
                    let started = self.start_daemon(container, marker, stale);
                    return self.session.answer(id, started.and_then(done));
                }
                Call::Remove { container } => self.wait_for_all(Some(container)),
                call => self.in_child(HostCall::Node { call }),
            },
            HostCall::Admit { program, pod, secret } => {
                self.programs.admit(program, Pod { uid: pod, secret });
                self.session.answer(id, done(Reply::Done));
                return self.take_programs();
            }
            call @ (HostCall::CheckBridge | HostCall::Foresee { .. }) => self.in_child(call),
            HostCall::Ended => self.wait_for_all(None),
            HostCall::Clean => self.kill_all(),
            HostCall::End => {
                self.ending = true;
                let ended = HostReply::Cleaned { undone: Vec::new(), could_not: Vec::new() };
                return self.session.answer(id, Ok(ended));
            }
        };
        match job {
            Ok(job) => self.jobs.push((id, job)),
            Err(failure) => self.session.answer(id, Err(failure)),
        }
    }

    /// Carries a call out where it may block.
    pub(super) fn in_child(&self, call: HostCall) -> Result<Job, Failure> {
        // A program has its own deadline, which passes first.
        let allowed_ms = match &call {
            HostCall::Node { call: Call::Execute { deadline_ms, .. } } => {
                deadline_ms.saturating_add(CALL_MS)
            }
            _ => CALL_MS,
        };
        let child = Child::start(|pipe| {
            // A parent that has gone needs no answer.
            let _ = pipe.send(&self.carry_out(&call));
        });
        let child = child.map_err(|errno| system("start a child for a call", errno))?;
        Ok(Job::Call { child, deadline: in_ms(allowed_ms), allowed_ms })
    }

    /// Waits until the kubelet has ended the programs of a container, or of all, told or not; kills
    /// them when it does not, and those that no kubelet looks after at once.
    fn wait_for_all(&mut self, container: Option<u32>) -> Result<Job, Failure> {
        self.programs.expect_nothing(container);
        let here = self.programs.all(container).filter(|process| process.is_here);
        here.into_iter().try_for_each(|process| send(process, Signal::KILL))?;
        signalled(self.programs.all(container), Then::Kill, ENDED_WITHIN_MS)
    }

    /// Kills all programs, to clean up then.
    fn kill_all(&mut self) -> Result<Job, Failure> {
        self.programs.expect_nothing(None);
        self.programs.all(None).try_for_each(|process| send(process, Signal::KILL))?;
        signalled(self.programs.all(None), Then::Clean, KILLED_WITHIN_MS)
    }

    fn advance_jobs(&mut self) {
        for (id, job) in std::mem::take(&mut self.jobs) {
            match self.step(job) {
                Step::GoesOn(job) => self.jobs.push((id, job)),
                Step::Done(result) => {
                    // What a program said before its end comes before the answer.
                    self.take_programs();
                    self.session.answer(id, result);
                }
            }
        }
    }

    fn step(&mut self, job: Job) -> Step {
        let now = now_ns();
        match job {
            Job::Looks(mut looks) => {
                match looks.advance(&self.proc, &self.programs, &mut self.stuck) {
                    Some(result) => Step::Done(result.map(|reply| HostReply::Node { reply })),
                    None => Step::GoesOn(Job::Looks(looks)),
                }
            }
            Job::Call { mut child, deadline, allowed_ms } => {
                let open = child.pipe.fill(false).unwrap_or(false);
                match child.pipe.next::<Result<HostReply, Failure>>() {
                    Ok(Some(result)) => Step::Done(result),
                    _ if !open => Step::Done(Err(died())),
                    _ if now >= deadline => {
                        child.give_up();
                        Step::Done(Err(hangs(allowed_ms)))
                    }
                    _ => Step::GoesOn(Job::Call { child, deadline, allowed_ms }),
                }
            }
            Job::Ending { handles, pids, then, deadline } => {
                let left = match then {
                    Then::Fault(Signal::STOP) => {
                        pids.iter().filter(|pid| !is_stopped(&self.proc, **pid)).count()
                    }
                    Then::Fault(Signal::CONT) => {
                        pids.iter().filter(|pid| is_stopped(&self.proc, **pid)).count()
                    }
                    _ => handles.iter().filter(|handle| !has_ended(handle)).count(),
                };
                if left > 0 && now < deadline {
                    return Step::GoesOn(Job::Ending { handles, pids, then, deadline });
                }
                if left > 0 {
                    if then != Then::Kill {
                        return Step::Done(Err(did_not_end(&pids)));
                    }
                    handles.iter().for_each(kill);
                    let (then, deadline) = (Then::Nothing, in_ms(KILLED_WITHIN_MS));
                    return Step::GoesOn(Job::Ending { handles, pids, then, deadline });
                }
                let reply = match then {
                    Then::Clean => {
                        return match self.in_child(HostCall::Clean) {
                            Ok(job) => Step::GoesOn(job),
                            Err(failure) => Step::Done(Err(failure)),
                        };
                    }
                    Then::Fault(signal) => Reply::Injected { evidence: evidence(&pids, signal) },
                    Then::Told => Reply::Injected { evidence: ended_as_told(&pids) },
                    Then::Kill | Then::Nothing => Reply::Done,
                };
                Step::Done(Ok(HostReply::Node { reply }))
            }
            Job::Telling { container, awaited, deadline } => {
                match self.has_said(container, awaited, now >= deadline) {
                    Some(result) => {
                        let reply = |evidence| Reply::Injected { evidence };
                        Step::Done(result.map(|it| HostReply::Node { reply: reply(it) }))
                    }
                    None => Step::GoesOn(Job::Telling { container, awaited, deadline }),
                }
            }
        }
    }
}

impl Job {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Looks(looks) => looks.children().map(|child| child.pipe.as_fd()).collect(),
            Self::Call { child, .. } => vec![child.pipe.as_fd()],
            // What a program says is waited for anyway.
            Self::Telling { .. } => Vec::new(),
            // A handle that is ready stays ready: only those that are not are waited for.
            Self::Ending { handles, .. } => {
                handles.iter().filter(|handle| !has_ended(handle)).map(AsFd::as_fd).collect()
            }
        }
    }

    fn wake_at(&self) -> Option<u64> {
        match self {
            Self::Looks(looks) => looks.deadline(),
            Self::Call { deadline, .. } | Self::Telling { deadline, .. } => Some(*deadline),
            Self::Ending { then: Then::Fault(Signal::STOP), .. } => {
                Some(now_ns() + STOPPED_AGAIN_NS)
            }
            Self::Ending { handles, deadline, .. } => {
                Some(if handles.iter().all(has_ended) { now_ns() } else { *deadline })
            }
        }
    }
}

/// Waits for the end of processes, or for what a signal does to them.
pub(super) fn signalled<'a>(
    processes: impl Iterator<Item = &'a super::programs::Process>,
    then: Then,
    deadline_ms: u64,
) -> Result<Job, Failure> {
    let (mut handles, mut pids) = (Vec::new(), Vec::new());
    for process in processes {
        let handle = process.handle.try_clone();
        handles.push(handle.map_err(|e| system("keep a handle", crate::mounts::errno_of(&e)))?);
        pids.push(process.pid);
    }
    Ok(Job::Ending { handles, pids, then, deadline: in_ms(deadline_ms) })
}

/// One that has ended is not there to be killed.
fn kill(handle: &OwnedFd) {
    let _ = rustix::process::pidfd_send_signal(handle, Signal::KILL);
}

/// A handle of a process is readable once the process has ended, and everything in its pid
/// namespace with it.
pub(super) fn has_ended(handle: &OwnedFd) -> bool {
    let mut descriptors = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
    poll(&mut descriptors, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn evidence(pids: &[i32], signal: Signal) -> String {
    let words = match signal {
        Signal::TERM => "has ended by itself after SIGTERM; its namespaces are gone",
        Signal::STOP => "is stopped",
        Signal::CONT => "goes on",
        _ => "has ended by SIGKILL; its namespaces are gone",
    };
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    format!("process {} of the node {words}", pids.join(", "))
}

fn ended_as_told(pids: &[i32]) -> String {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    format!(
        "process {} of the node has ended as it was told; its namespaces are gone",
        pids.join(", ")
    )
}

fn died() -> Failure {
    failure(ErrorKind::Internal, "carry out a call", "the child that did it died", None)
}

fn hangs(allowed_ms: u64) -> Failure {
    let reason = format!("no end in {allowed_ms} ms: a FUSE mount on the way hangs");
    let fix = "kill its daemon, or write 1 to /sys/fs/fuse/connections/<minor>/abort";
    failure(ErrorKind::Timeout, "carry out a call on the node", reason, Some(fix))
}

fn did_not_end(pids: &[i32]) -> Failure {
    let reason = format!("processes {pids:?} of the node have not ended in time");
    let fix = "they are stuck in the kernel: their FUSE daemon has to end first";
    failure(ErrorKind::Timeout, "end the programs of a container", reason, Some(fix))
}
