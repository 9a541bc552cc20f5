//! The messages between a backend and the agent that is a simulated node.
//!
//! Frames on a stream socket: a little-endian `u32` length, then that many bytes of JSON.
//!
//! ```text
//! parent                                agent (node)
//!   |  <-- Hello {protocol, agent} --      |   first frame, or Failed and exit
//!   |  --- Request {id, call} ---------->  |
//!   |  <-- Answer {id, reply|error} ---    |   in any order
//!   |  <-- Event {container, …} --------   |   at any time
//!   |  (socket closed) ----------------->  |   everything is torn down
//! ```
//!
//! Internal: a backend and the agent of one release speak it with each other, and it changes with any
//! release.

pub mod consumer_log;
pub mod host;
pub mod measure;

use serde::{Deserialize, Serialize};

use propagation_model::error::ErrorKind;
use propagation_model::facts::HostFacts;
use propagation_model::journal::HostChange;
use propagation_model::marker::Marker;
use propagation_model::observation::{Access, MountView, Outcome};
use propagation_model::plan::{
    BindSpec, Fault, FuseSpec, NodeSpec, Propagation, Role, Stale, User,
};
use propagation_model::program::{
    Attach, Attached, Executed, LoadReport, ProgramState, Refusal, RefusalKind, Refused,
    StartRefused,
};

/// Version of the messages; both sides must have the same.
pub const PROTOCOL_VERSION: u32 = 4;

/// The largest frame either side accepts, in bytes: far above 10,000 observations.
pub const MAX_FRAME_BYTES: usize = 256 * 1024 * 1024;

/// Instructions for the agent that makes itself a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSetup {
    /// Marks every process and mount of the run.
    pub run_id: String,
    /// Properties of the node.
    pub spec: NodeSpec,
    /// Where the bridge will be.
    pub bridge: String,
    /// Name of the mountpoint directory in it.
    pub mountpoint: String,
}

/// A bind into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Host directory or file.
    pub source: String,
    /// Where it is in the container.
    pub destination: String,
    /// Propagation of the volume.
    pub propagation: Propagation,
    /// How it is checked and bound.
    pub how: BindSpec,
}

/// A container to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its number, given by the backend; unique for the life of the node.
    pub id: u32,
    /// The workload's name, for process titles and logs.
    pub name: String,
    /// Role of its program.
    pub role: Role,
    /// Whether it is privileged: it gets the node's devices and all capabilities.
    pub privileged: bool,
    /// Capabilities beside the default ones, if it is not privileged.
    pub capabilities: Vec<String>,
    /// Its volumes, in the order in which they are bound; the first is the one under test.
    pub volumes: Vec<Bind>,
    /// The part of the first volume that the kubelet binds (subPath).
    pub sub_path: Option<String>,
    /// Whether the kubelet makes its bind for the subPath anew, as for a new pod.
    pub fresh_pod: bool,
    /// Where the FUSE mount is or will be in the container.
    pub fuse_path: String,
    /// Whether it runs as a process in the node's mount namespace instead of in a container.
    pub host: bool,
    /// Whether it has its own user namespace.
    pub user_namespace: bool,
    /// The mount namespace that it is made from.
    pub made_in: Place,
    /// Whether it contains host programs.
    pub tools: bool,
    /// The directory of the producer's filesystem at its FUSE path.
    pub directory: String,
    /// The user that its program runs as.
    pub user: User,
    /// Whether a consumer's program looks by itself whenever something happens.
    pub watches: bool,
    /// Number of equal mount views to make; each has a separate place to look from.
    pub replicas: u32,
    /// The marker that a producer serves.
    pub marker: Marker,
    /// How long a consumer waits for the marker, and a producer for an external daemon's mount.
    pub marker_ms: u64,
    /// Deadline for one of its accesses.
    pub probe_ms: u64,
    /// The filesystem that a producer serves.
    pub fuse: FuseSpec,
    /// Whether a supervisor outlives a producer's daemon.
    pub supervised: bool,
    /// Number of processes that read continuously.
    pub readers: u32,
    /// Number of processes that write continuously.
    pub writers: u32,
}

/// A place to look from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The node's own mount namespace.
    Node,
    /// The runtime's mount namespace, where it is separate.
    Runtime,
    /// A container's mount namespace, by its number and replica.
    Container(u32, u32),
}

/// What to look at from a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The place to look from.
    pub place: Place,
    /// The directory in that place: the mountpoint, or the bridge.
    pub directory: String,
    /// The file in it.
    pub file: String,
    /// Mountpoint of the mount in question: the directory, or the file itself.
    pub mount_point: String,
    /// The directory of the producer's filesystem with the expected marker; none accepts any.
    pub belongs_to: Option<String>,
    /// Users to look as.
    pub users: Vec<User>,
}

