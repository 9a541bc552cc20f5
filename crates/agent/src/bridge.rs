//! What is done to the FUSE mount at the bridge, on nodes of every kind. All of it may block: it runs in a
//! child that can be given up.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use mountinfo::{MountEntry, MountPath, MountTable};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use propagation_model::ErrorKind;
use propagation_protocol::{ContainerSpec, Failure};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::failure::{errno_text, failure, system};
use crate::mounts::{Proc, bind, errno_of, propagate, to_nix, unmount_lazily};

/// Unmounts the topmost mount at a path.
pub(crate) fn unmount(path: &str, lazy: bool) -> Result<(), Failure> {
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    flags.set(MntFlags::MNT_DETACH, lazy);
    umount2(Path::new(path), flags).map_err(|errno| system(format!("unmount {path:?}"), errno))
}

/// Binds the mount at a path over itself; with `deduplicate` in the place of all layers that are
/// there.
pub(crate) fn rebind(proc: &Proc, path: &str, deduplicate: bool) -> Result<(), Failure> {
    let target = Path::new(path);
    let failed = |errno| system(format!("bind {path:?} over itself"), errno);
    if !deduplicate {
        return bind(target, target).map_err(failed);
    }
    let fresh = copy_of_mount(path)?;
    let layers = proc.mount_table()?.stack_at(&MountPath::from(path)).len();
    for _ in 0..layers {
        unmount_lazily(target).map_err(failed)?;
    }
    mount_copy(&fresh, path).map_err(failed)?;
    // A copy of a shared mount is a member of its group, and a moved one stays it; one whose
    // group has gone with the layers is made shared like every mount of the node.
    propagate(target, MsFlags::MS_SHARED).map_err(failed)
}

/// Where the calling process goes, to look and to mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The node's mount namespace.
    Node,
    /// The container's.
    Container,
}

/// Takes a copy of the node's fresh mount at `path` and puts it where the container's stale one is. The
/// part of the filesystem that the stale mount showed is the part that the copy shows. Ends on the
/// container's side.
pub(crate) fn rebind_in(
    proc: &Proc,
    path: &str,
    spec: &ContainerSpec,
    enter: impl Fn(Side) -> Result<(), Failure>,
) -> Result<(), Failure> {
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
    if stale.is_some() {
        unmount_lazily(Path::new(&*target))
            .map_err(|errno| system(format!("unmount the stale {target:?}"), errno))?;
    }
    mount_copy(&copy, &target)
        .map_err(|errno| system(format!("mount the fresh copy on {target:?}"), errno))
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
pub(crate) fn check_fresh(proc: &Proc, path: &str) -> Result<(), Failure> {
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
fn copy_of_mount(path: &str) -> Result<OwnedFd, Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(rustix::fs::CWD, path, flags)
        .map_err(|e| system(format!("copy the mount at {path:?}"), to_nix(e)))
}

fn mount_copy(copy: &OwnedFd, path: &str) -> Result<(), Errno> {
    move_mount(copy, "", rustix::fs::CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(to_nix)
}
