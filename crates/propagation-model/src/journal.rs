//! The journal of host changes: written before a change is made, so that cleanup restores exactly
//! what was there.

use serde::{Deserialize, Serialize};

/// One reversible change to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum HostChange {
    /// A directory is made (with its parents); undone by removing it when it is empty.
    MakeDirectory {
        /// Absolute path.
        path: String,
        /// The user and group that own it.
        #[serde(default)]
        owner: u32,
    },
    /// A line is added to a file; undone by taking out that line, and the file if it was made.
    AddLine {
        /// Absolute path.
        path: String,
        /// The line, without its end.
        line: String,
    },
}

impl std::fmt::Display for HostChange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MakeDirectory { path, .. } => write!(formatter, "make directory {path:?}"),
            Self::AddLine { path, line } => write!(formatter, "add line {line:?} to {path:?}"),
        }
    }
}

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// Written down, perhaps made.
    Intended,
    /// Made by this run: has to be undone.
    Made,
    /// It was there before: it is left alone.
    FoundThere,
    /// Undone.
    Undone,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The change.
    pub change: HostChange,
    /// How far it has come.
    pub state: EntryState,
}

/// The changes of one run, in order.
///
/// ```
/// use propagation_model::journal::{HostChange, Journal};
///
/// let mut journal = Journal::default();
/// let directory = HostChange::MakeDirectory { path: "/tmp/fuse-test-bridge".into(), owner: 0 };
/// let entry = journal.intend(directory.clone());
/// journal.made(entry, true);
/// assert_eq!(journal.to_undo().map(|(_, change)| change).collect::<Vec<_>>(), [&directory]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    entries: Vec<Entry>,
}

impl Journal {
    /// Records a change that is about to be made; returns its number.
    pub fn intend(&mut self, change: HostChange) -> usize {
        self.entries.push(Entry { change, state: EntryState::Intended });
        self.entries.len() - 1
    }

    /// Notes that the change has been made (`true`) or was there already (`false`).
    pub fn made(&mut self, entry: usize, now: bool) {
        if let Some(entry) = self.entries.get_mut(entry) {
            entry.state = if now { EntryState::Made } else { EntryState::FoundThere };
        }
    }

    /// Notes that the change has been undone.
    pub fn undone(&mut self, entry: usize) {
        if let Some(entry) = self.entries.get_mut(entry) {
            entry.state = EntryState::Undone;
        }
    }

    /// The changes to undo, the last one first. An intended change counts: it may have been made before
    /// the run died, and undoing is idempotent.
    pub fn to_undo(&self) -> impl Iterator<Item = (usize, &HostChange)> {
        self.entries
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, entry)| matches!(entry.state, EntryState::Intended | EntryState::Made))
            .map(|(number, entry)| (number, &entry.change))
    }

    /// All entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
