//! What a node is to the loop that serves it.

use std::os::fd::BorrowedFd;

use mountinfo::MountEntry;
use nix::errno::Errno;
use propagation_model::facts::HostFacts;
use propagation_model::journal::HostChange;
use propagation_model::marker::Marker;
use propagation_model::plan::Fault;
use propagation_protocol::{ContainerSpec, Failure, Look, Place, Reply};

use crate::mounts::Proc;
use crate::stuck::Stuck;
use crate::view::View;

/// A node that is served: simulated, or real.
pub(crate) trait World: Sized + 'static {
    /// The calls that it takes.
    type Call;

    /// Requests that have come, by their numbers. Does not block.
    ///
    /// # Errors
    /// When no more can come, and the agent is to end.
    fn hear(&mut self) -> Result<Vec<(u64, Self::Call)>, Errno>;

    /// Begins a call; `idle` when no job is under way.
    ///
    /// # Errors
    /// What could not be done: the answer.
    fn take(&mut self, id: u64, call: Self::Call, idle: bool) -> Result<Begun<Self>, Failure>;

    /// Handles what the programs of containers have sent, and what is late.
    fn advance(&mut self, now: u64);

    /// Answers a request.
    fn answer(&mut self, id: u64, result: Result<Reply, Failure>);

    /// Whether the agent is to end.
    fn is_over(&self) -> bool;

    /// Descriptors that become readable when there is something to hear or to handle.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// Instant at which something is late.
    fn deadline(&self) -> Option<u64>;

    /// The /proc of the node.
    fn proc(&self) -> &Proc;

    /// Looks that were given up.
    fn stuck(&self) -> &Stuck;

    /// Looks that were given up, to be changed, with the /proc that shows their processes.
    fn stuck_mut(&mut self) -> (&Proc, &mut Stuck);

    /// The mount view of a place.
    ///
    /// # Errors
    /// When the container is unknown, or has ended.
    fn view_of(&self, place: &Place) -> Result<&View, Failure>;

    /// The mount table of a place, in the kernel's words; none where the place is gone.
    ///
    /// # Errors
    /// When it cannot be read.
    fn mountinfo(&self, place: &Place) -> Result<Option<Vec<u8>>, Failure>;

    /// How a container was made.
    fn spec_of(&self, container: u32) -> Option<&ContainerSpec>;

    /// The mountpoint at the bridge.
    fn fuse_path(&self) -> String;

    /// Whether a mount below the bridge is the run's own.
    fn owns(&self, mount: &MountEntry) -> bool;

    /// Checks, where others mount too, that no mount at a path is theirs.
    ///
    /// # Errors
    /// For the first that is.
    fn check_others_at(&self, _path: &str) -> Result<(), Failure> {
        Ok(())
    }

    /// Whether the daemon of a producer runs.
    fn a_producer_serves(&self) -> bool;

    /// Whether an access to the node's filesystem may meet a FUSE daemon that hangs.
    fn may_hang(&self) -> bool;

    /// The facts of the node.
    fn facts(&self) -> HostFacts;

    /// Makes a change; whether it had to be made. May block.
    ///
    /// # Errors
    /// When the node does not allow it.
    fn apply(&self, change: &HostChange) -> Result<bool, Failure>;

    /// Undoes a change. May block.
    ///
    /// # Errors
    /// When the node does not allow it, or something of others is in the way.
    fn undo(&self, change: &HostChange) -> Result<(), Failure>;

    /// Runs a program in a place. May block.
    ///
    /// # Errors
    /// When it cannot be started.
    fn execute(
        &self,
        place: &Place,
        command: &[String],
        deadline_ms: u64,
    ) -> Result<Reply, Failure>;

    /// Starts containers, each within `deadline_ms`.
    ///
    /// # Errors
    /// When none can be made.
    fn start(
        &mut self,
        specs: Vec<ContainerSpec>,
        deadline_ms: u64,
    ) -> Result<Begun<Self>, Failure>;

    /// Reads through descriptors that are opened once and kept.
    ///
    /// # Errors
    /// When the node does not support it.
    fn hold(
        &mut self,
        looks: &[Look],
        expect: &[Marker],
        deadline_ms: u64,
    ) -> Result<Begun<Self>, Failure>;

    /// Injects a fault; it is answered when it has provably happened.
    ///
    /// # Errors
    /// When the fault does not apply to the container.
    fn inject(
        &mut self,
        id: u64,
        container: u32,
        fault: &Fault,
        deadline_ms: u64,
    ) -> Result<Begun<Self>, Failure>;

    /// Ends a container; it is answered when its processes are gone.
    ///
    /// # Errors
    /// When they cannot be signalled.
    fn remove(&mut self, id: u64, container: u32) -> Result<Begun<Self>, Failure>;
}

/// What becomes of a call.
pub(crate) enum Begun<W> {
    /// It is answered.
    Answered(Reply),
    /// It takes its time.
    Job(Box<dyn Job<W>>),
    /// The world answers it once a program of a container has reported.
    Later,
}

impl<W> Begun<W> {
    /// A call that takes its time.
    pub(crate) fn job(job: impl Job<W> + 'static) -> Self {
        Self::Job(Box::new(job))
    }
}

/// A call that takes its time.
pub(crate) trait Job<W> {
    /// Descriptors that become readable when it can go on.
    fn descriptors<'a>(&'a self, world: &'a W) -> Vec<BorrowedFd<'a>>;

    /// Instant at which it goes on without.
    fn deadline(&self) -> Option<u64>;

    /// Goes on, without blocking.
    fn advance(&mut self, world: &mut W, now: u64) -> Progress;
}

/// State of a job.
pub(crate) enum Progress {
    Unfinished,
    Finished(Result<Reply, Failure>),
}
