//! The name of a run, and the randomness behind it.

use std::fmt;
use std::time::Instant;

use crate::error::{Error, ErrorKind};

/// Names one run; carried by everything the run makes. A DNS label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(String);

impl RunId {
    /// A new id: the time and 32 random bits.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] when the system gives no random numbers.
    pub fn generate() -> Result<Self, Error> {
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dt%H%M%S");
        Ok(Self(format!("{stamp}-{}", random_hex(4)?)))
    }

    /// An existing id.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when it is not a DNS label of at most 40 characters.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let valid = !text.is_empty()
            && text.len() <= 40
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(Error::new(
                ErrorKind::InvalidInput,
                format!("run id {text:?}"),
                "is not 1 to 40 of a-z, 0-9 and -",
            )
            .with_fix("copy it from the report or from `propagation clean --list`"))
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a backend knows about the run that it opens a node for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// When it started: time zero of all observations.
    pub started: Instant,
    /// Whether everything is to be left standing at the end, for a person to look at.
    pub keep: bool,
    /// Whether programs of a simulated node may open files by their handles, as servers of NFS do. With the machine's
    /// rights this reaches every file of a filesystem (`open_by_handle_at(2)`), so that whoever starts a run decides
    /// it, and a plan has no word for it.
    pub files_by_handle: bool,
}

impl Run {
    /// A run that starts now, leaves nothing standing, and whose programs may not open files by their handles.
    pub fn new(id: RunId) -> Self {
        Self { id, started: Instant::now(), keep: false, files_by_handle: false }
    }
}

/// `bytes` random bytes in hexadecimal.
pub(crate) fn random_hex(bytes: usize) -> Result<String, Error> {
    let mut buffer = vec![0; bytes];
    getrandom::fill(&mut buffer).map_err(|error| {
        Error::from_source(ErrorKind::Environment, "draw random numbers", error)
    })?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}
