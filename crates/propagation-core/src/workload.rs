//! The trait [`Workload`]: one pod-like unit with its own mount view.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Error;
use crate::marker::Marker;
use crate::observation::{Observation, Outcome};
use crate::plan::{Fault, Stale, WorkloadSpec};
use crate::program::{Attach, Attached, LoadReport, ProgramState, Refused, StartRefused};

/// Status of a workload by its own reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadStatus {
    /// State of its program.
    pub program: ProgramState,
    /// For a producer: when it mounted and served its generation, in microseconds of the run.
    pub mounted_at_us: Option<u64>,
    /// Why a producer could not mount, in its own words.
    pub failure: Option<String>,
    /// The last thing a consumer program saw by itself.
    pub seen: Option<Observation>,
    /// The last outcome of the descriptor that it holds.
    pub held: Option<Outcome>,
}

impl Default for WorkloadStatus {
    /// Status of a program that has just been started.
    fn default() -> Self {
        Self {
            program: ProgramState::Running,
            mounted_at_us: None,
            failure: None,
            seen: None,
            held: None,
        }
    }
}

/// The part of a workload that is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartScope {
    /// The daemon under a supervisor that has outlived the daemon, in the same container.
    Daemon,
    /// The container, in its pod.
    Container,
    /// The pod.
    Pod,
}

/// How a workload is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// The part that is restarted.
    pub scope: RestartScope,
    /// What a producer does with dead mounts, if not what its specification says.
    pub stale: Option<Stale>,
}

impl From<RestartScope> for Restart {
    fn from(scope: RestartScope) -> Self {
        Self { scope, stale: None }
    }
}

/// A condition to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Until {
    /// A producer has mounted and answers.
    Mounted,
    /// The consumer's own program has read the marker of this generation.
    SeesGeneration(u64),
    /// The consumer's own program has noticed that the mount is not usable.
    SeesBreakage,
    /// The program has ended.
    Ended,
}

impl Until {
    /// Whether `status` meets the condition.
    pub fn is_met_by(&self, status: &WorkloadStatus) -> bool {
        let seen = status.seen.as_ref();
        match self {
            Self::Mounted => status.mounted_at_us.is_some(),
            Self::SeesGeneration(generation) => seen
                .is_some_and(|seen| seen.outcome.is_ok() && seen.generation == Some(*generation)),
            Self::SeesBreakage => seen.is_some_and(|seen| !seen.outcome.is_ok()),
            Self::Ended => !matches!(status.program, ProgramState::Running),
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted => formatter.write_str("the mount"),
            Self::SeesGeneration(generation) => {
                write!(formatter, "a look at generation {generation}")
            }
            Self::SeesBreakage => formatter.write_str("a look that fails"),
            Self::Ended => formatter.write_str("the end"),
        }
    }
}

/// One pod-like unit on a node.
///
/// It lives from [`Node::start`](crate::node::Node::start) to [`Workload::stop`] or the node's
/// close. All methods may be called from several tasks at once; dropping a future may leave the
/// operation done or not done, never half done.
#[async_trait]
pub trait Workload: Send + Sync {
    /// What it was started from.
    fn spec(&self) -> &WorkloadSpec;

    /// Status of the workload now. Never blocks on the mount.
    ///
    /// # Errors
    /// When the node cannot be reached.
    async fn status(&self) -> Result<WorkloadStatus, Error>;

    /// Waits until the condition is met and returns the status that met it. Returns early with
    /// the status when the condition can no longer be met, because the program ended: the caller
    /// checks with [`Until::is_met_by`]. Driven by the workload's own reports, not by polling.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) after `deadline`, with what was seen last.
    async fn wait(&self, until: Until, deadline: Duration) -> Result<WorkloadStatus, Error>;

    /// Injects the fault, and returns when it has provably happened: the processes are gone, or
    /// stopped. The returned text is the evidence.
    ///
    /// After [`Fault::Kill`] and [`Fault::Terminate`] the workload is over; it can be started
    /// again with [`Workload::restart`] or from its spec.
    ///
    /// A fault that could not be injected, for example because the program had ended before, is an inner result.
    ///
    /// # Errors
    /// When the node fails; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a fault that is not
    /// declared.
    async fn inject(&self, fault: &Fault) -> Result<Result<String, Refused>, Error>;

    /// Restarts it, with a producer's new marker: its daemon only, its container with a new mount
    /// namespace and new binds, or its whole pod. What runs of it is ended before.
    ///
    /// # Errors
    /// When the node fails; the runtime's refusal is the inner result.
    async fn restart(
        &self,
        marker: &Marker,
        restart: Restart,
    ) -> Result<Result<(), StartRefused>, Error>;

    /// Lets a successor take over the `/dev/fuse` descriptor that a keeper has held since the producer mounted. The
    /// mount goes on with the new marker; requests that the dead daemon had taken are sent again, or end with EIO
    /// where the kernel cannot do that (before Linux 6.9). Returns when the successor serves. For producers with a
    /// keeper whose daemon has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where nothing is kept. A daemon that
    /// still runs, or is gone with everything that was kept, is an inner result.
    async fn hand_over(&self, marker: &Marker) -> Result<Result<(), Refused>, Error>;

    /// Load of its readers and writers since the previous call; `None` when it has none.
    ///
    /// # Errors
    /// When the node cannot be reached.
    async fn load(&self) -> Result<Option<LoadReport>, Error>;

    /// Gives the workload the node's mount, in its own mount namespace, while its program runs.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where the repair is not declared. A refusal by the
    /// kernel is the inner result.
    async fn attach(&self, how: Attach) -> Result<Result<Attached, Refused>, Error>;

    /// Lines that its program has logged so far, as `kubectl logs` shows them.
    ///
    /// # Errors
    /// When the node cannot be reached.
    async fn log(&self) -> Result<Vec<String>, Error>;

    /// Ends it. Idempotent. Afterwards none of its processes and mounts is left, except for a mount
    /// that it sent to the host.
    ///
    /// # Errors
    /// When its processes could not be ended.
    async fn stop(&self) -> Result<(), Error>;
}
