//! Causes: the findings of a diagnosis, with their evidence and fixes.

mod id;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::mountinfo::MountRef;
use crate::observation::Actor;

pub use id::CauseId;

/// How sure a cause is.
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
pub enum Confidence {
    /// Experiments prove it: with it removed, the actors that it concerns are right; added to a set-up that works, it
    /// makes them wrong in the same way.
    Proven,
    /// What was seen fits, and other causes that would fit are rare.
    Likely,
    /// What was seen fits this and other causes, or removing it changed nothing in an experiment.
    Possible,
}

impl Confidence {
    /// The word used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Likely => "likely",
            Self::Possible => "possible",
        }
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Kind of [`Fix::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FixKind {
    /// A command for a shell on the node, unless the words name another place.
    Command,
    /// A fragment of a Kubernetes manifest.
    Yaml,
    /// No text: the words say everything.
    None,
}

/// The smallest change that removes a cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Fix {
    /// What to do, and where.
    pub words: String,
    /// What `text` is.
    pub kind: FixKind,
    /// The command or the fragment, ready to be copied; empty for [`FixKind::None`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The workload to run the command in; none for the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
}

impl Fix {
    /// A fix that is not a single command.
    pub fn words(words: impl Into<String>) -> Self {
        Self { words: words.into(), kind: FixKind::None, text: String::new(), inside: None }
    }

    /// A command to run on the node.
    pub fn command(words: impl Into<String>, text: impl Into<String>) -> Self {
        Self { words: words.into(), kind: FixKind::Command, text: text.into(), inside: None }
    }

    /// A command to run in the container of a workload.
    #[must_use]
    pub fn inside(self, workload: impl Into<String>) -> Self {
        Self { inside: Some(workload.into()), ..self }
    }

    /// A change of a manifest.
    pub fn yaml(words: impl Into<String>, text: impl Into<String>) -> Self {
        Self { words: words.into(), kind: FixKind::Yaml, text: text.into(), inside: None }
    }
}

/// A cause of what a run showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Cause {
    /// Its id.
    pub id: CauseId,
    /// What is wrong, in one line.
    pub title: String,
    /// How sure it is.
    pub confidence: Confidence,
    /// The actors that it concerns; for a cause that lasts, only those that are wrong in the end. Of many replicas
    /// the first few; the title says how many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<Actor>,
    /// The phase or step after which an actor was wrong because of it for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_step: Option<String>,
    /// The phase or step after which no actor was wrong any more; none when it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_step: Option<String>,
    /// The mounts at which it happens: where a link of the mount graph is broken or missing. The
    /// namespaces have the names of the actors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountRef>,
    /// Evidence: mountinfo lines, errnos, device numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// The smallest change that removes it.
    pub fix: Fix,
    /// A command that shows whether the fix has worked.
    pub verify: String,
    /// Source of the explanation: a man page, kernel documentation, an address.
    pub source: String,
}

impl Cause {
    /// Whether no actor was wrong because of it in the end.
    pub fn is_over(&self) -> bool {
        self.until_step.is_some()
    }

    /// Its period in words: `since 2-fault`, `from 2-fault to 3-repair`; empty where no step shows it.
    pub fn when(&self) -> Option<String> {
        match (&self.from_step, &self.until_step) {
            (Some(from), Some(until)) if from == until => Some(format!("over, in {from}")),
            (Some(from), Some(until)) => Some(format!("over, from {from} to {until}")),
            (Some(from), None) => Some(format!("since {from}")),
            (None, Some(until)) => Some(format!("over, until {until}")),
            (None, None) => None,
        }
    }

    /// Its confidence and period: `likely, since 2-fault`.
    pub fn standing(&self) -> String {
        match self.when() {
            Some(when) => format!("{}, {when}", self.confidence),
            None => self.confidence.to_string(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} ({})", self.id, self.title, self.standing())
    }
}
