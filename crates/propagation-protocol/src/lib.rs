//! The messages between a backend and the agent that is a simulated node. Those of the agent on a real node are in
//! [`host`].
//!
//! Frames on a stream socket: a little-endian `u32` length, then that many bytes of JSON.
//!
//! ```text
//! parent                                agent (node)
//!   |  <-- Hello {protocol, agent} --      |   first frame, or CannotServe and exit
//!   |  --- Request {id, call} ---------->  |
//!   |  <-- Answer {id, result} -------    |   in any order
//!   |  <-- Event {container, …} --------   |   at any time
//!   |  (socket closed) ----------------->  |   everything is torn down
//! ```
//!
//! Internal: a backend and the agent of one release speak it with each other, and it changes with any
//! release.

mod call;
pub mod consumer_log;
mod container;
mod failure;
mod frame;
pub mod host;
mod look;
pub mod measure;
mod message;
mod program;
pub mod transport;

pub use call::{Call, Reply, Request, SimulatedCall};
pub use container::{Bind, ContainerSpec, NodeSetup};
pub use failure::Failure;
pub use frame::{MAX_FRAME_BYTES, Received, encode, frame_length};
pub use look::{Look, MOST_LOOKS_AT_ONCE, Place, Seen};
pub use message::Message;
pub use program::{ProgramCommand, ProgramEvent};

/// Version of all messages, of [`host`] too; both sides must have the same.
pub const PROTOCOL_VERSION: u32 = 7;
