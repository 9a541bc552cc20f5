//! The trait [`Node`]: a host on which workloads run.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use propagation_model::Capabilities;

use crate::error::{Error, ErrorKind};
use crate::facts::HostFacts;
use crate::journal::HostChange;
use crate::marker::Marker;
use crate::mountinfo::MountTable;
use crate::observation::{Access, Actor, Observation};
use crate::plan::WorkloadSpec;
use crate::program::{Executed, Refused, StartRefused};
use crate::report::time::Wait;
use crate::report::{Cleanup, ClusterAccess, Usage};
use crate::workload::Workload;

/// Path that an actor looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The FUSE mountpoint; the file looked for is the marker.
    Fuse,
    /// The bridge itself; the file looked for is the plain file of the producer.
    Bridge,
}

/// How actors look: by default each reads the marker of the FUSE mount as its own user.
///
/// ```
/// use propagation_core::node::{Look, Target};
/// use propagation_core::observation::Access;
///
/// let as_somebody_else = Look::default().as_users(&[1000]);
/// let at_the_plain_file = Look::default().at(Target::Bridge).as_users(&[0]);
/// assert_ne!(as_somebody_else, Look::by(Access::List));
/// # drop(at_the_plain_file);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub(crate) access: Access,
    pub(crate) target: Target,
    pub(crate) users: Option<Vec<u32>>,
}

impl Look {
    /// Looks by another access than reading.
    pub fn by(access: Access) -> Self {
        Self { access, target: Target::Fuse, users: None }
    }

    /// Looks at another path than the FUSE mountpoint.
    #[must_use]
    pub fn at(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// Looks as these users; each gives one observation.
    #[must_use]
    pub fn as_users(mut self, users: &[u32]) -> Self {
        self.users = Some(users.to_vec());
        self
    }
}

impl Default for Look {
    fn default() -> Self {
        Self::by(Access::Read)
    }
}

/// One look at a file, to be done from every actor asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Where to look.
    pub target: Target,
    /// What to do there.
    pub access: Access,
    /// The markers that count as fresh, one for each mountpoint; reading any other is `wrong_content`.
    pub expect: Vec<Marker>,
    /// Users to look as; each gives one observation.
    pub uids: Vec<u32>,
    /// How long one access may take.
    pub deadline: Duration,
    /// The phase or step that the observations belong to.
    pub step: String,
}

/// A host that runs workloads: a real cluster node, or a simulated one.
///
/// A node is opened by its [`Backend`](crate::backend::Backend) and ends with [`Node::close`].
/// All methods may be called from several tasks at once. Dropping a future of any method leaves
/// the node usable: the operation may have happened or not, and [`Node::close`] undoes it either
/// way.
#[async_trait]
pub trait Node: Send + Sync {
    /// The node's name, as its backend knows it.
    fn name(&self) -> &str;

    /// What can be asked of this node. Constant for its life.
    fn capabilities(&self) -> Capabilities;

    /// Microseconds since the run started, on the clock of this node's observations.
    fn now_us(&self) -> u64;

    /// Reads the facts of the node. Changes nothing; may be called at any time.
    ///
    /// # Errors
    /// When the node cannot be reached. A fact that cannot be read is a value, not an error.
    async fn facts(&self) -> Result<HostFacts, Error>;

    /// Makes one change to the host. The caller has written it to its journal before.
    ///
    /// Idempotent: a change that is there already succeeds and returns `false`; `true` means that
    /// it was made now and has to be undone. [`Node::close`] does not undo it, [`Node::undo`] does.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] with the fix when the host does
    /// not allow it.
    async fn apply(&self, change: &HostChange) -> Result<bool, Error>;

    /// Undoes one change that [`Node::apply`] made. Idempotent. Never removes what the run did not
    /// make, and never deletes through a mount.
    ///
    /// # Errors
    /// When the change is still in use, for example a directory on which something is mounted.
    async fn undo(&self, change: &HostChange) -> Result<(), Error>;

    /// Starts workloads, in the order given, and returns when each has been created or refused.
    /// One refusal does not keep the others from starting.
    ///
    /// A started workload's program runs; that it is *ready* is waited for with
    /// [`Workload::wait`]. With `generation` a producer is told which marker to serve.
    ///
    /// # Errors
    /// When the node itself fails. That the runtime refuses a container is a result.
    async fn start(
        &self,
        specs: &[WorkloadSpec],
        marker: &Marker,
    ) -> Result<Vec<Result<Arc<dyn Workload>, StartRefused>>, Error>;

