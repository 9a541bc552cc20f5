//! Publishes a staged mount, as CSI drivers do in NodePublishVolume and NodeUnpublishVolume.

use std::fs;
use std::path::Path;

use mountinfo::MountPath;
use nix::mount::{MntFlags, umount2};
use propagation_protocol::Failure;

use crate::failure::system;
use crate::mounts::{Proc, bind, errno_of, make_directory};

/// Binds the mount at `stage` on `target`, which it makes. A mounted target that answers counts as published,
/// as with drivers.
///
/// # Errors
/// The errno of a stat(2) of either path: a driver that looks first cannot bind a dead mount.
pub(crate) fn publish(proc: &Proc, stage: &str, target: &str) -> Result<(), Failure> {
    let path = Path::new(target);
    let looked = |path: &str| {
        fs::metadata(path).map_err(|error| system(format!("stat {path}"), errno_of(&error)))
    };
    looked(stage)?;
    if proc.mount_table()?.at(&MountPath::from(path)).is_some() {
        return looked(target).map(drop);
    }
    make_directory(path).map_err(|errno| system(format!("mkdir {target}"), errno))?;
    bind(Path::new(stage), path).map_err(|errno| system(format!("bind {stage} on {target}"), errno))
}

/// Unmounts `target` if something is mounted on it, by the mount table and not by a look, and removes the
/// directory.
///
/// # Errors
/// With the errno of umount2(2) or rmdir(2): `EBUSY` while the mount is in use, or another lies on it.
pub(crate) fn unpublish(proc: &Proc, target: &str) -> Result<(), Failure> {
    let path = Path::new(target);
    if proc.mount_table()?.at(&MountPath::from(path)).is_some() {
        umount2(path, MntFlags::UMOUNT_NOFOLLOW)
            .map_err(|errno| system(format!("unmount {target}"), errno))?;
    }
    fs::remove_dir(path).map_err(|error| system(format!("rmdir {target}"), errno_of(&error)))
}
