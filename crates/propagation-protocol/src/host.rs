//! The messages of a host agent: the agent that looks after the containers of one run on a real
//! node, whose containers a kubelet starts.
//!
//! It takes the calls of [the crate](crate) and some of its own. Programs in containers
//! find it by a socket in their volume [`Layout::inside`]; who asks reaches it through a relay, over
//! whatever carries bytes. That connection may break and be made again: messages are numbered, kept
//! until they are known to have come, and sent again.
//!
//! ```text
//! operator                  host agent                    program in a container
//!   | -- Resume {…} ----------> |                               |
//!   | <-- Hello {…} ----------- |                               |
//!   | -- Clock ---------------> |                               |
//!   | <-- Clock {now} --------- |                               |
//!   | --- Request {id, call} -> | <------- ProgramHello ------- |
//!   |                           | --- ContainerSpec ----------> |  once it is admitted and to start
//!   | <-- Arrived {container} - |                               |
//!   | <-- Event {container} --- | <------- ProgramEvent ------- |
//!   | <-- Answer {id, result} - |                               |
//! ```

use serde::{Deserialize, Serialize};

use crate::{Call, Failure, ProgramEvent, Reply};

/// Version of these messages; both sides must have the same.
pub const HOST_PROTOCOL_VERSION: u32 = 5;

/// The directory on a node in which every run has one of its own, until it has been cleaned.
pub const RUNS: &str = "/var/lib/propagation";

/// Where the files of a run lie, on its node and in its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    directory: String,
}

impl Layout {
    /// As seen on the node.
    pub fn on_node(run_id: &str) -> Self {
        Self { directory: format!("{RUNS}/{run_id}") }
    }

    /// As seen in a container.
    pub fn inside() -> Self {
        Self { directory: "/run/propagation".into() }
    }

    /// The directory itself.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// The agent's binary.
    pub fn agent(&self) -> String {
        format!("{}/agent", self.directory)
    }

    /// The socket for who asks; for root only.
    pub fn control(&self) -> String {
        format!("{}/control.sock", self.directory)
    }

    /// The socket for programs in containers.
    pub fn programs(&self) -> String {
        format!("{}/programs.sock", self.directory)
    }

    /// The journal of changes to the node.
    pub fn journal(&self) -> String {
        format!("{}/journal.json", self.directory)
    }
}

/// The environment variable of a pod that has the secret of its program.
pub const SECRET_VARIABLE: &str = "PROPAGATION_SECRET";

/// Which program of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProgramId {
    /// Number of its container.
    pub container: u32,
    /// Which replica of it.
    pub replica: u32,
}

/// The first frame of a program. It is believed only from the pod that [`HostCall::Admit`] names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramHello {
    /// Which program it says to be.
    pub program: ProgramId,
    /// What [`SECRET_VARIABLE`] holds.
    pub secret: String,
}

/// What a host agent is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HostCall {
    /// A call that nodes of every kind answer. [`Call::Start`] hands out what containers are to do:
    /// a program that arrives, or has arrived, gets it once.
    Node {
        /// Which.
        call: Call,
    },
    /// A pod has been made for a program: its process is heard from now on, and nobody else.
    Admit {
        /// Which program.
        program: ProgramId,
        /// The uid of its pod, as it is in the name of the pod's control group.
        pod: String,
        /// What the pod's spec alone has.
        secret: String,
    },
    /// Make sure that the bridge can be one: its path leads over no symbolic link, and nothing is mounted at
    /// its mountpoint.
    CheckBridge,
    /// Wait until the kubelet has ended the run's programs; kill them when it does not.
    Ended,
    /// Kill the run's programs, take back what the journal has, unmount what the run has mounted,
    /// remove the run's directory.
    Clean,
    /// End, once this has been answered.
    End,
}

/// A request with its number. The same number again is the same request, sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRequest {
    /// Comes back in the answer; grows.
    pub id: u64,
    /// What is asked.
    pub call: HostCall,
}

/// What a host agent is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum ToHost {
    /// The first frame of a connection.
    Resume {
        /// Who asks. Another one than before begins anew: what was for the one before is dropped.
        operator: String,
        /// The number of the last message that came; 0 when none did.
        received: u64,
    },
    /// What time it is there.
    Clock,
    /// A request.
    Request {
        /// Which.
        request: HostRequest,
        /// The number of the last message that came: those up to it need not be kept.
        received: u64,
    },
}

/// What a host agent gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HostReply {
    /// For [`HostCall::Node`].
    Node {
        /// What it gave.
        reply: Reply,
    },
    /// For [`HostCall::Clean`] and [`HostCall::End`].
    Cleaned {
        /// What was undone.
        undone: Vec<String>,
        /// What could not be.
        could_not: Vec<String>,
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
        /// What it gave.
        result: Result<HostReply, Failure>,
    },
    /// A program runs and has been told what to do.
    Arrived {
        /// Which.
        program: ProgramId,
        /// When its container got a process, on the monotonic clock, in nanoseconds; the kernel tells
        /// hundredths of a second.
        process_ns: u64,
        /// When it said that it is there, on the same clock.
        came_ns: u64,
    },
    /// Something that the program of a container reports.
    Event {
        /// Which.
        program: ProgramId,
        /// What it reports.
        event: ProgramEvent,
    },
}

/// What a host agent sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum FromHost {
    /// The first frame of a connection.
    Hello {
        /// [`HOST_PROTOCOL_VERSION`] of the agent.
        protocol: u32,
        /// Version of the agent.
        agent: String,
        /// Which agent this is: another one, also after a restart of the node, has another.
        started: String,
    },
    /// For [`ToHost::Clock`].
    Clock {
        /// Its monotonic clock, in nanoseconds.
        now_ns: u64,
    },
    /// Instead of the greeting.
    CannotServe {
        /// Why.
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
