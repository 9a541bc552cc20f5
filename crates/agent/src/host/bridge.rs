//! The bridge on a real node: whether its path can be used, and its parents.

use std::fs;
use std::path::Path;

use mountinfo::MountPath;
use propagation_model::ErrorKind;
use propagation_model::journal::HostChange;
use propagation_protocol::Failure;

use super::journal;
use super::state::Host;
use crate::failure::failure;

/// Makes sure that everything which is found at the bridge has the bridge's name, because mount tables have
/// the names that symbolic links lead to, and that its mountpoint is free.
pub(super) fn check_bridge(host: &Host) -> Result<(), Failure> {
    let path = Path::new(&host.bridge.path);
    let there = path.ancestors().find_map(|there| Some((there, there.canonicalize().ok()?)));
    if let Some((there, meant)) = there.filter(|(there, meant)| *there != meant.as_path()) {
        let rest = path.strip_prefix(there).unwrap_or(Path::new(""));
        let meant = meant.join(rest);
        let reason = format!("a symbolic link leads to {:?}", meant.to_string_lossy());
        let fix = format!("name that as the bridge: {}", meant.to_string_lossy());
        let words = format!("use the bridge {:?}", host.bridge.path);
        return Err(failure(ErrorKind::InvalidInput, words, reason, Some(&fix)));
    }
    host.check_mountpoint()
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
