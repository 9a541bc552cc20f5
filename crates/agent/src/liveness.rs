//! Whether FUSE mounts are dead, without walking into one: a name that is looked up in a dead mount is dropped
//! from the kernel's cache, and whatever is mounted on it is detached.

use std::path::Path;

use mountinfo::{MountPath, MountTable};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::fstatfs;
use rustix::fs::{ResolveFlags, openat2};

/// Whether the daemon of the topmost mount at a path has ended, or its connection has. Blocks while a daemon
/// is stopped.
pub(crate) fn is_dead(mount_point: &Path) -> bool {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let opened = open(mount_point, flags, Mode::empty());
    matches!(opened.and_then(fstatfs), Err(Errno::ENOTCONN | Errno::ECONNABORTED))
}

/// Whether a path walk ends at a dead FUSE mount above the path and would detach the mounts further in. Names
/// that the kernel still considers valid lead through a dead mount and do no harm.
pub(crate) fn dead_on_the_way(table: &MountTable, path: &MountPath) -> bool {
    let mut outer: Vec<&MountPath> = table
        .fuse_mounts()
        .map(|mount| &mount.mount_point)
        .filter(|mount_point| *mount_point != path && path.starts_with(mount_point))
        .collect();
    // From the outside inwards: one inside a dead one is not to be walked to.
    outer.sort_by_key(|mount_point| mount_point.as_bytes().len());
    outer.dedup();
    outer.into_iter().any(|mount_point| is_dead(&mount_point.to_path_buf())) && !is_cached(path)
}

/// Whether the kernel can walk to a path without asking a filesystem; before Linux 5.12 it cannot say.
fn is_cached(path: &MountPath) -> bool {
    /// A walk that meets a change of names or mounts anywhere on the machine is given up too.
    const TRIES: usize = 64;
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let path = path.to_path_buf();
    let cached = || {
        let (mode, resolve) = (rustix::fs::Mode::empty(), ResolveFlags::CACHED);
        openat2(rustix::fs::CWD, &path, flags, mode, resolve).is_ok()
    };
    (0..TRIES).any(|_| cached())
}
