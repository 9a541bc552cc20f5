//! The bridge on a real node: where its path leads, whether it can be used, and its parents.

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::Path;

use mountinfo::MountPath;
use propagation_model::ErrorKind;
use propagation_model::journal::HostChange;
use propagation_model::plan::Bridge;
use propagation_protocol::{Failure, Reply};

use super::journal;
use super::state::Host;
use crate::failure::failure;
use crate::resolve::resolve;
use crate::serve::{InChild, Job, Progress};

/// Follows the symbolic links of paths, the bridge's first: mount tables have what they lead to. The first becomes the
/// bridge of the agent.
pub(super) struct Resolving(InChild);

impl Resolving {
    pub(super) fn start(host: &Host, paths: Vec<String>) -> Result<Self, Failure> {
        InChild::start(host, "find the bridge", 0, move |host| {
            let paths = paths.iter().map(|path| resolve(path)).collect::<Result<Vec<_>, _>>()?;
            if let Some(path) = paths.first() {
                check_mountpoint(host, path)?;
            }
            Ok(Reply::Resolved { paths })
        })
        .map(Self)
    }
}

impl Job<Host> for Resolving {
    fn descriptors<'a>(&'a self, host: &'a Host) -> Vec<BorrowedFd<'a>> {
        self.0.descriptors(host)
    }

    fn deadline(&self) -> Option<u64> {
        Job::<Host>::deadline(&self.0)
    }

    fn advance(&mut self, host: &mut Host, now: u64) -> Progress {
        let progress = self.0.advance(host, now);
        if let Progress::Finished(Ok(Reply::Resolved { paths })) = &progress
            && let Some(path) = paths.first()
        {
            host.bridge.path.clone_from(path);
        }
        progress
    }
}

/// Refuses a bridge whose mountpoint leads out of it, or is taken.
fn check_mountpoint(host: &Host, path: &str) -> Result<(), Failure> {
    let bridge = Bridge { path: path.into(), ..host.bridge.clone() };
    let mountpoint = bridge.fuse_path();
    if fs::symlink_metadata(&mountpoint).is_ok_and(|found| found.is_symlink()) {
        let operation = format!("mount on {mountpoint:?}");
        let reason = "it is a symbolic link, and what it leads to is not in the bridge";
        let fix = "name another bridge, or remove the link";
        return Err(failure(ErrorKind::InvalidInput, operation, reason, Some(fix)));
    }
    host.check_mounts_at(&mountpoint)
}

/// Notes a directory that a kubelet may make for the run, with its parents. In a mounted filesystem it is
/// none of the node's.
pub(super) fn foresee(host: &Host, path: &str) -> Result<(), Failure> {
    let table = host.proc.mount_table()?;
    let mounted = Path::new(path).ancestors().any(|directory| {
        table.at(&MountPath::from(directory)).is_some_and(|mount| mount.is_fuse())
    });
    if mounted {
        return Ok(());
    }
    let change = HostChange::MakeDirectory { path: path.into(), owner: 0 };
    for change in with_parents(&change) {
        let HostChange::MakeDirectory { path, .. } = &change else { continue };
        if fs::symlink_metadata(path).is_err() {
            journal::foresee(&host.layout.journal(), &change)?;
        }
    }
    Ok(())
}

/// A change, and before it those that it needs: a directory's parents are the run's too when it makes them.
pub(super) fn with_parents(change: &HostChange) -> Vec<HostChange> {
    let mut changes = vec![change.clone()];
    if let HostChange::MakeDirectory { path, .. } = change {
        let parents = Path::new(path).ancestors().skip(1);
        let missing = parents.take_while(|parent| fs::symlink_metadata(parent).is_err());
        changes.extend(missing.map(|parent| HostChange::MakeDirectory {
            path: parent.to_string_lossy().into_owned(),
            owner: 0,
        }));
    }
    changes.reverse();
    changes
}
