//! Effects of the death of a transport's server on its consumers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Observations while a server was killed and came back. Times are milliseconds since the kill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Death {
    /// The process that was killed.
    pub killed: String,
    /// When the server was started again.
    pub restarted_ms: f64,
    /// When it served again; none when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_ms: Option<f64>,
    /// Outcomes of opening a file anew each time.
    pub fresh: Vec<Span>,
    /// Outcomes of a file that was opened before the kill.
    pub held: Vec<Span>,
    /// When the first access failed, and its errno; none when none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_error: Option<(f64, String)>,
    /// The longest single access, in milliseconds.
    pub longest_ms: f64,
    /// Number of failed accesses, of those that open anew.
    pub failed: u64,
    /// Whether an access had not ended at the end.
    pub hangs: bool,
    /// When files could be opened and read again without further failures; none when never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healed_ms: Option<f64>,
    /// When the file that was open before could be read again; none when never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_healed_ms: Option<f64>,
    /// What brought the transport back.
    pub healing: Healing,
}

/// What brings the consumers of a transport back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Healing {
    /// The client reconnects to the server; the mount is the same.
    Reconnect,
    /// The server mounts anew, and the mount propagates into the consumer.
    NewMount,
    /// Nothing, within the observed time.
    Nothing,
}

/// A period in which accesses had the same outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Span {
    /// When it began, in milliseconds since the kill; negative before.
    pub from_ms: f64,
    /// When it ended.
    pub until_ms: f64,
    /// What they gave.
    pub gave: Gave,
    /// How many accesses.
    pub operations: u64,
}

/// What an access gave; in JSON `ok`, `slow`, `hang`, or the name of an errno.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Gave {
    /// What was asked for.
    Ok,
    /// What was asked for, after more than 100 ms.
    Slow,
    /// An error, by the name of its errno.
    Errno(String),
    /// Nothing yet.
    Hang,
}

impl From<String> for Gave {
    fn from(word: String) -> Self {
        match word.as_str() {
            "ok" => Self::Ok,
            "slow" => Self::Slow,
            "hang" => Self::Hang,
            _ => Self::Errno(word),
        }
    }
}

impl From<Gave> for String {
    fn from(gave: Gave) -> Self {
        match gave {
            Gave::Errno(name) => name,
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Gave {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Ok => "ok",
            Self::Slow => "slow",
            Self::Hang => "hang",
            Self::Errno(name) => name,
        })
    }
}