    /// Looks at a file from every actor in `actors`, as every user of the probe, and returns one
    /// observation for each, in that order. Never blocks longer than the probe's deadline times a
    /// small constant, however many actors hang.
    ///
    /// Precondition: the workloads of the actors have been started and not stopped. An actor without
    /// the path (the bridge, seen by a workload whose volume is the mountpoint) gives `skipped`.
    ///
    /// # Errors
    /// When the node cannot be reached or an actor is unknown. What the access gives, a hang
    /// included, is a result.
    async fn observe(&self, actors: &[Actor], probe: &Probe) -> Result<Vec<Observation>, Error>;

    /// Takes the observations that workloads' own programs have reported since the last call, in
    /// the order of their times. Their `step` is empty.
    fn take_reports(&self) -> Vec<Observation>;

    /// Takes the times in which the node could only wait for other programs, since the last call. A
    /// node that never waits has none.
    fn take_waits(&self) -> Vec<Wait> {
        Vec::new()
    }

    /// How the node was reached, for nodes of a cluster.
    fn cluster(&self) -> Option<ClusterAccess> {
        None
    }

    /// The whole mount tables that actors see, in the order of `actors`; `None` for a workload that
    /// has ended, and its mount namespace with it. Enters namespaces and reads `/proc`; never touches
    /// a FUSE daemon, so it cannot hang.
    ///
    /// # Errors
    /// When the node cannot be reached or an actor is unknown.
    async fn mount_tables(&self, actors: &[Actor]) -> Result<Vec<Option<MountTable>>, Error>;

    /// Binds the fresh mount at a mountpoint of the node over itself, so that it propagates
    /// to the peers and slaves there. With `deduplicate` the layers under the fresh mount are taken off
    /// before.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the repair is not declared. A refusal by the kernel is the inner result.
    async fn rebind_host(
        &self,
        path: &str,
        deduplicate: bool,
    ) -> Result<Result<(), Refused>, Error>;

    /// Unmounts the topmost mount at a mountpoint of the node, as umount(8) does.
    ///
    /// The kernel refuses it with `EBUSY` while it is in use, unless `lazy`, and with `EINVAL` when nothing is
    /// mounted there: that is the inner result.
    ///
    /// # Errors
    /// When the node cannot be reached; on a real node, when somebody else has mounted there.
    async fn unmount(&self, path: &str, lazy: bool) -> Result<Result<(), Refused>, Error>;

    /// Binds the mount at the bridge's mountpoint on another path of the node, which is made: what a CSI
    /// driver does in NodePublishVolume. A path on which something is mounted already counts as published
    /// when it can be looked at.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the feature `publishing` is not declared. A path that cannot be looked at
    /// and a refusal by the kernel are inner results.
    async fn publish(&self, path: &str) -> Result<Result<(), Refused>, Error>;

    /// Unmounts a published path and removes its directory: what a CSI driver does in
    /// NodeUnpublishVolume. Nothing need be mounted there.
    ///
    /// # Errors
    /// As [`Node::publish`]: `EBUSY` while it is in use is the inner result.
    async fn unpublish(&self, path: &str) -> Result<Result<(), Refused>, Error>;

    /// Closes the descriptor that is held for an actor, if there is one; the next look by [`Access::Held`] opens
    /// another.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where descriptors are not held; when the actor is unknown.
    async fn let_go(&self, actor: &Actor) -> Result<(), Error>;

    /// Runs a program in the mount namespace of an actor, to its end; when `deadline` passes it is
    /// killed. The first 64 KiB of what it prints are kept.
    ///
    /// # Errors
    /// When the node cannot be reached or the actor is unknown. A program that cannot be started there is an inner
    /// result, and so is how it ends.
    async fn execute(
        &self,
        actor: &Actor,
        command: &[String],
        deadline: Duration,
    ) -> Result<Result<Executed, Refused>, Error>;

    /// What the node's processes and FUSE connections are doing right now.
    ///
    /// # Errors
    /// When the node cannot be reached. A figure that cannot be read is none.
    async fn usage(&self) -> Result<Usage, Error>;

    /// Stops every workload, removes everything the node made and, for a simulated node, the node itself; for a run
    /// that is to be kept, leaves all of it and says how to remove it. Idempotent. Does not fail: returns what was
    /// undone, and for what could not be undone the command that does it.
    async fn close(&self) -> Cleanup;
}

/// The whole mount table that one actor sees.
///
/// # Errors
/// As [`Node::mount_tables`], and when the actor has ended.
pub async fn mount_table(node: &dyn Node, actor: &Actor) -> Result<MountTable, Error> {
    let mut tables = node.mount_tables(std::slice::from_ref(actor)).await?;
    tables.pop().flatten().ok_or_else(|| {
        let operation = format!("read the mounts of {actor}");
        Error::new(ErrorKind::InvalidInput, operation, "it has ended")
    })
}
