//! What must be seen after a step.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::words::SIGNALS;
use crate::errno::Errno;

/// What must be seen by one actor: `ok`, `[ok, ENOTCONN]` or a map with more than the outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[schemars(with = "Written")]
pub struct Expected {
    /// Any of these outcomes; empty when the outcome does not matter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outcome: Vec<String>,
    /// How many mounts are stacked at the FUSE path of the actor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<u64>,
    /// How many mounts the actor's namespace has gained since the previous capture; negative when it
    /// has lost some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts_added: Option<i64>,
    /// How many mounts the actor's namespace has gained since it was captured first: for the node, since
    /// before the first step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts_grown: Option<i64>,
    /// How many FUSE mounts are in the actor's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuse_mounts: Option<u64>,
    /// How many mounts are stacked at other paths of the actor's namespace.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mounts_at: BTreeMap<String, u64>,
    /// Propagation of the mount that the actor sees at the FUSE path: one of [`PROPAGATION_WORDS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation: Option<String>,
    /// The directory of its filesystem that the mount at the FUSE path shows, as mountinfo has it: which
    /// part the actor has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Whether that mount is the one the node sees (`same`), by device number, or not (`other`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// A part of the words: the runtime's refusal, what a producer says when it cannot mount, what a
    /// program that `run` ran printed, a line of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The errno behind a refusal of the runtime or the kubelet, or behind a mount that failed, apart from
    /// its words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// Exit code of the program that `run` ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// How many operations of the readers and writers have failed at the most since the previous
    /// step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_at_most: Option<u64>,
}

/// Whether two actors see the same superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The node's.
    Same,
    /// Another one.
    Other,
}

/// The map form, and the shape of the schema.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Detail {
    #[serde(default)]
    outcome: Option<Outcomes>,
    layers: Option<u64>,
    mounts_added: Option<i64>,
    mounts_grown: Option<i64>,
    fuse_mounts: Option<u64>,
    #[serde(default)]
    mounts_at: BTreeMap<String, u64>,
    propagation: Option<String>,
    root: Option<String>,
    device: Option<Device>,
    text: Option<String>,
    errno: Option<String>,
    exit: Option<i32>,
    failed_at_most: Option<u64>,
}

/// One outcome or several.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
enum Outcomes {
    /// One.
    One(String),
    /// Any of them.
    Any(Vec<String>),
}

/// How an expectation is written; for the schema only.
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, clippy::large_enum_variant, reason = "gives the schema its shape")]
enum Written {
    /// One outcome: `ok`, `absent`, `empty`, `old`, `wrong_content`, `lower`, `hang`, `error`,
    /// `create_error`, `mount_error`, an errno such as `ENOTCONN`.
    One(String),
    /// Any of these outcomes.
    Any(Vec<String>),
    /// The outcome and more.
    Detail {
        /// One outcome or several.
        outcome: Option<Outcomes>,
        /// Mounts stacked at the FUSE path of the actor.
        layers: Option<u64>,
        /// Mounts that the actor's namespace has gained since the previous capture.
        mounts_added: Option<i64>,
        /// Mounts that the actor's namespace has gained since it was captured first.
        mounts_grown: Option<i64>,
        /// FUSE mounts in the actor's namespace.
        fuse_mounts: Option<u64>,
        /// Mounts stacked at other paths of the actor's namespace.
        #[schemars(default)]
        mounts_at: BTreeMap<String, u64>,
        /// Propagation of the mount at the FUSE path.
        propagation: Option<String>,
        /// The directory of its filesystem that this mount shows.
        root: Option<String>,
        /// Whether that mount is the node's.
        device: Option<Device>,
        /// A part of the words.
        text: Option<String>,
        /// The errno behind a refusal or a failed mount.
        errno: Option<String>,
        /// Exit code of the program that `run` ran.
        exit: Option<i32>,
        /// Operations of the readers and writers that have failed, at the most.
        failed_at_most: Option<u64>,
    },
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ExpectedVisitor)
    }
}

struct ExpectedVisitor;

