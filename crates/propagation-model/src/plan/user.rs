//! As whom programs run and look.

use serde::{Deserialize, Serialize};

/// As whom a program runs, or an actor looks: a UID, the GID of the same number, supplementary groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct User {
    /// The UID and the GID.
    pub uid: u32,
    /// The GIDs of its supplementary groups (setgroups(2)).
    pub groups: Vec<u32>,
}

impl User {
    /// The user with a UID and nothing beside it; 0 is root.
    pub fn plain(uid: u32) -> Self {
        Self { uid, groups: Vec::new() }
    }

    /// Whether it is root without anything beside it: what the agent is already.
    pub fn is_plain_root(&self) -> bool {
        *self == Self::plain(0)
    }
}
