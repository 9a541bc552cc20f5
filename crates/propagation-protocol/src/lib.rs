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

/// How the agent makes itself a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSetup {
    /// Marks every process and mount of the run.
    pub run_id: String,
    /// What the node is like.
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
    /// Its number, given by the parent; unique for the life of the node.
    pub id: u32,
    /// The workload's name, for process titles and logs.
    pub name: String,
    /// What its program does.
    pub role: Role,
    /// Whether it gets the node's devices and all capabilities.
    pub privileged: bool,
    /// Capabilities beside the default ones, if it is not privileged.
    pub capabilities: Vec<String>,
    /// Its volumes, in the order in which they are bound; the first is the one experimented with.
    pub volumes: Vec<Bind>,
    /// The part of the first volume that the kubelet binds for it.
    pub sub_path: Option<String>,
    /// Whether the kubelet's bind for the subPath is made anew: the pod is.
    pub fresh_pod: bool,
    /// Where the FUSE mount is or will be in the container.
    pub fuse_path: String,
    /// Whether it is no container but a process of the node.
    pub host: bool,
    /// Whether it has a user namespace of its own.
    pub user_namespace: bool,
    /// From where it is made.
    pub made_in: Place,
    /// Whether host programs are in it.
    pub tools: bool,
    /// The directory of the producer's filesystem that it has at its FUSE path.
    pub directory: String,
    /// As whom its program runs.
    pub user: User,
    /// Whether a consumer's program looks by itself, whenever something happens.
    pub watches: bool,
    /// How many equal mount views are made; each has an observer's place of its own.
    pub replicas: u32,
    /// What a producer serves.
    pub marker: Marker,
    /// How long a consumer waits for the marker, and a producer for an external daemon's mount.
    pub marker_ms: u64,
    /// How long one of its accesses may take.
    pub probe_ms: u64,
    /// The filesystem that a producer serves.
    pub fuse: FuseSpec,
    /// Whether a supervisor outlives a producer's daemon.
    pub supervised: bool,
    /// How many processes read all the time.
    pub readers: u32,
    /// How many processes write all the time.
    pub writers: u32,
}

/// One place to look from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The node's own mount namespace.
    Node,
    /// The runtime's, where it has one of its own.
    Runtime,
    /// A container's, by its number and replica.
    Container(u32, u32),
}

/// What to look at from one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// From where.
    pub place: Place,
    /// The directory in that place: the mountpoint, or the bridge.
    pub directory: String,
    /// The file in it.
    pub file: String,
    /// Where the mount that is looked for has its mount point: the directory, or the file itself.
    pub mount_point: String,
    /// The directory of the producer's filesystem whose marker is to be found; any where it is none.
    pub belongs_to: Option<String>,
    /// As whom.
    pub users: Vec<User>,
}

/// What one look gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// As which user.
    pub uid: u32,
    /// When it ended, on the monotonic clock, in nanoseconds.
    pub at_ns: u64,
    /// How long it took, in nanoseconds.
    pub took_ns: u64,
    /// What it gave.
    pub outcome: Outcome,
    /// The generation that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The mount under the directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<MountView>,
}

