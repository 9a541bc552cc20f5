//! What single changes would do: each tried on a fresh simulated node, with the plan of the run.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cause::FixKind;
use crate::observation::Actor;
use crate::plan::Repair;

/// What is changed. The first half is the set-up, for good; the second is done once, to bring the mount
/// back now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The volume gets HostToContainer.
    HostToContainer,
    /// The volume is the bridge, with HostToContainer.
    VolumeBridge,
    /// The volume is the directory above the bridge, with HostToContainer.
    VolumeAncestor,
    /// The volume is bound as a whole, without a subPath.
    NoSubPath,
    /// The workload starts before the mount.
    StartBeforeMount,
    /// The workload starts after the mount.
    StartAfterMount,
    /// The producer's volume gets Bidirectional, and its container is privileged.
    Bidirectional,
    /// The container is privileged.
    Privileged,
    /// The program runs as root.
    Root,
    /// The container has no user namespace of its own.
    NoUserNamespace,
    /// The mount lets all users in.
    AllowOther,
    /// fuse.conf has `user_allow_other`.
    UserAllowOther,
    /// The producer mounts on top of a dead mount.
    StackOnStale,
    /// The producer takes a dead mount off before it mounts.
    UnmountStale,
    /// A daemon that does not answer is ended.
    EndHungDaemon,
    /// The mount that covers the bridge is shared.
    CoveringShared,
    /// The container runtime lives in the node's mount namespace.
    RuntimeOnNode,
    /// fusermount3 is installed.
    HostTools,
    /// The filesystem that holds the bridge is writable.
    WritableNode,
    /// The bridge is a directory.
    DirectoryAtBridge,
    /// A repair is done.
    Repair(Repair),
    /// Containers are restarted in place.
    Restart,
    /// Pods are deleted and made again.
    Recreate,
    /// Workloads that were refused are started again.
    StartAgain,
    /// The stopped daemon is continued.
    Continue,
    /// The connection of the mount is aborted.
    Abort,
}

/// One single change, and whom it touches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Change {
    /// What is changed.
    pub what: What,
    /// The workloads that it touches; empty for the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
}

/// What a change costs, the cheapest first.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// Nothing but time.
    None,
    /// A command; nobody is restarted.
    Command,
    /// Containers are restarted.
    Restart,
    /// Pods are made again.
    Recreate,
    /// A manifest is changed, and its pods are made again.
    Manifest,
    /// The node is configured otherwise.
    Node,
    /// A container gets more rights on its node.
    Privilege,
}

impl Cost {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Command => "a command",
            Self::Restart => "restarts",
            Self::Recreate => "new pods",
            Self::Manifest => "a manifest, and new pods",
            Self::Node => "the node's configuration",
            Self::Privilege => "more rights on the node",
        }
    }
}

/// A change that was tried, or that could not be tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Experiment {
    /// The change.
    pub change: Change,
    /// The change in words, as an order.
    pub words: String,
    /// What [`text`](Self::text) is.
    pub kind: FixKind,
    /// A command, or a fragment of a manifest; empty where the words are all there is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// What it costs.
    pub cost: Cost,
    /// Whether it is a change of the set-up, which stays; otherwise it is done once.
    pub for_good: bool,
    /// What came of it.
    pub trial: Trial,
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Trial {
    /// It was tried.
    Tried(Tried),
    /// It was not.
    NotTried {
        /// Why not.
        reason: String,
    },
}

/// How the plan of the run came out with a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tried {
    /// Whether everybody who was wrong is right in the end, and nobody is worse. Of the five phases a
    /// change for good heals only when the answer is `full_success`.
    pub heals: bool,
    /// Who was wrong without it and is right with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub healed: Vec<Actor>,
    /// Who is still wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_healed: Vec<Actor>,
    /// How long it took until the last of those who are healed read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// Who was right without it and is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worse: Vec<Actor>,
    /// What else is different from the run without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub side_effects: Vec<SideEffect>,
    /// How long the experiment took.
    pub took_ms: f64,
}

/// A time with its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct After {
    /// Since when.
    pub since: Since,
    /// How long.
    pub ms: f64,
}

/// The beginning of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// The mount that the producer made last.
    Remount,
    /// What was done last: the change itself, where it is done once.
    Act,
}

/// A difference that a change makes beside healing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SideEffect {
    /// More, or fewer, mounts are stacked at the FUSE path.
    Layers {
        /// Whose.
        actor: Actor,
        /// Without the change.
        without: u64,
        /// With it.
        with: u64,
    },
    /// More mounts are in a namespace.
    Mounts {
        /// Whose.
        actor: Actor,
        /// Without the change.
        without: u64,
        /// With it.
        with: u64,
    },
    /// A write landed beneath the mountpoint.
    LowerWrite {
        /// Whose.
        actor: Actor,
    },
}

impl fmt::Display for SideEffect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layers { actor, without, with } => {
                write!(formatter, "{actor}: {with} layers at the mountpoint instead of {without}")
            }
            Self::Mounts { actor, without, with } => {
                write!(formatter, "{actor}: {with} mounts instead of {without}")
            }
            Self::LowerWrite { actor } => {
                write!(formatter, "{actor}: a write landed beneath the mountpoint")
            }
        }
    }
}

impl Experiment {
    /// What came of it, where it was tried.
    pub fn tried(&self) -> Option<&Tried> {
        match &self.trial {
            Trial::Tried(tried) => Some(tried),
            Trial::NotTried { .. } => None,
        }
    }

    /// Whether it was tried and heals.
    pub fn heals(&self) -> bool {
        self.tried().is_some_and(|tried| tried.heals)
    }

    /// What came of it, in words: `all consumers read again 1.2 ms after the remount`.
    pub fn outcome(&self) -> String {
        let tried = match &self.trial {
            Trial::Tried(tried) => tried,
            Trial::NotTried { reason } => return format!("not tried: {reason}"),
        };
        let names = |actors: &[Actor]| {
            const SHOWN: usize = 4;
            let mut names: Vec<String> = actors.iter().take(SHOWN).map(Actor::to_string).collect();
            if actors.len() > SHOWN {
                names.push(format!("{} more", actors.len() - SHOWN));
            }
            names.join(", ")
        };
        let after = tried.after.map_or_else(String::new, |After { since, ms }| match since {
            Since::Remount => format!(" {ms:.1} ms after the remount"),
            Since::Act => format!(" {ms:.1} ms after it began"),
        });
        let mut words = if tried.heals {
            format!("tried, all consumers read again{after}")
        } else if tried.healed.is_empty() {
            "tried, it heals nobody".to_owned()
        } else if tried.not_healed.is_empty() {
            format!("tried, {} can read{after}, and that is not all", names(&tried.healed))
        } else {
            let (healed, rest) = (names(&tried.healed), names(&tried.not_healed));
            format!("tried, {healed} can read again{after}, and {rest} cannot")
        };
        if !tried.worse.is_empty() {
            words.push_str(&format!("; worse: {}", names(&tried.worse)));
        }
        words
    }
}

/// What is to be done, by the experiments: the cheapest that heals first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Advice {
    /// One change and what it does, in a sentence.
    pub head: String,
    /// To bring the mount back this minute; it may break again in the same way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub now: Vec<Change>,
    /// Changes of the set-up with which it does not happen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub for_good: Vec<Change>,
    /// How many changes were tried.
    pub tried: u64,
    /// How many could not be tried.
    pub not_tried: u64,
    /// How long all experiments took.
    pub took_ms: f64,
}
