//! A check: what was expected, what was observed, and what kind of finding it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Status;

/// Defines the ids of checks: their names in reports, and whether they name a subject after a colon.
macro_rules! check_ids {
    ($( $(#[$doc:meta])* $name:ident $(($subject:ident))? = $word:literal, )*) => {
        /// Subject of a check. Its name in reports is stable; the actor, usually a workload, follows after a colon:
        /// `reads:consumer-early`.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum CheckId {
            $( $(#[$doc])* $name $((check_ids!(@subject $subject)))?, )*
            /// A check of a custom phase.
            Custom(String),
        }

        impl fmt::Display for CheckId {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $( check_ids!(@pattern $name $($subject)?) => {
                        check_ids!(@write formatter $word $($subject)?)
                    } )*
                    Self::Custom(name) => formatter.write_str(name),
                }
            }
        }

        impl FromStr for CheckId {
            type Err = std::convert::Infallible;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let (word, _subject) = match text.split_once(':') {
                    Some((word, subject)) => (word, Some(subject)),
                    None => (text, None),
                };
                $( check_ids!(@parse word _subject $word $name $($subject)?); )*
                Ok(Self::Custom(text.to_owned()))
            }
        }
    };
    (@subject $subject:ident) => { String };
    (@pattern $name:ident $subject:ident) => { Self::$name($subject) };
    (@pattern $name:ident) => { Self::$name };
    (@write $formatter:ident $word:literal $subject:ident) => {
        write!($formatter, "{}:{}", $word, $subject)
    };
    (@write $formatter:ident $word:literal) => { $formatter.write_str($word) };
    (@parse $found:ident $rest:ident $word:literal $name:ident $subject:ident) => {
        if let (true, Some(subject)) = ($found == $word, $rest) {
            return Ok(Self::$name(subject.to_owned()));
        }
    };
    (@parse $found:ident $rest:ident $word:literal $name:ident) => {
        if $found == $word && $rest.is_none() {
            return Ok(Self::$name);
        }
    };
}

check_ids! {
    /// `/dev/fuse` can be used.
    FuseDevice = "fuse_device",
    /// fusermount3 is there for a producer that needs it.
    Fusermount = "fusermount",
    /// fuse.conf lets a producer that is not root use allow_other.
    UserAllowOther = "user_allow_other",
    /// The mount that covers the bridge is shared.
    CoveringMount = "covering_mount",
    /// The bridge is a directory, or could be made.
    Bridge = "bridge",
    /// The kernel is known.
    Kernel = "kernel",
    /// The runtime starts a container.
    Started(workload) = "started",
    /// The producer mounts and answers.
    Mounted = "mounted",
    /// A plain file of the producer shows on the node.
    Sharing = "sharing",
    /// The FUSE mount shows on the node and reads back the nonce.
    Propagation = "propagation",
    /// Another user can read it on the node, or is kept out without allow_other.
    AllowOther = "allow_other",
    /// A consumer's own program finds the marker.
    FindsMarker(workload) = "finds_marker",
    /// A consumer reads the nonce.
    Reads(workload) = "reads",
    /// A consumer reads it as other users too.
    ReadsAsOther(workload) = "reads_as_other",
    /// A control does not see the mount.
    Control(workload) = "control",
    /// Consumers' mounts are slaves of the node's peer group.
    SlaveOfHost = "slave_of_host",
    /// A fault was done.
    Fault = "fault",
    /// Consumers' own programs notice the breakage.
    Noticed = "noticed",
    /// Every actor that could read cannot any more.
    BreakageSeen = "breakage_seen",
    /// No access hangs.
    NoHang = "no_hang",
    /// Consumers' processes survive.
    ConsumersAlive = "consumers_alive",
    /// A consumer can be started while the mount is dead.
    NewConsumerStarts = "new_consumer_starts",
    /// The producer's container starts again.
    ProducerRestarts = "producer_restarts",
    /// The node reads the new generation.
    NodeFresh = "node_fresh",
    /// Consumers recover with no intervention.
    RecoversByItself = "recovers_by_itself",
    /// Outcomes of descriptors that were opened before the fault.
    HeldDescriptors = "held_descriptors",
    /// A repair was done.
    Repair = "repair",
    /// Containers that failed their liveness probe were restarted.
    Restarted = "restarted",
    /// A program was run.
    Run = "run",
    /// A step was done that has no other check.
    Step = "step",
    /// A step could be done.
    Done = "done",
    /// A workload starts, and mounts if it is a producer.
    DoneBy(workload) = "done",
    /// A step can be done on this node.
    Possible = "possible",
    /// An expectation of a scenario, by its key.
    Expect(key) = "expect",
}

