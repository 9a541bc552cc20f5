//! Errors of the tool itself.
//!
//! What a container runtime refuses, what a consumer reads, what a phase finds: these are results
//! and live in [`crate::observation`] and [`crate::report`]. An [`Error`] means that the tool could
//! not do its own work. It says what was attempted, on what, why it did not work and what to do.

use std::error::Error as StdError;
use std::{fmt, io};

use serde::{Deserialize, Serialize};

use crate::errno::Errno;

/// What kind of thing went wrong; decides the exit status and, in bindings, the exception class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller asked for something impossible: a bad path, a plan that cannot be run.
    InvalidInput,
    /// The backend does not have the capability that was asked of it.
    Unsupported,
    /// The machine lacks something: a device, a system call, a permission, room.
    Environment,
    /// The agent speaks another version of the protocol.
    AgentVersion,
    /// A deadline passed.
    Timeout,
    /// The run was cancelled.
    Cancelled,
    /// The agent or the node went away.
    Disconnected,
    /// A bug, or a state that should not be possible.
    Internal,
}

impl ErrorKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::InvalidInput,
        Self::Unsupported,
        Self::Environment,
        Self::AgentVersion,
        Self::Timeout,
        Self::Cancelled,
        Self::Disconnected,
        Self::Internal,
    ];

    /// The name used in reports and exit texts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::Unsupported => "unsupported",
            Self::Environment => "environment",
            Self::AgentVersion => "agent_version",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Disconnected => "disconnected",
            Self::Internal => "internal",
        }
    }

    /// The kind with the given name, as [`ErrorKind::as_str`] writes it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// An operation of the tool that failed.
///
/// `Display` gives the operation and the reason in one line and does not repeat the source;
/// [`Error::fix`] says what to do about it.
///
/// ```
/// use propagation_model::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Environment, "open /dev/fuse", "No such file or directory (ENOENT)")
///     .with_fix("load the module: modprobe fuse");
/// assert_eq!(error.to_string(), "open /dev/fuse: No such file or directory (ENOENT)");
/// assert_eq!(error.fix(), Some("load the module: modprobe fuse"));
/// ```
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    operation: String,
    reason: String,
    fix: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` while doing `operation` ("open /dev/fuse"), because of `reason`. A number such as ` (os
    /// error 2)`, which the standard library appends to a system error, is removed.
    pub fn new(kind: ErrorKind, operation: impl Into<String>, reason: impl Into<String>) -> Self {
        let reason = without_numbers(reason.into());
        Self { kind, operation: operation.into(), reason, fix: None, source: None }
    }

    /// An error of `kind` while doing `operation`, caused by a lower error: it becomes the source, and its text the
    /// reason.
    pub fn from_source(
        kind: ErrorKind,
        operation: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        Self::new(kind, operation, source.to_string()).with_source(source)
    }

    /// Adds the fix: what the user can do about it.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Adds the lower error that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Adds the system error that caused it, as its source.
    #[must_use]
    pub fn with_errno(self, errno: Option<Errno>) -> Self {
        match errno {
            Some(errno) => self.with_source(io::Error::from_raw_os_error(errno.number())),
            None => self,
        }
    }

    /// The errno of the system error that caused it, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        let mut below = self.source();
        while let Some(error) = below {
            let number = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
            if let Some(number) = number {
                return Some(Errno::from_number(number));
            }
            below = error.source();
        }
        None
    }

    /// The attempted operation.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The reason for the failure.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The fix, where it is known.
    pub fn fix(&self) -> Option<&str> {
        self.fix.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.operation, self.reason)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

/// A text without the number that the standard library appends to a system error, as in ` (os error 2)`.
fn without_numbers(mut text: String) -> String {
    const BEFORE: &str = " (os error ";
    while let Some(start) = text.find(BEFORE) {
        let rest = &text[start + BEFORE.len()..];
        let Some(digits) = rest.find(')').filter(|end| rest[..*end].parse::<i32>().is_ok()) else {
            break;
        };
        text.replace_range(start..=start + BEFORE.len() + digits, "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errno_of_the_source_is_kept() {
        let source = io::Error::from_raw_os_error(24);
        let error = Error::from_source(ErrorKind::Environment, "read x", source);
        assert_eq!((error.errno(), error.reason()), (Some(Errno::EMFILE), "Too many open files"));
        assert_eq!(Error::new(ErrorKind::Internal, "read x", "no").errno(), None);
    }

    #[test]
    fn numbers_of_system_errors_are_left_out() {
        let error = std::io::Error::from_raw_os_error(2).to_string();
        let error = Error::new(ErrorKind::Environment, "read x", format!("{error}: {error}"));
        assert_eq!(error.reason(), "No such file or directory: No such file or directory");
        let odd = Error::new(ErrorKind::Environment, "read x", "said (os error two)");
        assert_eq!(odd.reason(), "said (os error two)");
    }
}
