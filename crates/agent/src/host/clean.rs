//! Undoes what the run has done to the node. Nothing is deleted through a mount.

use std::fs;
use std::path::Path;

use propagation_model::journal::{Entry, EntryState, HostChange};
use propagation_model::marker::{Marker, PLAIN_FILE};
use propagation_protocol::host::RUNS;
use propagation_protocol::{Failure, Reply};

use super::state::Host;
use super::{journal, line};
use crate::failure::system;
use crate::mounts::errno_of;
use crate::serve::{take_back, unmount_own};

impl Host {
    /// Takes everything back that the journal has, the last change first, and removes the run's
    /// directory. Runs in a child, once no program runs any more.
    pub(super) fn clean(&self) -> Reply {
        let (mut undone, mut could_not, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        for path in self.mounted_elsewhere() {
            if let Err(failure) = unmount_own(self, &path) {
                could_not.push(line(&failure));
            }
        }
        match unmount_own(self, &self.bridge.fuse_path()) {
            Ok(None) => {}
            Ok(Some(others)) => undone.push(format!("left {others}: it is not this run's")),
            Err(failure) => could_not.push(line(&failure)),
        }
        match journal::read(&self.layout.journal()) {
            Ok(mut journal) => {
                // What was undone may be there again: a runtime makes the sources of volumes.
                let again = |entry: &Entry| match &entry.change {
                    HostChange::MakeDirectory { path, .. } => fs::symlink_metadata(path).is_ok(),
                    HostChange::AddLine { .. } => false,
                };
                let entries = journal.entries().iter().enumerate().rev();
                let changes: Vec<_> = entries
                    .filter(|(_, entry)| match entry.state {
                        EntryState::Intended | EntryState::Made => true,
                        EntryState::Undone => again(entry),
                        EntryState::FoundThere => false,
                    })
                    .map(|(number, entry)| (number, entry.change.clone()))
                    .collect();
                for (entry, change) in &changes {
                    match take_back(self, change) {
                        Ok(None) => {
                            journal.undone(*entry);
                            undone.push(format!("undid: {change}"));
                            removed.push(change.clone());
                        }
                        Ok(Some(others)) => {
                            journal.undone(*entry);
                            undone.push(format!("left what was to be undone, {change}: {others}"));
                        }
                        Err(failure) => {
                            could_not.push(format!("undo {change}: {}", line(&failure)));
                        }
                    }
                }
                // It goes with the run's directory, also where the disk has no room for another.
                if !could_not.is_empty()
                    && let Err(failure) = journal::write(&self.layout.journal(), &journal)
                {
                    could_not.push(line(&failure));
                }
            }
            Err(failure) => could_not.push(line(&failure)),
        }
        self.remove_plain_file();
        could_not.extend(there_again(&removed));
        if could_not.is_empty() {
            match self.remove_directory() {
                Ok(()) => undone.push(format!("removed {}", self.layout.directory())),
                Err(failure) => could_not.push(line(&failure)),
            }
        }
        Reply::Cleaned { undone, could_not }
    }

    /// The mountpoints of the run other than its bridge: a clean-up may not know the bridge.
    fn mounted_elsewhere(&self) -> Vec<String> {
        let bridge = self.bridge.fuse_path();
        let table = self.proc.mount_table().map(|table| {
            let own = table.iter().filter(|mount| mount.source.to_string() == self.source());
            own.map(|mount| mount.mount_point.to_string_lossy().into_owned()).collect()
        });
        let mut paths: Vec<String> = table.unwrap_or_default();
        paths.retain(|path| *path != bridge);
        paths.dedup();
        paths
    }

    /// In a bridge that was there before, the producer's plain file is left.
    fn remove_plain_file(&self) {
        let path = Path::new(&self.bridge.path).join(PLAIN_FILE);
        // Only what a producer has written.
        if fs::read(&path).is_ok_and(|content| Marker::parse(&content).is_some()) {
            let _ = fs::remove_file(&path);
        }
    }

    /// The run's directory holds nothing but the agent's own files.
    fn remove_directory(&self) -> Result<(), Failure> {
        let directory = self.layout.directory();
        let failed =
            |error: &std::io::Error| system(format!("remove {directory}"), errno_of(error));
        for entry in fs::read_dir(directory).map_err(|e| failed(&e))? {
            fs::remove_file(entry.map_err(|e| failed(&e))?.path()).map_err(|e| failed(&e))?;
        }
        // In a pod the directory is mounted there too, so it may be busy for a moment more.
        fs::remove_dir(directory).map_err(|e| failed(&e))?;
        // Other runs have theirs.
        let _ = fs::remove_dir(RUNS);
        Ok(())
    }
}

/// Directories that were removed and exist again: another program has made them meanwhile.
fn there_again(removed: &[HostChange]) -> impl Iterator<Item = String> {
    removed.iter().filter_map(|change| match change {
        HostChange::MakeDirectory { path, .. } if fs::symlink_metadata(path).is_ok() => {
            Some(format!("remove {path:?}: it is there again, a container of it is being made"))
        }
        _ => None,
    })
}