impl CheckId {
    /// Whether it can be met or unmet; other checks only say what was done.
    pub fn is_expectation(&self) -> bool {
        !matches!(
            self,
            Self::Fault
                | Self::Repair
                | Self::Restarted
                | Self::Run
                | Self::Step
                | Self::HeldDescriptors
        )
    }
}

impl From<&str> for CheckId {
    fn from(text: &str) -> Self {
        match text.parse() {
            Ok(id) => id,
        }
    }
}

impl Serialize for CheckId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CheckId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.as_str()))
    }
}

impl schemars::JsonSchema for CheckId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CheckId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "What a check is about, with its subject after a colon.",
        })
    }
}

/// An expectation and its result. The reason is in [`Report::diagnosis`](super::Report::diagnosis).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct Check {
    /// Its subject; unique within its phase.
    pub id: CheckId,
    /// How it came out.
    pub status: Status,
    /// What was expected, in words.
    pub expected: String,
    /// What was observed, in words.
    pub observed: String,
    /// Evidence: mountinfo lines, errnos, log lines, latencies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// The finding of a custom phase about a failed check; the diagnosis takes it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
}

/// Why a check of a custom phase failed, which the rules of the diagnosis cannot know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Finding {
    /// The problem, in one line.
    pub cause: String,
    /// The fix.
    pub fix: String,
}

impl Check {
    /// A check that came out as expected when `ok`.
    pub fn new(
        id: impl Into<CheckId>,
        ok: bool,
        expected: impl Into<String>,
        observed: impl Into<String>,
    ) -> Self {
        Self {
            id: id.into(),
            status: if ok { Status::Passed } else { Status::Failed },
            expected: expected.into(),
            observed: observed.into(),
            evidence: Vec::new(),
            finding: None,
        }
    }

    /// A check that could not be done, because of `reason`.
    pub fn skipped(
        id: impl Into<CheckId>,
        expected: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self { status: Status::Skipped, ..Self::new(id, true, expected, reason) }
    }

    /// The same check under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<CheckId>) -> Self {
        self.id = id.into();
        self
    }

    /// Adds evidence.
    #[must_use]
    pub fn with_evidence(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    /// Adds the finding of a custom phase about a failed check; ignored when the check did not fail.
    #[must_use]
    pub fn with_finding(mut self, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        if self.status == Status::Failed {
            self.finding = Some(Finding { cause: cause.into(), fix: fix.into() });
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_as_they_are_written() {
        let ids = [
            (CheckId::FuseDevice, "fuse_device"),
            (CheckId::Reads("consumer-early".into()), "reads:consumer-early"),
            (CheckId::Done, "done"),
            (CheckId::DoneBy("app".into()), "done:app"),
            (CheckId::Expect("app@1000.list".into()), "expect:app@1000.list"),
            (CheckId::Custom("done_well".into()), "done_well"),
        ];
        for (id, text) in ids {
            assert_eq!(id.to_string(), text);
            assert_eq!(CheckId::from(text), id);
        }
    }

    #[test]
    fn what_was_done_is_no_expectation() {
        assert!(CheckId::Expect("app".into()).is_expectation());
        assert!(CheckId::Mounted.is_expectation());
        assert!(!CheckId::Fault.is_expectation());
    }
}
