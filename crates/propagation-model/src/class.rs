//! The words for outcomes: one table for reading, writing, explaining and suggesting them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::errno::Errno;
use crate::signal::Signal;
use crate::suggest::nearest;

/// Defines the outcomes with their words.
macro_rules! classes {
    ($( $(#[doc = $doc:literal])* $name:ident = $word:literal, )*) => {
        /// The class of an outcome of an access, a program, or the start of a workload. Observations are compared
        /// by it, and scenarios expect it.
        ///
        /// ```
        /// use propagation_model::{Class, Errno};
        ///
        /// assert_eq!("ENOTCONN".parse(), Ok(Class::Errno(Errno::ENOTCONN)));
        /// assert!(Class::NotOk.describes(Class::Hang));
        /// assert_eq!(Class::WrongContent.to_string(), "wrong_content");
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Class {
            $( $(#[doc = $doc])* $name, )*
            /// A system call failed with this errno.
            Errno(Errno),
            /// A signal ended a program.
            Signal(Signal),
        }

        impl Class {
            /// All outcomes with a word, and their meanings.
            pub const WORDS: &'static [(Self, &'static str, &'static str)] =
                &[$( (Self::$name, $word, concat!($($doc),*)), )*];
        }
    };
}

classes! {
    /// The marker of this generation was read; an operation or a program succeeded.
    Ok = "ok",
    /// Anything but `ok`.
    NotOk = "not_ok",
    /// Nothing is mounted: an empty directory, and no error.
    Absent = "absent",
    /// As `absent`, or a mount with nothing in it.
    Empty = "empty",
    /// The marker of an earlier generation: silently stale.
    Old = "old",
    /// A mount with other content than the marker of this generation.
    WrongContent = "wrong_content",
    /// A write went to the filesystem under the mountpoint.
    Lower = "lower",
    /// No answer within the deadline.
    Hang = "hang",
    /// Any errno; for `run` a program that failed.
    Error = "error",
    /// The runtime refused to make the container.
    CreateError = "create_error",
    /// The producer could not mount, or its mount did not give its marker.
    MountError = "mount_error",
    /// The access could not be made here.
    Skipped = "skipped",
    /// A program runs.
    Running = "running",
    /// A program has ended, by itself or by a signal.
    Exited = "exited",
    /// Readers and writers have done nothing.
    Idle = "idle",
    /// The actor is not there to look.
    Gone = "gone",
}

impl Class {
    /// Whether an observed outcome meets this expected one.
    pub fn describes(self, seen: Self) -> bool {
        match self {
            Self::NotOk => seen != Self::Ok,
            Self::Error => matches!(seen, Self::Error | Self::Errno(_)),
            Self::Exited => matches!(seen, Self::Exited | Self::Signal(_)),
            Self::Empty => matches!(seen, Self::Empty | Self::Absent),
            Self::WrongContent => matches!(seen, Self::WrongContent | Self::Old),
            other => other == seen,
        }
    }
}

impl From<Errno> for Class {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// An unknown outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown outcome {0:?}")]
pub struct UnknownClass(pub String);

impl UnknownClass {
    /// A suggestion, or the list of outcomes.
    pub fn hint(&self) -> String {
        let (word, upper) = (self.0.as_str(), self.0.to_uppercase());
        let signal = format!("SIG{upper}");
        if let Some((_, means)) = OTHER_WORDS.iter().find(|(other, _)| *other == word) {
            return format!("use {means}");
        }
        if signal.parse::<Signal>().is_ok() {
            return format!("did you mean {signal}?");
        }
        let words = || Class::WORDS.iter().map(|(_, word, _)| *word);
        let known = || words().chain(Errno::names()).chain(Signal::names());
        match nearest(word, known()).or_else(|| nearest(&upper, known())) {
            Some(near) => format!("did you mean {near}?"),
            None => {
                let words: Vec<&str> = words().collect();
                format!("use an errno such as ENOTCONN, or {}", words.join(", "))
            }
        }
    }
}

/// Common synonyms, and the words to use instead.
const OTHER_WORDS: [(&str, &str); 8] = [
    ("dead", "ENOTCONN, the error of a mount whose daemon is gone"),
    ("stale", "ENOTCONN (its daemon is gone), ESTALE, or old (an earlier generation)"),
    ("fresh", "ok"),
    ("missing", "absent"),
    ("timeout", "hang"),
    ("hung", "hang"),
    ("denied", "EACCES or EPERM"),
    ("refused", "create_error (by the runtime) or mount_error (by the producer)"),
];

impl FromStr for Class {
    type Err = UnknownClass;

    fn from_str(word: &str) -> Result<Self, UnknownClass> {
        if let Some((class, ..)) = Self::WORDS.iter().find(|(_, known, _)| *known == word) {
            return Ok(*class);
        }
        match (word.parse::<Errno>(), word.parse::<Signal>()) {
            (Ok(errno), _) if errno != Errno::NONE => Ok(Self::Errno(errno)),
            (_, Ok(signal)) if signal.name().is_some() => Ok(Self::Signal(signal)),
            _ => Err(UnknownClass(word.to_owned())),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => errno.fmt(formatter),
            Self::Signal(signal) => signal.fmt(formatter),
            class => {
                let known = Self::WORDS.iter().find(|(known, ..)| known == class);
                formatter.pad(known.map_or("", |(_, word, _)| word))
            }
        }
    }
}

impl Serialize for Class {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|unknown: UnknownClass| {
            serde::de::Error::custom(format_args!("{unknown}; {}", unknown.hint()))
        })
    }
}

impl schemars::JsonSchema for Class {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Class".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let words = Self::WORDS.iter().map(
            |(_, word, means)| serde_json::json!({ "const": word, "description": means.trim() }),
        );
        let mut any: Vec<serde_json::Value> = words.collect();
        let named = "The name of an errno such as ENOTCONN, or of a signal such as SIGKILL.";
        any.push(serde_json::json!({ "pattern": "^(E|SIG)[A-Z0-9]+$", "description": named }));
        schemars::json_schema!({
            "type": "string",
            "anyOf": any,
            "description": "An outcome.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_and_describes_itself() {
        let words = Class::WORDS.iter().map(|(class, ..)| *class);
        let others = [Class::Errno(Errno::EIO), Class::Signal(Signal::SIGKILL)];
        for class in words.chain(others) {
            assert_eq!(class.to_string().parse(), Ok(class));
            assert!(class == Class::NotOk || class.describes(class));
        }
        assert!(!Class::NotOk.describes(Class::Ok));
    }

    #[test]
    fn what_was_meant_is_said() {
        for (word, hint) in [
            ("okay", "did you mean ok?"),
            ("sigkill", "did you mean SIGKILL?"),
            ("kill", "did you mean SIGKILL?"),
            ("enotconn", "did you mean ENOTCONN?"),
            ("dead", "use ENOTCONN, the error of a mount whose daemon is gone"),
            ("zzz", "use an errno such as ENOTCONN, or ok, not_ok"),
        ] {
            let unknown = word.parse::<Class>().expect_err(word);
            assert!(unknown.hint().starts_with(hint), "{word}: {}", unknown.hint());
        }
    }

    #[test]
    fn words_that_mean_several_outcomes() {
        assert!(Class::Error.describes(Class::Errno(Errno::EIO)));
        assert!(!Class::Error.describes(Class::Hang));
        assert!(Class::Exited.describes(Class::Signal(Signal::SIGTERM)));
        assert!(Class::Empty.describes(Class::Absent) && !Class::Absent.describes(Class::Empty));
        assert!(Class::WrongContent.describes(Class::Old));
    }
}
