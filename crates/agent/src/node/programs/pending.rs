//! The requests that wait for a container's program, and their answers.

use propagation_model::ErrorKind;
use propagation_protocol::{Failure, Reply};

use crate::failure::failure;
use crate::sys::in_ms;

/// How long a container's processes may take to go after SIGKILL.
pub(super) const REMOVE_MS: u64 = 5_000;

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Awaited {
    /// The end of the program, because of a fault.
    End,
    /// The end of the program, after which the container is forgotten.
    Removal,
    /// The end of the program, which is forced when the deadline passes.
    EndOrForce,
    /// The end of the daemon under a supervisor.
    DaemonEnd,
    /// That the program is stopped.
    Stop,
    /// That it goes on.
    Continue,
    /// That the program says it has obeyed.
    Obedience,
}

impl Awaited {
    /// What is done until it happens.
    fn words(self) -> &'static str {
        match self {
            Self::End | Self::Removal | Self::EndOrForce | Self::DaemonEnd => "end a program",
            Self::Stop => "stop a program",
            Self::Continue => "let a program go on",
            Self::Obedience => "give a daemon an order",
        }
    }
}

/// The answer to a request.
pub(super) type Answer = (u64, Result<Reply, Failure>);

/// A request that waits for something.
#[derive(Debug)]
struct Pending {
    request: u64,
    awaited: Awaited,
    deadline: u64,
}

/// The requests that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<Pending>);

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn expect(&mut self, request: u64, awaited: Awaited, deadline_ms: u64) {
        self.0.push(Pending { request, awaited, deadline: in_ms(deadline_ms) });
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.0.iter().map(|pending| pending.deadline).min()
    }

    /// The answers to the requests that wait for something that has happened.
    pub(super) fn settle(
        &mut self,
        happened: impl Fn(Awaited) -> bool,
        evidence: &str,
    ) -> Vec<Answer> {
        let (done, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|one| happened(one.awaited));
        self.0 = waiting;
        let reply = || Reply::Injected { evidence: evidence.to_owned() };
        done.into_iter().map(|one| (one.request, Ok(reply()))).collect()
    }

    /// The answers to all requests: the program has ended.
    pub(super) fn end(&mut self, evidence: &str) -> Vec<Answer> {
        let reply = |awaited| match awaited {
            Awaited::Removal => Reply::Done,
            _ => Reply::Injected { evidence: evidence.to_owned() },
        };
        let all = std::mem::take(&mut self.0);
        all.into_iter().map(|one| (one.request, Ok(reply(one.awaited)))).collect()
    }

    /// The answers to requests past their deadline. A request that forces the end of the program `name` waits for
    /// that end.
    pub(super) fn late(&mut self, now: u64, name: &str, force: impl Fn() -> bool) -> Vec<Answer> {
        let (late, mut waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|p| p.deadline <= now);
        let mut answers = Vec::new();
        for pending in late {
            if pending.awaited == Awaited::EndOrForce && force() {
                let deadline = now + REMOVE_MS * 1_000_000;
                waiting.push(Pending { awaited: Awaited::End, deadline, ..pending });
                continue;
            }
            let reason = format!("the program of {name} did not do it in time");
            let fix = "if it is stuck in the kernel, its FUSE daemon has to end first";
            let words = failure(ErrorKind::Timeout, pending.awaited.words(), reason, Some(fix));
            answers.push((pending.request, Err(words)));
        }
        self.0 = waiting;
        answers
    }
}
