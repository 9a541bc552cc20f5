//! The journal on the node: every change is written down, and on disk, before it is made.

use std::fs;

use propagation_model::ErrorKind;
use propagation_model::journal::{EntryState, HostChange, Journal};
use propagation_protocol::Failure;

use crate::changes;
use crate::failure::{failure, system};
use crate::mounts::errno_of;

/// Reads the journal; an absent one is empty.
pub(super) fn read(path: &str) -> Result<Journal, Failure> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Journal::default()),
        Err(error) => return Err(system(format!("read the journal {path}"), errno_of(&error))),
    };
    serde_json::from_slice(&content).map_err(|error| {
        let words = format!("read the journal {path}");
        let fix = "read it and undo by hand what it lists";
        failure(ErrorKind::Environment, words, error.to_string(), Some(fix))
    })
}

/// Writes the journal so that either the old or the new one is there, whatever happens.
pub(super) fn write(path: &str, journal: &Journal) -> Result<(), Failure> {
    let failed =
        |error: &std::io::Error| system(format!("write the journal {path}"), errno_of(error));
    let content = serde_json::to_vec(journal).map_err(|error| {
        failure(ErrorKind::Internal, "encode the journal", error.to_string(), None)
    })?;
    changes::replace(path, &content, Some(0o644)).map_err(|e| failed(&e))
}

/// Notes a change that another program may make for the run.
pub(super) fn foresee(path: &str, change: &HostChange) -> Result<(), Failure> {
    let mut journal = read(path)?;
    if journal.entries().iter().any(|entry| entry.change == *change) {
        return Ok(());
    }
    journal.intend(change.clone());
    write(path, &journal)
}

/// Makes a change, journaled; whether it had to be made.
pub(super) fn make(
    path: &str,
    change: &HostChange,
    apply: impl FnOnce(&HostChange) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let mut journal = read(path)?;
    let standing = |entry: &propagation_model::journal::Entry| {
        entry.change == *change && entry.state == EntryState::Made
    };
    let known = journal.entries().iter().any(standing);
    let entry = journal.intend(change.clone());
    write(path, &journal)?;
    let now = apply(change)?;
    // What the run made before is there now, and is still the run's.
    if now || !known {
        journal.made(entry, now);
    } else {
        journal.undone(entry);
    }
    write(path, &journal)?;
    Ok(now)
}
