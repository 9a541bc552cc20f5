//! What the program of a container and its agent say to each other.

use propagation_model::marker::Marker;
use propagation_model::plan::{Fault, Stale};
use propagation_model::program::ProgramState;
use serde::{Deserialize, Serialize};

use crate::look::Seen;

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
