//! Observations: what an actor saw, and when.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::class::Class;
use crate::errno::Errno;
use crate::mountinfo::{DeviceId, MountEntry, MountPath, is_fuse, is_served};

/// A place from which an observation is made.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// The node itself: the mount namespace of the host.
    Node,
    /// The mount namespace of the container runtime, where it is not the node's.
    Runtime,
    /// A workload, seen from inside its own mount namespace.
    Workload {
        /// The name of the workload in the plan.
        name: String,
        /// Which replica of it, counted from 0.
        replica: u32,
    },
    /// A descriptor that a workload's program opened on the mount and keeps.
    HeldDescriptor {
        /// The name of the workload in the plan.
        name: String,
    },
}

impl Actor {
    /// The first (usually the only) replica of the workload called `name`.
    pub fn workload(name: impl Into<String>) -> Self {
        Self::Workload { name: name.into(), replica: 0 }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => formatter.write_str("node"),
            Self::Runtime => formatter.write_str("runtime"),
            Self::Workload { name, replica: 0 } => formatter.write_str(name),
            Self::Workload { name, replica } => write!(formatter, "{name}#{replica}"),
            Self::HeldDescriptor { name } => write!(formatter, "{name} (held descriptor)"),
        }
    }
}

/// Outcome of an access to the mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "class", rename_all = "snake_case")]
pub enum Outcome {
    /// The marker of the expected generation was read.
    Ok,
    /// No mount there: the marker is missing and the path lies on the lower filesystem.
    Absent,
    /// A mount is there and has no content.
    Empty,
    /// A write landed on the filesystem beneath the mountpoint instead of in the mount.
    Lower,
    /// A mount is there with other content than the marker of the expected generation.
    WrongContent {
        /// What was found instead.
        detail: String,
    },
    /// A system call failed.
    Errno {
        /// The errno, written by its name.
        #[serde(rename = "name")]
        errno: Errno,
        /// The call that gave it, such as `open`.
        call: String,
    },
    /// The deadline passed while the access was still blocked.
    Hang {
        /// How long it waited, in milliseconds.
        after_ms: u64,
    },
    /// The access could not be made.
    Skipped {
        /// The reason.
        reason: String,
    },
}

impl Outcome {
    /// The error given by the system call `call`.
    pub fn errno(errno: Errno, call: impl Into<String>) -> Self {
        Self::Errno { errno, call: call.into() }
    }

    /// The class by which two outcomes are compared.
    pub fn class(&self) -> Class {
        match self {
            Self::Ok => Class::Ok,
            Self::Absent => Class::Absent,
            Self::Empty => Class::Empty,
            Self::Lower => Class::Lower,
            Self::WrongContent { .. } => Class::WrongContent,
            Self::Errno { errno, .. } => Class::Errno(*errno),
            Self::Hang { .. } => Class::Hang,
            Self::Skipped { .. } => Class::Skipped,
        }
    }

    /// Whether the expected content was read.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok | Self::Absent | Self::Empty | Self::Lower => {
                write!(formatter, "{}", self.class())
            }
            Self::WrongContent { detail } => write!(formatter, "wrong content ({detail})"),
            Self::Errno { errno, call } => write!(formatter, "{errno} from {call}"),
            Self::Hang { after_ms } => write!(formatter, "hang (no answer in {after_ms} ms)"),
            Self::Skipped { reason } => write!(formatter, "skipped ({reason})"),
        }
    }
}

/// How an actor looks.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Opens the marker and reads it.
    #[default]
    Read,
    /// Lists the directory: the marker must be among the names.
    List,
    /// stat(2) of the directory: what a health check by exit code alone sees.
    Stat,
    /// statfs(2) of the directory, as `df` does.
    Statfs,
    /// Makes a file, writes into it and removes it; `lower` when it landed beneath the mount.
    Write,
    /// Reads through a descriptor that was opened when the actor could first read.
    Held,
}

impl Access {
    /// All accesses.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::List, Self::Stat, Self::Statfs, Self::Write, Self::Held];

    /// Whether it is the default access, reading.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
    fn is_read(&self) -> bool {
        *self == Self::Read
    }

    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::List => "list",
            Self::Stat => "stat",
            Self::Statfs => "df",
            Self::Write => "write",
            Self::Held => "held",
        }
    }
}

/// How an observation came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// The runner asked for it.
    Probe,
    /// The consumer program noticed it by itself.
    Watch,
}

/// The part of a mountinfo line that identifies the mount under an observed path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MountView {
    /// Device number of the superblock. While a dead one is still referenced a new connection has
    /// another number; afterwards the number may be reused.
    pub device: DeviceId,
    /// The root of the mount inside that superblock.
    pub root: MountPath,
    /// Where it is mounted, in the actor's own namespace.
    pub mount_point: MountPath,
    /// Filesystem type, such as `fuse.propagation`.
    pub fs_type: String,
    /// Peer group, when the mount is shared. Compare within one capture only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<u64>,
    /// Master peer group, when the mount is a slave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<u64>,
}

impl MountView {
    /// As [`MountEntry::is_fuse`].
    pub fn is_fuse(&self) -> bool {
        is_fuse(&self.fs_type)
    }

    /// As [`MountEntry::is_served`].
    pub fn is_served(&self) -> bool {
        is_served(&self.fs_type)
    }
}

impl From<&MountEntry> for MountView {
    fn from(entry: &MountEntry) -> Self {
        Self {
            device: entry.device,
            root: entry.root.clone(),
            mount_point: entry.mount_point.clone(),
            fs_type: entry.fs_type.clone(),
            shared: entry.shared,
            master: entry.master,
        }
    }
}

impl fmt::Display for MountView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {} {}", self.device, self.root, self.mount_point, self.fs_type)?;
        if let Some(group) = self.shared {
            write!(formatter, " shared:{group}")?;
        }
        if let Some(group) = self.master {
            write!(formatter, " master:{group}")?;
        }
        Ok(())
    }
}

/// What one actor saw at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Observation {
    /// The actor that looked.
    pub actor: Actor,
    /// The phase or step in which it was made.
    pub step: String,
    /// When the access ended, in microseconds since the start of the run.
    pub at_us: u64,
    /// How long the access took, in microseconds.
    pub took_us: u64,
    /// The user that it looked as, in the actor's user namespace.
    pub uid: u32,
    /// Whether the runner asked or the workload noticed by itself.
    pub via: Via,
    /// How it looked.
    #[serde(default, skip_serializing_if = "Access::is_read")]
    pub access: Access,
    /// The outcome.
    pub outcome: Outcome,
    /// The generation it read, where it read a marker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The mount under the observed path, from the actor's own mountinfo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<MountView>,
}

impl Observation {
    /// The class of its outcome, in which the marker of an earlier generation is `old`.
    pub fn class(&self) -> Class {
        match &self.outcome {
            Outcome::WrongContent { .. } if self.generation.is_some() => Class::Old,
            outcome => outcome.class(),
        }
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} as uid {}", self.actor, self.uid)?;
        if self.access != Access::Read {
            write!(formatter, " ({})", self.access.as_str())?;
        }
        write!(formatter, ": {}", self.outcome)?;
        if let Some(mount) = &self.mount {
            write!(formatter, "; {mount}")?;
        }
        Ok(())
    }
}
