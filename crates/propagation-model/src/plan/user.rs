//! Users that programs run as and actors look as.

use serde::{Deserialize, Serialize};

/// The user that a program runs as, or an actor looks as: a UID, the GID of the same number, supplementary groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct User {
    /// The UID and the GID.
    pub uid: u32,
    /// The GIDs of its supplementary groups (setgroups(2)).
    pub groups: Vec<u32>,
}

impl User {
    /// The user with this UID, without supplementary groups; 0 is root.
    pub fn plain(uid: u32) -> Self {
        Self { uid, groups: Vec::new() }
    }

    /// Whether it is root without supplementary groups, as the agent already is.
    pub fn is_plain_root(&self) -> bool {
        *self == Self::plain(0)
    }
}