/// What the parent asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Call {
    /// Read the facts of the node.
    Facts,
    /// Make a change to the node.
    Apply {
        /// Which.
        change: HostChange,
    },
    /// Take a change back.
    Undo {
        /// Which.
        change: HostChange,
    },
    /// Make containers and start their programs.
    Start {
        /// Which, in order.
        containers: Vec<ContainerSpec>,
        /// How long making one may take.
        deadline_ms: u64,
    },
    /// Look from many places.
    Observe {
        /// What to look at.
        looks: Vec<Look>,
        /// What to do there.
        access: Access,
        /// The markers that count as fresh.
        expect: Vec<Marker>,
        /// How long one access may take.
        deadline_ms: u64,
    },
    /// Read whole mount tables.
    Mounts {
        /// Whose.
        places: Vec<Place>,
    },
    /// Do a fault to a container.
    Inject {
        /// Which container.
        container: u32,
        /// What to do to it.
        fault: Fault,
        /// How long the daemon has to end.
        deadline_ms: u64,
    },
    /// End a container.
    Remove {
        /// Which.
        container: u32,
    },
    /// Stay when the socket closes.
    Keep,
    /// Bind the fresh mount over the mountpoint on the node.
    RebindHost {
        /// Whether the layers that are there are taken off before.
        deduplicate: bool,
    },
    /// Unmount the topmost mount at the mountpoint on the node.
    Unmount {
        /// Whether it may be in use.
        lazy: bool,
    },
    /// Bind the mount at the mountpoint on another path of the node, which is made.
    Publish {
        /// Where.
        path: String,
    },
    /// Close the descriptor that is kept from a place.
    LetGo {
        /// Which.
        place: Place,
    },
    /// Unmount a path on which it was published, and remove it.
    Unpublish {
        /// Where.
        path: String,
    },
    /// Run a program.
    Execute {
        /// In whose mount namespace.
        place: Place,
        /// The program and its arguments.
        command: Vec<String>,
        /// How long it may run.
        deadline_ms: u64,
    },
    /// Say what processes and connections are doing.
    Usage,
    /// Start the daemon under a supervisor again.
    StartDaemon {
        /// In which container.
        container: u32,
        /// What it serves.
        marker: Marker,
        /// What it does with dead mounts, if not what it was told first.
        stale: Option<Stale>,
    },
    /// Let a successor take over the descriptor that is kept for a container.
    HandOver {
        /// Whose.
        container: u32,
        /// What it serves.
        marker: Marker,
    },
    /// Say what the readers and writers of a container have met.
    Load {
        /// Whose.
        container: u32,
    },
    /// Give a running container the node's mount.
    Attach {
        /// Which.
        container: u32,
        /// In which way.
        how: Attach,
    },
}

/// A request with its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Comes back in the answer.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub call: Call,
}

/// What the agent gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// It was done.
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
        /// `None` where it was made.
        refused: Vec<Option<StartRefused>>,
    },
    /// For [`Call::Observe`]: for each look, in order, one for each user.
    Observed {
        /// What was seen.
        seen: Vec<Seen>,
    },
    /// For [`Call::Mounts`].
    Mounts {
        /// The lines of mountinfo, one text for each place, in order; `None` where it is gone.
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
        /// How it went, for all replicas.
        attached: Attached,
    },
    /// For [`Call::Inject`].
    Injected {
        /// What proves it.
        evidence: String,
    },
}

/// A failure of the agent's own work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of thing went wrong.
    pub kind: ErrorKind,
    /// What was attempted.
    pub operation: String,
    /// Why it did not work.
    pub reason: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Why the kernel refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

impl Failure {
    /// The refusal that it is, when what was asked is something that kernel, runtime or daemon may refuse. What
    /// the machine has run out of is no refusal, and neither is what the agent could not do.
    ///
    /// # Errors
    /// Itself, when it is none.
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

/// What the program of a container reports.
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
        /// Why, in its own words.
        text: String,
    },
    /// A consumer looked by itself and saw something new.
    Saw {
        /// What it saw.
        seen: Seen,
    },
    /// What the held descriptor gave.
    Held {
        /// What it gave.
        seen: Seen,
    },
    /// A line of its log.
    Log {
        /// The line.
        line: String,
    },
    /// A command has been carried out.
    Obeyed {
        /// What proves it.
        evidence: String,
    },
    /// The daemon under a supervisor ended.
    DaemonEnded {
        /// How.
        state: ProgramState,
    },
    /// The descriptor that a keeper is to hold comes with this message.
    Kept {
        /// The body of the kernel's FUSE_INIT request, in hexadecimal: a successor answers it again.
        init: String,
    },
    /// It ended.
    Ended {
        /// How.
        state: ProgramState,
    },
}

/// What the node tells the program of a producer's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum ProgramCommand {
    /// Answer requests from now on as a fault says.
    Obey {
        /// One of a daemon's answers.
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

/// Anything the agent sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum Message {
    /// The first frame: the node stands.
    Hello {
        /// [`PROTOCOL_VERSION`] of the agent.
        protocol: u32,
        /// Version of the agent.
        agent: String,
        /// How many user ids exist in the node.
        mapped_uids: u64,
    },
    /// The first frame: the node could not be made.
    CannotServe {
        /// Why.
        failure: Failure,
    },
    /// An answer.
    Answer {
        /// Number of the request.
        id: u64,
        /// What it gave.
        result: Result<Reply, Failure>,
    },
    /// Something a container's program reports.
    Event {
        /// Number of the container.
        container: u32,
        /// What it reports.
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
