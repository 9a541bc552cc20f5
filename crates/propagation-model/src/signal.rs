//! Signals of Linux, by their names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A signal of Linux (signal(7)), written by its name; the numbers are those of every architecture but alpha, mips,
/// parisc and sparc. Real-time signals have no name and are written by their number.
///
/// ```
/// use propagation_model::Signal;
///
/// let signal: Signal = "SIGKILL".parse().unwrap();
/// assert_eq!((signal, signal.number()), (Signal::SIGKILL, 9));
/// assert!("KILL".parse::<Signal>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

impl Signal {
    /// Ends a process at once; cannot be caught.
    pub const SIGKILL: Self = Self(9);
    /// Asks a process to end.
    pub const SIGTERM: Self = Self(15);

    /// The signal with this number.
    pub const fn from_number(number: i32) -> Self {
        Self(number)
    }

    /// Its number.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Its name, where it has one.
    pub fn name(self) -> Option<&'static str> {
        let index = usize::try_from(self.0).ok()?.checked_sub(1)?;
        NAMES.get(index).copied()
    }

    /// All names, in the order of their numbers.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.into_iter()
    }
}

/// An unknown signal name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal {0:?}")]
pub struct UnknownSignal(pub String);

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(word: &str) -> Result<Self, UnknownSignal> {
        if let Ok(number) = word.parse::<u8>() {
            return Ok(Self(number.into()));
        }
        let known = NAMES.iter().zip(1..).find(|(name, _)| **name == word);
        known.map(|(_, number)| Self(number)).ok_or_else(|| UnknownSignal(word.to_owned()))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl Serialize for Signal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The names; the first has the number 1.
#[rustfmt::skip]
const NAMES: [&str; 31] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS",
    "SIGFPE", "SIGKILL", "SIGUSR1", "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM",
    "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN",
    "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH",
    "SIGIO", "SIGPWR", "SIGSYS",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_reads_back() {
        for number in 1..=64 {
            let signal = Signal::from_number(number);
            assert_eq!(signal.to_string().parse(), Ok(signal));
        }
        let numbers = [("SIGKILL", 9), ("SIGTERM", 15), ("SIGSYS", 31)];
        for (name, number) in numbers {
            assert_eq!(name.parse::<Signal>().map(Signal::number), Ok(number));
        }
    }
}
