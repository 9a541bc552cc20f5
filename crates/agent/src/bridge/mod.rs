//! Operations on the FUSE mount at the bridge, on nodes of every kind. All of them may block: they run in a
//! child that can be given up.

mod attach;
mod attributes;

use std::path::Path;

use mountinfo::MountPath;
use nix::mount::{MntFlags, MsFlags, umount2};
use propagation_protocol::Failure;

use crate::failure::system;
use crate::mounts::{Proc, bind, propagate, unmount_lazily};
pub(crate) use attach::{BENEATH, SET_GROUP, Side, attach};
use attach::{copy_of_mount, mount_copy};

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
    let fresh = copy_of_mount(target, b"/")?;
    let layers = proc.mount_table()?.stack_at(&MountPath::from(path)).len();
    for _ in 0..layers {
        unmount_lazily(target).map_err(failed)?;
    }
    mount_copy(&fresh, target)?;
    // A copy of a shared mount is a member of its group, and a moved one stays it; one whose
    // group has gone with the layers is made shared like every mount of the node.
    propagate(target, MsFlags::MS_SHARED).map_err(failed)
}
