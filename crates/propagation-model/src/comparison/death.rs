//! What the death of a transport's server does to who uses it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What was seen while a server was killed and came back. Times are milliseconds since the kill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Death {
    /// What was killed.
    pub killed: String,
    /// When it was started again.
    pub restarted_ms: f64,
    /// When it served again; none when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_ms: Option<f64>,
    /// What files gave that are opened anew each time.
    pub fresh: Vec<Span>,
    /// What a file gave that was opened before the kill.
    pub held: Vec<Span>,
    /// When the first access failed, and its errno; none when none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_error: Option<(f64, String)>,
    /// The longest single access, in milliseconds.
    pub longest_ms: f64,
    /// How many accesses failed, of those that open anew.
    pub failed: u64,
    /// Whether an access had not ended at the end.
    pub hangs: bool,
    /// When files could be opened and read again for good; none when never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healed_ms: Option<f64>,
    /// When the file that was open before could be read again; none when never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_healed_ms: Option<f64>,
    /// What healed it.
    pub healing: Healing,
}

/// What heals the consumers of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Healing {
    /// Its client has connected to the server again; the mount is the one of before.
    Reconnect,
    /// The server has mounted anew, and the mount has propagated into the consumer.
    NewMount,
    /// Nothing, as long as it was watched.
    Nothing,
}

/// A time in which accesses gave the same.
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
