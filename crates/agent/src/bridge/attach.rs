//! Giving a running container the node's mount.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use mountinfo::{MountEntry, MountPath, MountTable};
use nix::errno::Errno;
use propagation_model::ErrorKind;
use propagation_model::program::{Attach, Attached};
use propagation_protocol::{ContainerSpec, Failure};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::failure::{errno_text, failure, system};
use crate::mounts::{Proc, errno_of, to_nix, unmount_lazily};

/// Where the calling process goes, to look and to mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The node's mount namespace.
    Node,
    /// The container's.
    Container,
}

/// Gives a container the node's fresh mount at `path`, in a way of those that there are. Ends on either
/// side.
pub(crate) fn attach(
    proc: &Proc,
    path: &str,
    spec: &ContainerSpec,
    how: Attach,
    enter: impl Fn(Side) -> Result<(), Failure>,
) -> Result<Attached, Failure> {
    match how {
        Attach::Rebind => {
            enter(Side::Node)?;
            check_fresh(proc, path)?;
            rebind(proc, path, spec, &enter)
        }
    }
}

/// Takes a copy of the node's fresh mount at `path` and puts it where the container's stale one is. The
/// copy shows the part of the filesystem that the stale mount showed.
fn rebind(
    proc: &Proc,
    path: &str,
    spec: &ContainerSpec,
    enter: impl Fn(Side) -> Result<(), Failure>,
) -> Result<Attached, Failure> {
    enter(Side::Container)?;
    let stale = stale_mount(spec, &proc.mount_table()?);
    // A mount can be copied only in its own namespace.
    enter(Side::Node)?;
    let (part, target) = match &stale {
        Some(stale) => (stale.root.to_string_lossy(), stale.mount_point.to_string_lossy()),
        None => ("/".into(), spec.fuse_path.as_str().into()),
    };
    let copy = copy_of_mount(format!("{path}{part}").trim_end_matches('/'))?;
    enter(Side::Container)?;
    let target = Path::new(&*target);
    if stale.is_some() {
        unmount_lazily(target)
            .map_err(|errno| system(format!("unmount the stale {target:?}"), errno))?;
    }
    mount_copy(&copy, target)?;
    Ok(Attached { hole: stale.is_some() })
}

/// The FUSE mount that a container holds at its mountpoint, or as its volume.
fn stale_mount(spec: &ContainerSpec, table: &MountTable) -> Option<MountEntry> {
    let volume = spec.volumes.first().map(|volume| volume.destination.as_str());
    let mut places = std::iter::once(spec.fuse_path.as_str()).chain(volume);
    places.find_map(|place| {
        table.at(&MountPath::from(place)).filter(|mount| mount.is_fuse()).cloned()
    })
}

/// Whether a FUSE mount is at a path that answers, to be bound elsewhere.
fn check_fresh(proc: &Proc, path: &str) -> Result<(), Failure> {
    let refuse = |reason: String| {
        let words = "re-bind in a container";
        let fix = "start the producer first: there has to be a mount that lives";
        Err(failure(ErrorKind::Environment, words, reason, Some(fix)))
    };
    let table = proc.mount_table()?;
    if !table.at(&MountPath::from(path)).is_some_and(MountEntry::is_fuse) {
        return refuse(format!("no FUSE mount is at {path:?} on the node"));
    }
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        // Whom the mount does not let in says nothing of its life.
        Err(error) if errno_of(&error) == Errno::EACCES => Ok(()),
        Err(error) => {
            let words = errno_text(errno_of(&error));
            refuse(format!("the mount at {path:?} on the node: {words}"))
        }
    }
}

/// A detached copy of the mount, or of the part of it, at a path of the current namespace.
pub(super) fn copy_of_mount(path: &str) -> Result<OwnedFd, Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(rustix::fs::CWD, path, flags)
        .map_err(|e| system(format!("copy the mount at {path:?}"), to_nix(e)))
}

/// Puts a copy on top of what is at a path.
pub(super) fn mount_copy(copy: &OwnedFd, target: &Path) -> Result<(), Failure> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(copy, "", rustix::fs::CWD, target, flags)
        .map_err(|errno| system(format!("mount the fresh copy on {target:?}"), to_nix(errno)))
}