impl<'de> Visitor<'de> for ExpectedVisitor {
    type Value = Expected;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an outcome such as ok, a list of outcomes, or a map")
    }

    fn visit_str<E: de::Error>(self, outcome: &str) -> Result<Expected, E> {
        Ok(Expected { outcome: vec![outcome.to_owned()], ..Expected::default() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Expected, A::Error> {
        let mut outcome = Vec::new();
        while let Some(item) = items.next_element()? {
            outcome.push(item);
        }
        Ok(Expected { outcome, ..Expected::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Expected, A::Error> {
        let detail = Detail::deserialize(de::value::MapAccessDeserializer::new(map))?;
        let outcome = match detail.outcome {
            None => Vec::new(),
            Some(Outcomes::One(outcome)) => vec![outcome],
            Some(Outcomes::Any(outcomes)) => outcomes,
        };
        Ok(Expected {
            outcome,
            layers: detail.layers,
            mounts_added: detail.mounts_added,
            mounts_grown: detail.mounts_grown,
            fuse_mounts: detail.fuse_mounts,
            mounts_at: detail.mounts_at,
            propagation: detail.propagation,
            root: detail.root,
            device: detail.device,
            text: detail.text,
            errno: detail.errno,
            exit: detail.exit,
            failed_at_most: detail.failed_at_most,
        })
    }
}

/// What of an actor an expectation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aspect {
    /// Opening and reading the marker.
    Read,
    /// Listing the directory.
    List,
    /// Asking for the attributes of the directory.
    Stat,
    /// Asking for the free space, as `df` does.
    Statfs,
    /// Making a file and writing into it.
    Write,
    /// Reading through a descriptor that was opened when the actor first read the marker.
    Held,
    /// What its readers and writers met.
    Load,
    /// The state of its program: `running`, `exited`, a signal.
    Program,
    /// Its log.
    Log,
}

impl Aspect {
    /// All, with the words they are written by.
    pub const NAMES: [(&'static str, Self); 9] = [
        ("read", Self::Read),
        ("list", Self::List),
        ("stat", Self::Stat),
        ("df", Self::Statfs),
        ("write", Self::Write),
        ("held", Self::Held),
        ("load", Self::Load),
        ("program", Self::Program),
        ("log", Self::Log),
    ];
}

/// The subject of an expectation, as the key of the map says it: `ACTOR`, `ACTOR.ASPECT` or
/// `ACTOR@UID.ASPECT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// A workload, `node`, `runtime`, or `run` for the program that the step ran.
    pub actor: String,
    /// As which user; none for the one that [`Plan::uid_of`](super::Plan::uid_of) gives.
    pub uid: Option<u32>,
    /// What of it.
    pub aspect: Aspect,
}

impl Subject {
    /// Reads a key.
    ///
    /// ```
    /// use propagation_model::plan::{Aspect, Subject};
    ///
    /// let subject = Subject::parse("early@1000.list").unwrap();
    /// assert_eq!((subject.actor.as_str(), subject.uid), ("early", Some(1000)));
    /// assert_eq!(subject.aspect, Aspect::List);
    /// assert!(Subject::parse("early.lst").unwrap_err().contains("list"));
    /// ```
    ///
    /// # Errors
    /// In words, when the aspect or the user is none.
    pub fn parse(key: &str) -> Result<Self, String> {
        let (who, aspect) = match key.split_once('.') {
            None => (key, Aspect::Read),
            Some((who, word)) => {
                let known = Aspect::NAMES.iter().find(|(name, _)| *name == word);
                let (_, aspect) = known.ok_or_else(|| {
                    let names: Vec<&str> = Aspect::NAMES.iter().map(|(name, _)| *name).collect();
                    format!("unknown aspect {word:?}; use one of {}", names.join(", "))
                })?;
                (who, *aspect)
            }
        };
        let (actor, uid) = match who.split_once('@') {
            None => (who, None),
            Some((actor, uid)) => {
                let words = |_| format!("{uid:?} is not a UID; write a number after @");
                (actor, Some(uid.parse().map_err(words)?))
            }
        };
        Ok(Self { actor: actor.to_owned(), uid, aspect })
    }
}

/// Outcomes that are words and not errnos.
pub const OUTCOME_WORDS: [&str; 15] = [
    "ok",
    "not_ok",
    "absent",
    "empty",
    "old",
    "wrong_content",
    "lower",
    "hang",
    "error",
    "create_error",
    "mount_error",
    "skipped",
    "running",
    "exited",
    "stopped",
];

/// What the propagation of a mount can be expected to be.
pub const PROPAGATION_WORDS: [&str; 5] =
    ["private", "shared", "slave", "shared,slave", "unbindable"];

/// Whether a word can be an outcome: one of [`OUTCOME_WORDS`], an errno or a signal.
pub fn is_outcome(word: &str) -> bool {
    OUTCOME_WORDS.contains(&word)
        || word.parse::<Errno>().is_ok_and(|errno| errno != Errno::NONE)
        || SIGNALS.contains(&word)
}