/// Result of one look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// UID that it looked as.
    pub uid: u32,
    /// When it ended, on the monotonic clock, in nanoseconds.
    pub at_ns: u64,
    /// How long it took, in nanoseconds.
    pub took_ns: u64,
    /// The outcome.
    pub outcome: Outcome,
    /// The generation that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The mount under the directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<MountView>,
}

/// Calls to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Call {
    /// Read the facts of the node.
    Facts,
    /// Make a change to the node.
    Apply {
        /// The change.
        change: HostChange,
    },
    /// Undo a change.
    Undo {
        /// The change.
        change: HostChange,
    },
    /// Make containers and start their programs.
    Start {
        /// The containers, in order.
        containers: Vec<ContainerSpec>,
        /// Deadline for making one of them.
        deadline_ms: u64,
    },
    /// Look from several places.
    Observe {
        /// What to look at.
        looks: Vec<Look>,
        /// How to look.
        access: Access,
        /// The markers that count as fresh.
        expect: Vec<Marker>,
        /// Deadline for one access.
        deadline_ms: u64,
    },
    /// Read whole mount tables.
    Mounts {
        /// The places.
        places: Vec<Place>,
    },
    /// Inject a fault into a container.
    Inject {
        /// The container.
        container: u32,
        /// The fault.
        fault: Fault,
        /// Time for the daemon to end.
        deadline_ms: u64,
    },
    /// End a container.
    Remove {
        /// The container.
        container: u32,
    },
    /// Keep running when the socket closes.
    Keep,
    /// Bind the fresh mount over the mountpoint on the node.
    RebindHost {
        /// Whether the layers below are taken off before.
        deduplicate: bool,
    },
    /// Unmount the topmost mount at the mountpoint on the node.
    Unmount {
        /// Whether to unmount lazily, even when it is in use.
        lazy: bool,
    },
    /// Bind the mount at the mountpoint on another path of the node, which is created.
    Publish {
        /// The path.
        path: String,
    },
    /// Close the descriptor that is held for a place.
    LetGo {
        /// The place.
        place: Place,
    },
    /// Unmount a published path, and remove it.
    Unpublish {
        /// The path.
        path: String,
    },
    /// Run a program.
    Execute {
        /// The mount namespace to run it in.
        place: Place,
        /// The program and its arguments.
        command: Vec<String>,
        /// Deadline of the program.
        deadline_ms: u64,
    },
    /// Report the state of processes and FUSE connections.
    Usage,
    /// Start the daemon under a supervisor again.
    StartDaemon {
        /// The container.
        container: u32,
        /// The marker that it serves.
        marker: Marker,
        /// What it does with dead mounts; overrides the first instructions.
        stale: Option<Stale>,
    },
    /// Let a successor take over the descriptor that is kept for a container.
    HandOver {
        /// The container.
        container: u32,
        /// The marker that it serves.
        marker: Marker,
    },
    /// Report the load of a container's readers and writers.
    Load {
        /// The container.
        container: u32,
    },
    /// Give a running container the node's mount.
    Attach {
        /// The container.
        container: u32,
        /// The way to do it.
        how: Attach,
    },
}

/// A request with its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Number of the request, which the answer repeats.
    pub id: u64,
    /// The call.
    #[serde(flatten)]
    pub call: Call,
}

/// Answers of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The call was carried out.
    Done,
    /// For [`Call::Facts`].
    Facts {
        /// The facts.
        facts: Box<HostFacts>,
    },
    /// For [`Call::Apply`].
    Applied {
        /// Whether it was made now.
        now: bool,
    },
    /// For [`Call::Start`]: one for each container, in order.
    Started {
        /// One entry for each container; `None` where it was made.
        refused: Vec<Option<StartRefused>>,
    },
    /// For [`Call::Observe`]: for each look, in order, one for each user.
    Observed {
        /// The results of the looks.
        seen: Vec<Seen>,
    },
    /// For [`Call::Mounts`].
    Mounts {
        /// The lines of mountinfo, one text for each place, in order; `None` for a place that is gone.
        mountinfo: Vec<Option<String>>,
    },
    /// For [`Call::Execute`].
    Executed {
        /// How it ended and what it printed.
        executed: Executed,
    },
    /// For [`Call::Usage`].
    Usage {
        /// Processes in uninterruptible sleep.
        blocked_processes: Option<u64>,
        /// FUSE connections.
        fuse_connections: Option<u64>,
    },
    /// For [`Call::Load`].
    Load {
        /// None when it has no readers and writers.
        load: Option<LoadReport>,
    },
    /// For [`Call::Attach`].
    Attached {
        /// The result, for all replicas.
        attached: Attached,
    },
    /// For [`Call::Inject`].
    Injected {
        /// Evidence of the fault.
        evidence: String,
    },
}

