//! Taking back what the run has done to the node. Nothing is deleted through a mount.

use std::fs;
use std::path::Path;

use mountinfo::MountPath;
use propagation_model::ErrorKind;
use propagation_model::journal::HostChange;
use propagation_model::marker::{Marker, PLAIN_FILE};
use propagation_protocol::Failure;
use propagation_protocol::host::{HostReply, RUNS};

use super::server::Server;
use super::{journal, line};
use crate::changes::{remove_empty, remove_line};
use crate::failure::{failure, system};
use crate::mounts::{errno_of, unmount_lazily};

impl Server {
    /// Takes everything back that the journal has, the last change first, and removes the run's
    /// directory. Runs in a child, once no program runs any more.
    pub(super) fn clean(&self) -> HostReply {
        let (mut undone, mut could_not) = (Vec::new(), Vec::new());
        if let Err(failure) = self.unmount_own(&self.bridge.fuse_path()) {
            could_not.push(line(&failure));
        }
        match journal::read(&self.layout.journal()) {
            Ok(mut journal) => {
                let changes: Vec<_> =
                    journal.to_undo().map(|(n, change)| (n, change.clone())).collect();
                for (entry, change) in changes {
                    match self.take_back(&change) {
                        Ok(()) => {
                            journal.undone(entry);
                            undone.push(format!("undid: {change}"));
                        }
                        Err(failure) => {
                            could_not.push(format!("undo {change}: {}", line(&failure)));
                        }
                    }
                }
                if let Err(failure) = journal::write(&self.layout.journal(), &journal) {
                    could_not.push(line(&failure));
                }
            }
            Err(failure) => could_not.push(line(&failure)),
        }
        self.remove_plain_file();
        if could_not.is_empty() {
            match self.remove_directory() {
                Ok(()) => undone.push(format!("removed {}", self.layout.directory())),
                Err(failure) => could_not.push(line(&failure)),
            }
        }
        HostReply::Cleaned { undone, could_not }
    }

    pub(super) fn take_back(&self, change: &HostChange) -> Result<(), Failure> {
        match change {
            HostChange::MakeDirectory { path, .. } => {
                self.unmount_own(path)?;
                remove_empty(path)
            }
            HostChange::AddLine { path, line } => remove_line(path, line),
        }
    }

    /// Unmounts what this run has mounted on a directory; anything else there is left, and is an
    /// error.
    fn unmount_own(&self, path: &str) -> Result<(), Failure> {
        let target = MountPath::from(path);
        let table = self.proc.mount_table()?;
        let stack = table.stack_at(&target);
        if !stack.is_empty() && self.programs.a_producer_serves() {
            let words = format!("unmount {path:?}");
            let fix = Some("stop the producer first");
            return Err(failure(ErrorKind::Environment, words, "a producer serves it", fix));
        }
        for mount in stack.iter().rev() {
            if mount.source.to_string() != self.source() {
                let reason = format!("{mount} is mounted there and is not this run's");
                let words = format!("remove {path:?}");
                return Err(failure(ErrorKind::Environment, words, reason, None));
            }
            unmount_lazily(Path::new(path))
                .map_err(|errno| system(format!("unmount {path:?}"), errno))?;
        }
        Ok(())
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
