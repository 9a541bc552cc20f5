//! How the daemon answers: at once, later, or with an error, as faults tell it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fuser::{
    Errno, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite,
};
use propagation_model as model;
use propagation_model::plan::{Fault, Operation, PerOperation};

/// A reply that can be an error.
pub(super) trait Reply: Send + 'static {
    /// Answers with an error.
    fn fail(self, errno: Errno);
}

macro_rules! replies {
    ($($reply:ident),*) => {
        $(impl Reply for $reply {
            fn fail(self, errno: Errno) {
                self.error(errno);
            }
        })*
    };
}

replies!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyEmpty,
    ReplyEntry,
    ReplyOpen,
    ReplyStatfs,
    ReplyWrite
);

/// What the daemon was told.
#[derive(Debug, Default)]
struct Told {
    /// How much later it answers, in milliseconds.
    delay_ms: Option<PerOperation<u64>>,
    /// The error that it answers.
    errno: Option<PerOperation<model::Errno>>,
}

/// How the daemon answers; told by faults, read at every request.
#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    told: Mutex<Told>,
    later: OnceLock<Option<Sender<Late>>>,
}

impl Behaviour {
    /// Obeys a fault from now on. Returns the new behaviour in words, or none when the fault does not concern the
    /// daemon's answers.
    pub(crate) fn obey(&self, fault: &Fault) -> Option<String> {
        match fault {
            Fault::Slow(delay_ms) => {
                self.told().delay_ms = Some(delay_ms.clone());
                Some(format!("the daemon waits before its answers, in ms: {delay_ms}"))
            }
            Fault::Errors(errno) => {
                self.told().errno = Some(errno.clone());
                Some(match errno {
                    PerOperation::All(model::Errno::NONE) => "the daemon answers again".to_owned(),
                    errno => format!("the daemon answers {errno}"),
                })
            }
            Fault::Kill
            | Fault::Terminate
            | Fault::Delete
            | Fault::ForceDelete
            | Fault::Exit
            | Fault::KillParent
            | Fault::Stop
            | Fault::Continue
            | Fault::Abort
            | Fault::Unmount
            | Fault::LazyUnmount
            | Fault::Oom => None,
        }
    }

    /// Answers a request as told: with the error, or by `work`, now or later. A late answer does not keep
    /// the others waiting.
    pub(super) fn answer<R: Reply>(
        &self,
        operation: Operation,
        reply: R,
        work: impl FnOnce(R) + Send + 'static,
    ) {
        let (delay_ms, errno) = {
            let told = self.told();
            let delay_ms = told.delay_ms.as_ref().and_then(|told| told.of(operation).copied());
            let errno = told.errno.as_ref().and_then(|told| told.of(operation).copied());
            (delay_ms.unwrap_or_default(), errno.unwrap_or(model::Errno::NONE))
        };
        let answer = move || match errno {
            model::Errno::NONE => work(reply),
            errno => reply.fail(Errno::from_i32(errno.number())),
        };
        if delay_ms == 0 {
            return answer();
        }
        let due = Instant::now() + Duration::from_millis(delay_ms);
        match self.later.get_or_init(begin_later) {
            // Only an ending process has no receiver any more.
            Some(later) => drop(later.send(Late { due, answer: Box::new(answer) })),
            None => answer(),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // Each change is one assignment: a panic leaves nothing half done.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that is due later.
struct Late {
    due: Instant,
    answer: Box<dyn FnOnce() + Send>,
}

impl PartialEq for Late {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Late {}

impl PartialOrd for Late {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Late {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

/// Starts the thread that gives late answers, each when it is due; none where no thread can be had.
fn begin_later() -> Option<Sender<Late>> {
    let (sender, receiver) = mpsc::channel::<Late>();
    let serve = move || {
        let mut waiting: BinaryHeap<Reverse<Late>> = BinaryHeap::new();
        loop {
            let next = waiting.peek().map(|Reverse(late)| late.due);
            let received = match next {
                Some(due) => receiver.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match received {
                Ok(late) => waiting.push(Reverse(late)),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(Reverse(late)) = waiting.pop() {
                        (late.answer)();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    thread::Builder::new().name("later".into()).spawn(serve).ok().map(|_| sender)
}
