//! The messages of a host agent: the agent that looks after the containers of one run on a real node,
//! where a kubelet starts them.
//!
//! A host agent takes the calls of [the crate](crate) and further ones. Programs in containers find it by a socket
//! in their volume [`Layout::inside`]; the operator reaches it through a relay, over any byte stream. That
//! connection may break and be made again: messages are numbered, kept until they are acknowledged, and sent again.
//!
//! ```text
//! operator                  host agent                    program in a container
//!   | -- Resume {…} ----------> |                               |
//!   | <-- Hello {…} ----------- |                               |
//!   | -- Clock ---------------> |                               |
//!   | <-- Clock {now} --------- |                               |
//!   | --- Request {id, call} -> | <------- ProgramHello ------- |
//!   |                           | --- ProgramOrders ----------> |  once it is admitted and to start
//!   | <-- Arrived {container} - |                               |
//!   | <-- Event {container} --- | <------- ProgramEvent ------- |
//!   | <-- Answer {id, result} - |                               |
//! ```

use propagation_model::marker::Marker;
use propagation_model::plan::Stale;
use serde::{Deserialize, Serialize};

use crate::{Call, ContainerSpec, Failure, ProgramEvent, Reply};

/// The directory on a node that holds the directories of all runs until they are cleaned up.
pub const RUNS: &str = "/var/lib/propagation";

/// Paths of a run's files, on its node and in its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    directory: String,
}

impl Layout {
    /// Paths on the node.
    pub fn on_node(run_id: &str) -> Self {
        Self { directory: format!("{RUNS}/{run_id}") }
    }

    /// Paths in a container.
    pub fn inside() -> Self {
        Self { directory: "/run/propagation".into() }
    }

    /// The directory of the run.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// The agent's binary.
    pub fn agent(&self) -> String {
        format!("{}/agent", self.directory)
    }

    /// The socket for the operator; for root only.
    pub fn control(&self) -> String {
        format!("{}/control.sock", self.directory)
    }

    /// The socket for programs in containers.
    pub fn programs(&self) -> String {
        format!("{}/programs.sock", self.directory)
    }

    /// Where daemons other than the built-in one mount.
    pub fn external(&self) -> String {
        format!("{}/external", self.directory)
    }

    /// The journal of changes to the node.
    pub fn journal(&self) -> String {
        format!("{}/journal.json", self.directory)
    }
}

/// Environment variable of a pod with the secret of its program.
pub const SECRET_VARIABLE: &str = "PROPAGATION_SECRET";

/// Identifies a program of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProgramId {
    /// Number of its container.
    pub container: u32,
    /// Replica of the container.
    pub replica: u32,
}

/// The first frame of a program. It is accepted only from the pod that [`HostCall::Admit`] names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramHello {
    /// The program that it claims to be.
    pub program: ProgramId,
    /// The value of [`SECRET_VARIABLE`].
    pub secret: String,
}

/// The instructions of a program, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramOrders {
    /// The container that it is the program of.
    pub container: ContainerSpec,
    /// For a producer that takes over the connection of a dead one: the body of the kernel's FUSE_INIT request, in
    /// hexadecimal. The descriptor came with the message before.
    pub takes_over: Option<String>,
}

/// Calls to a host agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HostCall {
    /// A call that nodes of every kind answer. [`Call::Start`] stores the instructions of containers: a
    /// program that arrives, or has arrived, gets them once.
    Node {
        /// The call.
        call: Call,
    },
    /// A pod has been made for a program: from now on the agent accepts this program from no other pod.
    Admit {
        /// The program.
        program: ProgramId,
        /// The uid of its pod, as it is in the name of the pod's control group.
        pod: String,
        /// The secret, which only the pod's spec has.
        secret: String,
        /// Whether the pod has its own user namespace: the program has to be in one, and otherwise in the node's.
        user_namespace: bool,
    },
    /// Find where the symbolic links of these paths lead, the bridge's first, and make sure that nobody but root can
    /// lead them elsewhere and that nothing is mounted at the bridge's mountpoint. From then on the agent's bridge is
    /// the first path that it finds.
    Resolve {
        /// Absolute paths.
        paths: Vec<String>,
    },
    /// Note directories that a kubelet may make for the run, as it does for a `subPath`: those that are not
    /// there are removed with the run's own.
    Foresee {
        /// Absolute paths.
        paths: Vec<String>,
    },
    /// Let the next program of a container serve the connection that is kept for it.
    HandOver {
        /// The container.
        container: u32,
        /// The marker that it serves.
        marker: Marker,
    },
    /// Start the daemon under the supervisor of a container again.
    StartDaemon {
        /// The container.
        container: u32,
        /// The marker that it serves.
        marker: Marker,
        /// What it does with dead mounts; none keeps what the container was told.
        stale: Option<Stale>,
    },
    /// Wait until the kubelet has ended the run's programs; kill them when it does not.
    Ended,
    /// Kill the run's programs, undo the changes of the journal, unmount what the run has mounted, and
    /// remove the run's directory.
    Clean,
    /// End, after answering this call.
    End,
}

/// A request with its number. The same number again is the same request, sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRequest {
    /// Number of the request, which the answer repeats; it grows.
    pub id: u64,
    /// The call.
    pub call: HostCall,
}

/// Messages to a host agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum ToHost {
    /// The first frame of a connection.
    Resume {
        /// Identifies the operator. A new one begins anew: messages for the previous one are dropped.
        operator: String,
        /// Number of the last received message; 0 when there was none.
        received: u64,
    },
    /// Ask for the agent's clock.
    Clock,
    /// A request.
    Request {
        /// The request.
        request: HostRequest,
        /// Number of the last received message: those up to it need not be kept.
        received: u64,
    },
}

/// A message that must not get lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HostMessage {
    /// An answer.
    Answer {
        /// Number of the request.
        id: u64,
        /// The result.
        result: Result<Reply, Failure>,
    },
    /// A program runs and has received its instructions.
    Arrived {
        /// The program.
        program: ProgramId,
        /// When its container got a process, on the monotonic clock, in nanoseconds; the kernel's resolution is a
        /// hundredth of a second.
        process_ns: u64,
        /// When the program announced itself, on the same clock.
        came_ns: u64,
    },
    /// A report of a container's program.
    Event {
        /// The program.
        program: ProgramId,
        /// The report.
        event: ProgramEvent,
    },
}

/// Messages from a host agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum FromHost {
    /// The first frame of a connection.
    Hello {
        /// [`PROTOCOL_VERSION`](crate::PROTOCOL_VERSION) of the agent.
        protocol: u32,
        /// Version of the agent.
        agent: String,
        /// Identifies this agent: another agent has another value, also after a restart of the node.
        started: String,
    },
    /// For [`ToHost::Clock`].
    Clock {
        /// Its monotonic clock, in nanoseconds.
        now_ns: u64,
    },
    /// The agent refuses the connection; sent instead of the greeting.
    CannotServe {
        /// The reason.
        failure: Failure,
    },
    /// A message with its number, counted from 1.
    Numbered {
        /// The number.
        number: u64,
        /// The message.
        message: HostMessage,
    },
}
