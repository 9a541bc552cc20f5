//! Calls to an agent, and its answers.

use propagation_model::facts::HostFacts;
use propagation_model::journal::HostChange;
use propagation_model::marker::Marker;
use propagation_model::observation::Access;
use propagation_model::plan::{Fault, Stale};
use propagation_model::program::{Attach, Attached, Executed, LoadReport, StartRefused};
use serde::{Deserialize, Serialize};

use crate::container::ContainerSpec;
use crate::look::{Look, Place, Seen};

/// Calls that nodes of every kind answer.
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
    /// Bind the fresh mount at a mountpoint of the node over itself.
    RebindHost {
        /// The mountpoint.
        path: String,
        /// Whether the layers below are taken off before.
        deduplicate: bool,
    },
    /// Unmount the topmost mount at a mountpoint of the node.
    Unmount {
        /// The mountpoint.
        path: String,
        /// Whether to unmount lazily, even when it is in use.
        lazy: bool,
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
    /// Give a running container a mount of the node.
    Attach {
        /// The container.
        container: u32,
        /// The mountpoint on the node.
        path: String,
        /// The way to do it.
        how: Attach,
    },
}

/// Calls to a simulated node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SimulatedCall {
    /// A call that nodes of every kind answer.
    Node {
        /// The call.
        call: Call,
    },
    /// Keep running when the socket closes.
    Keep,
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
}

/// A request with its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Number of the request, which the answer repeats.
    pub id: u64,
    /// The call.
    pub call: SimulatedCall,
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
    /// For [`SimulatedCall::Load`].
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
    /// For [`HostCall::Clean`](crate::host::HostCall::Clean).
    Cleaned {
        /// What was undone.
        undone: Vec<String>,
        /// What could not be undone.
        could_not: Vec<String>,
    },
}
