//! Looks: from where, at what, and what was seen.

use propagation_model::observation::{MountView, Outcome};
use propagation_model::plan::User;
use serde::{Deserialize, Serialize};

/// The most looks that an agent takes at the same time.
pub const MOST_LOOKS_AT_ONCE: usize = 256;

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
