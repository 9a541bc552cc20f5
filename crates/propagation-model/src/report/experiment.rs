//! Experiments: the effects of single changes, each tried on a fresh simulated node with the plan of the run.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cause::FixKind;
use crate::observation::Actor;
use crate::plan::Repair;

/// Kind of change. The first half changes the set-up, for good; the second is done once, to bring the mount back
/// now.
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
    /// The volume is bound writable.
    WritableVolume,
    /// The filesystem is mounted writable.
    WritableMount,
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
    /// The container shares the user namespace of the node.
    NoUserNamespace,
    /// The mount admits all users.
    AllowOther,
    /// fuse.conf has `user_allow_other`.
    UserAllowOther,
    /// The producer mounts on top of a dead mount.
    StackOnStale,
    /// The producer unmounts a dead mount before it mounts.
    UnmountStale,
    /// The producer has a liveness probe, which ends a daemon that does not answer.
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
    /// Pods are deleted and recreated.
    Recreate,
    /// Workloads that were refused are started again.
    StartAgain,
    /// The stopped daemon is continued.
    Continue,
    /// The connection of the mount is aborted.
    Abort,
}

/// A single change, and the workloads that it affects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Change {
    /// Kind of change.
    pub what: What,
    /// The affected workloads; empty for the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
}

/// Cost of a change, the cheapest first.
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
    /// A command; no container is restarted.
    Command,
    /// Containers are restarted.
    Restart,
    /// Pods are recreated.
    Recreate,
    /// A manifest is changed, and its pods are recreated.
    Manifest,
    /// The configuration of the node is changed.
    Node,
    /// A container gets more privileges on its node.
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

/// A change, and what came of trying it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct Experiment {
    /// The change.
    pub change: Change,
    /// The change in words, as an order.
    pub words: String,
    /// Kind of [`text`](Self::text).
    pub kind: FixKind,
    /// A command, or a fragment of a manifest; empty where the words say everything.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Its cost.
    pub cost: Cost,
    /// Whether it is a change of the set-up, which stays; otherwise it is done once.
    pub for_good: bool,
    /// The result.
    pub trial: Trial,
}

/// Result of a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Trial {
    /// It was tried.
    Tried(Tried),
    /// It was not tried.
    NotTried {
        /// The reason.
        reason: String,
    },
}

/// Result of the run's plan with a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tried {
    /// Whether every actor that was wrong is right in the end, none is worse, and everything is done that was done
    /// without the change. In the five phases, a change for good heals only when the answer is `full_success`.
    pub heals: bool,
    /// What shows who was wrong.
    #[serde(default, skip_serializing_if = "JudgedBy::is_default")]
    pub judged_by: JudgedBy,
    /// Actors that were wrong without the change and are right with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub healed: Vec<Actor>,
    /// Actors that are still wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_healed: Vec<Actor>,
    /// Those of them that are wrong in another way than without the change, or for another cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub otherwise: Vec<Actor>,
    /// Time until the last healed actor read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// Actors that were right without the change and are wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worse: Vec<Actor>,
    /// What succeeds without the change and fails with it, or finds nothing to act on: whether anybody is healed is
    /// then not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fails: Vec<String>,
    /// Other differences from the run without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub side_effects: Vec<SideEffect>,
    /// The reverse experiment; none where the change names no cause of the report, or time was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<Added>,
    /// Whether it did not heal, something did not come within its deadline, and no time was left to wait longer: that
    /// it does not heal proves nothing. Only of a change that would remove a cause of the report.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub short_of_time: bool,
    /// Duration of the experiment.
    pub took_ms: f64,
}

/// What shows which actors are wrong.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum JudgedBy {
    /// Consumers that cannot read in the end.
    #[default]
    Readers,
    /// Expectations that are not met, where no consumer is wrong in the end.
    Expectations,
}

impl JudgedBy {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The reverse experiment: what a change removes is added to a set-up that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Added {
    /// The set-up that works.
    pub to: Working,
    /// Whether the actors that the change heals are wrong there in the same way.
    pub breaks: bool,
}

/// A set-up that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Working {
    /// The plan with everything else at its default.
    Defaults,
    /// The plan with the change, where the defaults do not work.
    Changed,
    /// The run itself, before its fault.
    BeforeFault,
}

