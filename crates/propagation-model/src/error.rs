//! The error of the tool itself.
//!
//! What a container runtime refuses, what a consumer reads, what a phase finds: these are results
//! and live in [`crate::observation`] and [`crate::report`]. An [`Error`] means that the tool could
//! not do its own work. It says what was attempted, on what, why it did not work and what to do.

use std::error::Error as StdError;
use std::fmt;

use crate::program::Refusal;

/// What kind of thing went wrong; decides the exit status and, in bindings, the exception class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller asked for something that cannot be: a bad path, an impossible plan.
    InvalidInput,
    /// The backend does not have the capability that was asked of it.
    Unsupported,
    /// The machine lacks something: a device, a kernel call, a permission, room.
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
    refusal: Option<Refusal>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` while doing `operation` ("open /dev/fuse"), because of `reason`. The number that
    /// the standard library puts behind an error of the system is left out of it: the words say it.
    pub fn new(kind: ErrorKind, operation: impl Into<String>, reason: impl Into<String>) -> Self {
        let reason = without_numbers(reason.into());
        Self { kind, operation: operation.into(), reason, fix: None, refusal: None, source: None }
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Adds why the kernel refused it.
    #[must_use]
    pub fn with_refusal(mut self, refusal: Refusal) -> Self {
        self.refusal = Some(refusal);
        self
    }

    /// Adds the lower error that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether it is a finding about the environment, and no failure of the tool.
    pub fn is_finding(&self) -> bool {
        matches!(self.kind, ErrorKind::Environment | ErrorKind::Timeout)
    }

    /// What was attempted.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// Why it did not work.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What to do about it, where that is known.
    pub fn fix(&self) -> Option<&str> {
        self.fix.as_deref()
    }

    /// Why the kernel refused it, where that is what happened.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
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

/// A text without what the standard library adds to an error of the system, as in ` (os error 2)`.
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
    fn numbers_of_system_errors_are_left_out() {
        let error = std::io::Error::from_raw_os_error(2).to_string();
        let error = Error::new(ErrorKind::Environment, "read x", format!("{error}: {error}"));
        assert_eq!(error.reason(), "No such file or directory: No such file or directory");
        let odd = Error::new(ErrorKind::Environment, "read x", "said (os error two)");
        assert_eq!(odd.reason(), "said (os error two)");
    }
}
