//! What a diagnosis says: a cause, what shows it, what to do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::mountinfo::MountRef;
use crate::observation::Actor;

/// The id of the one cause of a run in which everything is as it should be.
pub const NOTHING_WRONG: &str = "nothing-wrong";

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
    /// The evidence allows no other explanation.
    Certain,
    /// The evidence fits, and others that would fit are rare.
    Likely,
    /// The evidence fits this and other explanations.
    Possible,
}

impl Confidence {
    /// The word used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certain => "certain",
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

/// What [`Fix::text`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FixKind {
    /// A command for a shell on the node, unless the words name another place.
    Command,
    /// A fragment of a Kubernetes manifest.
    Yaml,
    /// Nothing: the words are all there is.
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
}

impl Fix {
    /// Something to do that is no single command.
    pub fn words(words: impl Into<String>) -> Self {
        Self { words: words.into(), kind: FixKind::None, text: String::new() }
    }

    /// A command to run.
    pub fn command(words: impl Into<String>, text: impl Into<String>) -> Self {
        Self { words: words.into(), kind: FixKind::Command, text: text.into() }
    }

    /// A change of a manifest.
    pub fn yaml(words: impl Into<String>, text: impl Into<String>) -> Self {
        Self { words: words.into(), kind: FixKind::Yaml, text: text.into() }
    }
}

/// One cause of what a run showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Cause {
    /// A stable name in kebab case, such as `consumer-private`.
    pub id: String,
    /// What is wrong, in one line.
    pub title: String,
    /// How sure it is.
    pub confidence: Confidence,
    /// Whom it concerns. For many replicas the first few; the title says how many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<Actor>,
    /// The mounts at which it happens: where a link of the mount graph is broken or missing. The
    /// namespaces are called as the actors are displayed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountRef>,
    /// What shows it: mountinfo lines, errnos, device numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// The smallest change that removes it.
    pub fix: Fix,
    /// A command that shows whether the fix has worked.
    pub verify: String,
    /// Where it is written that this is so: a man page, kernel documentation, an address.
    pub source: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} ({})", self.id, self.title, self.confidence)
    }
}
