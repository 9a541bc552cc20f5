//! A call that may block: a child carries it out, and is given up when it hangs.

use std::os::fd::{AsFd, BorrowedFd};

use propagation_model::ErrorKind;
use propagation_protocol::{Failure, Reply};

use super::world::{Begun, Job, Progress, World};
use crate::child::Child;
use crate::failure::{failure, system};
use crate::sys::in_ms;

/// Time for a call that touches the node's filesystem, in milliseconds.
const CALL_MS: u64 = 10_000;

/// A call that a child carries out.
pub(crate) struct InChild {
    child: Child,
    operation: String,
    allowed_ms: u64,
    deadline: u64,
}

impl InChild {
    /// Starts the child. The work may take `own_ms` longer than touching the filesystem does.
    ///
    /// # Errors
    /// When no child can be made.
    pub(crate) fn start<W>(
        world: &W,
        operation: impl Into<String>,
        own_ms: u64,
        work: impl FnOnce(&W) -> Result<Reply, Failure>,
    ) -> Result<Self, Failure> {
        let child = Child::start(|pipe| {
            // A parent that has gone needs no answer.
            let _ = pipe.send(&work(world));
        });
        let child = child.map_err(|errno| system("start a child", errno))?;
        let allowed_ms = own_ms.saturating_add(CALL_MS);
        Ok(Self { child, operation: operation.into(), allowed_ms, deadline: in_ms(allowed_ms) })
    }

    fn failed(&self, reason: &str) -> Progress {
        Progress::Finished(Err(failure(ErrorKind::Internal, &self.operation, reason, None)))
    }
}

/// Begins a call that a child carries out.
///
/// # Errors
/// As [`InChild::start`].
pub(crate) fn in_child<W: World>(
    world: &W,
    operation: impl Into<String>,
    own_ms: u64,
    work: impl FnOnce(&W) -> Result<Reply, Failure>,
) -> Result<Begun<W>, Failure> {
    InChild::start(world, operation, own_ms, work).map(Begun::job)
}

impl<W> Job<W> for InChild {
    fn descriptors<'a>(&'a self, _: &'a W) -> Vec<BorrowedFd<'a>> {
        vec![self.child.pipe.as_fd()]
    }

    fn deadline(&self) -> Option<u64> {
        Some(self.deadline)
    }

    fn advance(&mut self, _: &mut W, now: u64) -> Progress {
        if self.child.pipe.fill(false).is_err() {
            return self.failed("its child is out of reach");
        }
        match self.child.pipe.next::<Result<Reply, Failure>>() {
            Ok(Some(result)) => Progress::Finished(result),
            Err(_) => self.failed("its child sent something else"),
            Ok(None) if self.child.pipe.is_closed() => self.failed("its child died"),
            Ok(None) if now >= self.deadline => {
                self.child.give_up();
                let reason =
                    format!("no answer in {} ms: a FUSE mount on the way hangs", self.allowed_ms);
                let fix = "kill its daemon, or write 1 to /sys/fs/fuse/connections/MINOR/abort";
                let failure = failure(ErrorKind::Timeout, &self.operation, reason, Some(fix));
                Progress::Finished(Err(failure))
            }
            Ok(None) => Progress::Unfinished,
        }
    }
}