/// A failure of the agent's own work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of thing went wrong.
    pub kind: ErrorKind,
    /// The attempted operation.
    pub operation: String,
    /// The reason.
    pub reason: String,
    /// The fix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Kind of the kernel's refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

impl Failure {
    /// Converts the failure to a refusal, when the kernel, the runtime or a daemon refused the call. A machine that
    /// ran out of a resource did not refuse, and neither did an agent that failed.
    ///
    /// # Errors
    /// The failure itself, when it is not a refusal.
    pub fn refused(self) -> Result<Refused, Self> {
        let exhausted = self.refusal.is_some_and(|it| it.kind == RefusalKind::NoRoom);
        match self.kind {
            ErrorKind::Environment | ErrorKind::Timeout if !exhausted => {
                let Self { operation, reason, refusal, fix, .. } = self;
                Ok(Refused { operation, reason, refusal, fix })
            }
            _ => Err(self),
        }
    }
}

impl From<Failure> for propagation_model::Error {
    fn from(failure: Failure) -> Self {
        let errno = failure.refusal.and_then(|refusal| refusal.errno);
        let error = Self::new(failure.kind, failure.operation, failure.reason).with_errno(errno);
        match failure.fix {
            Some(fix) => error.with_fix(fix),
            None => error,
        }
    }
}

/// Reports of a container's program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ProgramEvent {
    /// A producer has mounted and served its first request.
    Mounted {
        /// When, on the monotonic clock, in nanoseconds.
        at_ns: u64,
    },
    /// A producer could not mount.
    Failed {
        /// The reason, in its own words.
        text: String,
    },
    /// A consumer looked by itself and saw something new.
    Saw {
        /// The observation.
        seen: Seen,
    },
    /// The outcome of the held descriptor.
    Held {
        /// The outcome.
        seen: Seen,
    },
    /// A line of its log.
    Log {
        /// The line.
        line: String,
    },
    /// A command has been carried out.
    Obeyed {
        /// The evidence.
        evidence: String,
    },
    /// The daemon under a supervisor ended.
    DaemonEnded {
        /// How it ended.
        state: ProgramState,
    },
    /// The descriptor that a keeper is to hold comes with this message.
    Kept {
        /// Body of the kernel's FUSE_INIT request, in hexadecimal: a successor answers it again.
        init: String,
    },
    /// The program ended.
    Ended {
        /// How it ended.
        state: ProgramState,
    },
}

/// Commands of the node to the program of a producer's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum ProgramCommand {
    /// Answer requests from now on as a fault demands.
    Obey {
        /// A fault of a daemon's answers.
        fault: Fault,
    },
    /// Unmount and exit.
    Exit,
    /// Use up memory.
    UseMemory,
    /// Send a signal to the daemon.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// Start the daemon again.
    StartDaemon {
        /// What it serves.
        marker: Marker,
        /// What it does with dead mounts.
        stale: Stale,
    },
}

/// Messages from the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum Message {
    /// The first frame: the node is ready.
    Hello {
        /// [`PROTOCOL_VERSION`] of the agent.
        protocol: u32,
        /// Version of the agent.
        agent: String,
        /// Number of user ids in the node.
        mapped_uids: u64,
    },
    /// The first frame: the node could not be made.
    CannotServe {
        /// The reason.
        failure: Failure,
    },
    /// An answer.
    Answer {
        /// Number of the request.
        id: u64,
        /// The result.
        result: Result<Reply, Failure>,
    },
    /// A report of a container's program.
    Event {
        /// Number of the container.
        container: u32,
        /// The report.
        #[serde(flatten)]
        event: ProgramEvent,
    },
}

/// Writes one value as a frame.
///
/// # Errors
/// When the value is larger than [`MAX_FRAME_BYTES`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, value)?;
    let length = frame.len() - 4;
    if length > MAX_FRAME_BYTES {
        return Err(serde::ser::Error::custom("a frame above the size limit"));
    }
    frame[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    Ok(frame)
}

/// Length of the frame whose first four bytes are `header`.
///
/// # Errors
/// When it is above [`MAX_FRAME_BYTES`]: the other side is not an agent.
pub fn frame_length(header: [u8; 4]) -> Result<usize, propagation_model::Error> {
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(propagation_model::Error::new(
            ErrorKind::AgentVersion,
            "read a frame from the agent",
            format!("it claims {length} bytes, above the limit of {MAX_FRAME_BYTES}"),
        )
        .with_fix("use the agent of the same release as this program"));
    }
    Ok(length)
}