impl fmt::Display for Added {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = match self.to {
            Working::Defaults => "a plain set-up that works",
            Working::Changed => "the changed set-up",
            Working::BeforeFault => "the run itself, which worked until then",
        };
        let comes = if self.breaks { "breaks it in the same way" } else { "does not break it so" };
        write!(formatter, "adding the cause to {to} {comes}")
    }
}

/// A duration with its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct After {
    /// The beginning.
    pub since: Since,
    /// The duration.
    pub ms: f64,
}

/// The beginning of a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// The last mount of the producer.
    Remount,
    /// The last act: the change itself, where it is done once.
    Act,
}

/// A side effect of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SideEffect {
    /// Another number of mounts is stacked at the FUSE path.
    Layers {
        /// The actor.
        actor: Actor,
        /// Number without the change.
        without: u64,
        /// Number with it.
        with: u64,
    },
    /// More mounts are in a namespace.
    Mounts {
        /// The actor.
        actor: Actor,
        /// Number without the change.
        without: u64,
        /// Number with it.
        with: u64,
    },
    /// A write landed beneath the mountpoint.
    LowerWrite {
        /// The actor.
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
    /// A change that is done once and that its words describe wholly. One of the set-up is
    /// [`for_good`](Self::for_good); a command or a fragment is its [`text`](Self::text).
    ///
    /// ```
    /// use propagation_model::plan::Repair;
    /// use propagation_model::report::{Change, Cost, Experiment, Trial, What};
    ///
    /// let change = Change { what: What::Repair(Repair::RestartConsumer), on: vec!["app".into()] };
    /// let trial = Trial::NotTried { reason: "the time was over".into() };
    /// let experiment = Experiment::new(change, "restart app", Cost::Restart, trial);
    /// assert!(!experiment.for_good && !experiment.heals());
    /// ```
    pub fn new(change: Change, words: impl Into<String>, cost: Cost, trial: Trial) -> Self {
        let (words, kind) = (words.into(), FixKind::None);
        Self { change, words, kind, text: String::new(), cost, for_good: false, trial }
    }

    /// The result, where the change was tried.
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

    /// The result in words: `all consumers read again 1.2 ms after the remount`.
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
        let by_expectation = tried.judged_by == JudgedBy::Expectations;
        let mut words = if !tried.fails.is_empty() {
            format!("tried, and it shows nothing: {} fails with it", tried.fails.join(", "))
        } else if tried.heals && by_expectation {
            "tried, everything is as expected".to_owned()
        } else if tried.heals {
            format!("tried, all consumers read again{after}")
        } else if by_expectation {
            "tried, not everything is as expected".to_owned()
        } else if tried.healed.is_empty() {
            match tried.otherwise.as_slice() {
                [] => "tried, it heals nobody".to_owned(),
                some => format!("tried, and something else is in the way of {}", names(some)),
            }
        } else if tried.not_healed.is_empty() {
            format!("tried, {} can read{after}, and that is not all", names(&tried.healed))
        } else {
            let (healed, rest) = (names(&tried.healed), names(&tried.not_healed));
            format!("tried, {healed} can read again{after}, and {rest} cannot")
        };
        if tried.short_of_time {
            words.push_str(", and the time was too short to tell");
        }
        if !tried.worse.is_empty() {
            words.push_str(&format!("; worse: {}", names(&tried.worse)));
        }
        words
    }
}

/// Advice of the experiments: the cheapest change that heals comes first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Advice {
    /// The first change and its effect, in a sentence.
    pub head: String,
    /// Repairs that bring the mount back now; it may break again in the same way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub now: Vec<Change>,
    /// Changes of the set-up that prevent the failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub for_good: Vec<Change>,
    /// Number of changes that were tried.
    pub tried: u64,
    /// Number of changes that could not be tried.
    pub not_tried: u64,
    /// Duration of all experiments.
    pub took_ms: f64,
}
