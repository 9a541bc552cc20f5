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

use serde::{Deserialize, Serialize};

use crate::facts::HostFacts;
use crate::journal::HostChange;
use crate::marker::Marker;
use crate::observation::{MountView, Outcome};
use crate::plan::{Fault, NodeSpec, Propagation, Role};
use crate::program::{ProgramState, StartRefused};

/// Version of the messages; both sides must have the same.
pub const PROTOCOL_VERSION: u32 = 1;

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

/// A container to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its number, given by the parent; unique for the life of the node.
    pub id: u32,
    /// The workload's name, for process titles and logs.
    pub name: String,
    /// What its program does.
    pub role: Role,
    /// Propagation of its volume.
    pub propagation: Propagation,
    /// Whether it gets the node's devices.
    pub privileged: bool,
    /// Host directory of its volume.
    pub source: String,
    /// Where the volume is in the container.
    pub destination: String,
    /// Where the FUSE mount is or will be in the container.
    pub fuse_path: String,
    /// As which user its program runs.
    pub uid: u32,
    /// Whether its program runs (the first replica) or it is a mount view only.
    pub program: bool,
    /// How many equal mount views are made; each has an observer's place of its own.
    pub replicas: u32,
    /// What a producer serves.
    pub marker: Marker,
    /// How long a consumer waits for the marker.
    pub marker_ms: u64,
    /// How long one of its accesses may take.
    pub probe_ms: u64,
    /// Whether a producer's mount lets other users in.
    pub allow_other: bool,
}

/// One place to look from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The node's own mount namespace.
    Node,
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
    /// As which users.
    pub uids: Vec<u32>,
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
        /// The marker that counts as fresh.
        expect: Marker,
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
    RebindHost,
    /// Bind the fresh mount over the stale one inside a container.
    RebindContainer {
        /// Which.
        container: u32,
        /// How long it may take.
        deadline_ms: u64,
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
    /// For [`Call::Inject`].
    Injected {
        /// What proves it.
        evidence: String,
    },
}

/// A failure of the agent's own work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// [`ErrorKind`](crate::ErrorKind) by name.
    pub kind: String,
    /// What was attempted.
    pub operation: String,
    /// Why it did not work.
    pub reason: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
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
    /// It ended.
    Ended {
        /// How.
        state: ProgramState,
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
pub fn frame_length(header: [u8; 4]) -> Result<usize, crate::Error> {
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(crate::Error::new(
            crate::ErrorKind::AgentVersion,
            "read a frame from the agent",
            format!("it claims {length} bytes, above the limit of {MAX_FRAME_BYTES}"),
        )
        .with_fix("use the agent of the same release as this program"));
    }
    Ok(length)
}
