//! Expectations: what must be seen after a step.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::{self, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::class::Class;
use crate::errno::Errno;
use crate::kernel::Version;
use crate::mountinfo::MountPropagation;
use crate::observation::Access;

/// An expectation of one actor: `ok`, `[ok, ENOTCONN]`, or a map with more than the outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
#[schemars(transform = also_short)]
pub struct Expected {
    /// Any of these outcomes; empty when the outcome does not matter.
    #[serde(deserialize_with = "one_or_several", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "outcomes")]
    pub outcome: Vec<Class>,
    /// Number of mounts stacked at the FUSE path of the actor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<u64>,
    /// Number of mounts that the actor's namespace has gained since the previous capture; negative when it has lost
    /// some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts_added: Option<i64>,
    /// Number of mounts that the actor's namespace has gained since its first capture: for the node, since before
    /// the first step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts_grown: Option<i64>,
    /// Number of FUSE mounts in the actor's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuse_mounts: Option<u64>,
    /// Number of mounts stacked at other paths of the actor's namespace.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mounts_at: BTreeMap<String, u64>,
    /// Propagation of the mount that the actor sees at the FUSE path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation: Option<MountPropagation>,
    /// The directory of its filesystem that the mount at the FUSE path shows, as mountinfo has it: which
    /// part the actor has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Whether that mount is the one the node sees (`same`), by device number, or not (`other`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// A part of the text: the runtime's refusal, a producer's message when it cannot mount, the output of a
    /// program that `run` ran, a line of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The errno behind a refusal of the runtime or the kubelet, or behind a mount that failed, apart from
    /// its words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<Errno>,
    /// Exit code of the program that `run` ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// The first kernel that this is expected of; on an older one it is not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Version>,
    /// The most operations of the readers and writers that may have failed since the previous step.
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

/// The schema of one outcome or several.
fn outcomes(generator: &mut SchemaGenerator) -> Schema {
    let one = generator.subschema_for::<Class>();
    json_schema!({
        "description": "One outcome, or any of several.",
        "anyOf": [one, { "type": "array", "items": one }],
    })
}

/// An expectation may be its outcome alone.
fn also_short(schema: &mut Schema) {
    let mut map = std::mem::take(schema);
    let outcome = map.pointer("/properties/outcome").cloned().unwrap_or_default();
    let description = map.remove("description");
    *schema = json_schema!({ "description": description, "anyOf": [outcome, map] });
}

impl Serialize for Expected {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsWritten;

        impl<'de> Visitor<'de> for AsWritten {
            type Value = Expected;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an outcome such as ok, a list of outcomes, or a map")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Expected, E> {
                Ok(Expected { outcome: Outcomes.visit_str(word)?, ..Expected::default() })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, words: A) -> Result<Expected, A::Error> {
                Ok(Expected { outcome: Outcomes.visit_seq(words)?, ..Expected::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Expected, A::Error> {
                Expected::deserialize(de::value::MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(AsWritten)
    }
}

/// Reads one outcome or several.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Class>, D::Error> {
    deserializer.deserialize_any(Outcomes)
}

struct Outcomes;

impl<'de> Visitor<'de> for Outcomes {
    type Value = Vec<Class>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an outcome such as ok, or a list of outcomes")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Vec<Class>, E> {
        Ok(vec![Class::deserialize(word.into_deserializer())?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, words: A) -> Result<Vec<Class>, A::Error> {
        Vec::deserialize(de::value::SeqAccessDeserializer::new(words))
    }
}

impl From<Class> for Expected {
    fn from(outcome: Class) -> Self {
        Self { outcome: vec![outcome], ..Self::default() }
    }
}

/// The aspect of an actor that an expectation is about.
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
    /// All aspects, with their words.
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

    /// The access that shows it; none for aspects that no look shows.
    pub fn access(self) -> Option<Access> {
        match self {
            Self::Read => Some(Access::Read),
            Self::List => Some(Access::List),
            Self::Stat => Some(Access::Stat),
            Self::Statfs => Some(Access::Statfs),
            Self::Write => Some(Access::Write),
            Self::Held => Some(Access::Held),
            Self::Load | Self::Program | Self::Log => None,
        }
    }
}

/// The subject of an expectation, as the key of the map names it: `ACTOR`, `ACTOR.ASPECT` or
/// `ACTOR@UID.ASPECT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// A workload, `node`, `runtime`, or `run` for the program that the step ran.
    pub actor: String,
    /// UID that it looks as; none for the one that [`Plan::uid_of`](super::Plan::uid_of) gives.
    pub uid: Option<u32>,
    /// The aspect.
    pub aspect: Aspect,
}

impl Subject {
    /// The word for the step's own action.
    pub(super) const RUN: &'static str = "run";

    /// Whether it is the step's own action.
    pub fn is_run(&self) -> bool {
        self.actor == Self::RUN
    }

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
    /// In words, when the aspect or the user is unknown.
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
