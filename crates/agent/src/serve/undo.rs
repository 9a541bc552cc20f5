//! Undoes what the run has done to a node. Nothing is deleted through a mount, and what others have mounted or put
//! there stays.

use std::fs;
use std::io::ErrorKind::NotFound;
use std::path::Path;

use mountinfo::MountPath;
use propagation_model::ErrorKind;
use propagation_model::journal::HostChange;
use propagation_protocol::Failure;

use super::world::World;
use crate::changes::{remove_empty, remove_line};
use crate::failure::{failure, system};
use crate::mounts::unmount_lazily;

/// Undoes a change. Returns what another owner has put in the way, if anything.
pub(crate) fn take_back<W: World>(
    world: &W,
    change: &HostChange,
) -> Result<Option<String>, Failure> {
    let path = match change {
        HostChange::MakeDirectory { path, .. } => path,
        HostChange::AddLine { path, line } => return remove_line(path, line).map(|()| None),
    };
    if let Some(others) = unmount_own(world, path)? {
        return Ok(Some(others));
    }
    // On a read-only filesystem even what is not there cannot be removed.
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == NotFound) {
        return Ok(None);
    }
    match remove_empty(path) {
        Ok(()) => Ok(None),
        Err(failure) => match fs::read_dir(path).into_iter().flatten().next() {
            Some(Ok(entry)) => Ok(Some(format!("{:?} is in it", entry.file_name()))),
            _ => Err(failure),
        },
    }
}

/// Unmounts what the run has mounted on a path. Returns what others have mounted there, if anything.
pub(crate) fn unmount_own<W: World>(world: &W, path: &str) -> Result<Option<String>, Failure> {
    let table = world.proc().mount_table()?;
    let stack = table.stack_at(&MountPath::from(path));
    if stack.iter().any(|mount| world.owns(mount)) && world.a_producer_serves() {
        let fix = Some("stop the producer first");
        let operation = format!("unmount {path:?}");
        return Err(failure(ErrorKind::Environment, operation, "a producer serves it", fix));
    }
    for mount in stack.iter().rev() {
        if !world.owns(mount) {
            return Ok(Some(format!("{mount}, mounted there")));
        }
        unmount_lazily(Path::new(path))
            .map_err(|errno| system(format!("unmount {path:?}"), errno))?;
    }
    Ok(None)
}
