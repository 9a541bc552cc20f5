//! Waiting until processes have ended, or are stopped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use propagation_model::ErrorKind;
use propagation_protocol::{Failure, Reply};
use rustix::process::Signal;

use super::processes::{Process, has_ended, is_stopped};
use super::state::Host;
use crate::failure::{failure, system};
use crate::mounts::errno_of;
use crate::serve::{InChild, Job, Progress};
use crate::sys::{in_ms, now_ns};

/// How long processes may take to go after SIGKILL.
pub(super) const KILLED_WITHIN_MS: u64 = 5_000;

/// How often is looked whether a process is stopped, which makes no event.
const STOPPED_AGAIN_NS: u64 = 1_000_000;

/// Time for cleaning the node beyond that of any call, in milliseconds: the disk of a node may be busy.
const CLEANED_WITHIN_MS: u64 = 20_000;

/// Processes that are to end or to stop.
pub(super) struct Ending {
    handles: Vec<OwnedFd>,
    pids: Vec<i32>,
    then: Then,
    deadline: u64,
    /// Whether these are all programs of the run, so that nobody needs its mounts any more.
    all: bool,
    /// Whether what no signal ends has been released.
    released: bool,
    /// The clean-up that follows.
    cleaning: Option<InChild>,
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

impl Ending {
    pub(super) fn of<'a>(
        processes: impl Iterator<Item = &'a Process>,
        then: Then,
        deadline_ms: u64,
    ) -> Result<Self, Failure> {
        let (mut handles, mut pids) = (Vec::new(), Vec::new());
        for process in processes {
            let handle = process.handle.try_clone();
            handles.push(handle.map_err(|error| system("keep a handle", errno_of(&error)))?);
            pids.push(process.pid);
        }
        Ok(Self {
            handles,
            pids,
            then,
            deadline: in_ms(deadline_ms),
            all: then == Then::Clean,
            released: false,
            cleaning: None,
        })
    }

    /// The same for all programs of the run, or for some of them.
    pub(super) fn of_all(self, all: bool) -> Self {
        Self { all, ..self }
    }

    /// Whether they are gone for good, once they have ended.
    fn is_over(&self) -> bool {
        matches!(self.then, Then::Nothing | Then::Clean)
    }

    /// How many of the processes are waited for still.
    fn left(&self, host: &Host) -> usize {
        let stopped = |pid: &&i32| is_stopped(&host.proc, **pid);
        match self.then {
            Then::Fault(Signal::STOP) => self.pids.iter().filter(|pid| !stopped(pid)).count(),
            Then::Fault(Signal::CONT) => self.pids.iter().filter(stopped).count(),
            Then::Fault(_) | Then::Told | Then::Kill | Then::Nothing | Then::Clean => {
                self.handles.iter().filter(|handle| !has_ended(handle)).count()
            }
        }
    }
}

impl Job<Host> for Ending {
    fn descriptors<'a>(&'a self, host: &'a Host) -> Vec<BorrowedFd<'a>> {
        match &self.cleaning {
            Some(cleaning) => cleaning.descriptors(host),
            // A handle that is ready stays ready: only those that are not are waited for.
            None => {
                self.handles.iter().filter(|handle| !has_ended(handle)).map(AsFd::as_fd).collect()
            }
        }
    }

    fn deadline(&self) -> Option<u64> {
        match (&self.cleaning, self.then) {
            (Some(cleaning), _) => Job::<Host>::deadline(cleaning),
            (None, Then::Fault(Signal::STOP)) => Some(now_ns() + STOPPED_AGAIN_NS),
            (None, _) if self.handles.iter().all(has_ended) => Some(now_ns()),
            (None, _) => Some(self.deadline),
        }
    }

    fn advance(&mut self, host: &mut Host, now: u64) -> Progress {
        if let Some(cleaning) = &mut self.cleaning {
            return cleaning.advance(host, now);
        }
        let left = self.left(host);
        if left > 0 && now < self.deadline {
            return Progress::Unfinished;
        }
        if left > 0 && self.then == Then::Kill {
            self.handles.iter().for_each(kill);
            self.then = Then::Nothing;
            self.deadline = in_ms(KILLED_WITHIN_MS);
            return Progress::Unfinished;
        }
        if left > 0 && self.is_over() && !std::mem::replace(&mut self.released, true) {
            self.deadline = in_ms(KILLED_WITHIN_MS);
            let waiting =
                self.handles.iter().zip(&self.pids).filter(|(handle, _)| !has_ended(handle));
            let waiting: Vec<i32> = waiting.map(|(_, pid)| *pid).collect();
            return match host.release(&waiting, self.all) {
                Ok(()) => Progress::Unfinished,
                Err(failure) => Progress::Finished(Err(failure)),
            };
        }
        if left > 0 {
            return Progress::Finished(Err(did_not_end(&self.pids)));
        }
        Progress::Finished(Ok(match self.then {
            Then::Clean => {
                let clean = |host: &Host| Ok(host.clean());
                match InChild::start(host, "clean the node", CLEANED_WITHIN_MS, clean) {
                    Ok(cleaning) => {
                        self.cleaning = Some(cleaning);
                        return Progress::Unfinished;
                    }
                    Err(failure) => return Progress::Finished(Err(failure)),
                }
            }
            Then::Fault(signal) => Reply::Injected { evidence: evidence(&self.pids, signal) },
            Then::Told => Reply::Injected { evidence: ended_as_told(&self.pids) },
            Then::Kill | Then::Nothing => Reply::Done,
        }))
    }
}

/// One that has ended is not there to be killed.
fn kill(handle: &OwnedFd) {
    let _ = rustix::process::pidfd_send_signal(handle, Signal::KILL);
}

fn ended_as_told(pids: &[i32]) -> String {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let pids = pids.join(", ");
    format!("process {pids} of the node has ended as it was told; its namespaces are gone")
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

fn did_not_end(pids: &[i32]) -> Failure {
    let reason = format!("processes {pids:?} of the node have not ended in time");
    let fix = "they are stuck in the kernel: their FUSE daemon has to end first";
    failure(ErrorKind::Timeout, "end the programs of a container", reason, Some(fix))
}
