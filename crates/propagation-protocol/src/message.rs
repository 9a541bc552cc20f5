//! What a simulated node says.

use serde::{Deserialize, Serialize};

use crate::call::Reply;
use crate::failure::Failure;
use crate::program::ProgramEvent;

/// Messages from the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum Message {
    /// The first frame: the node is ready.
    Hello {
        /// [`PROTOCOL_VERSION`](crate::PROTOCOL_VERSION) of the agent.
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
