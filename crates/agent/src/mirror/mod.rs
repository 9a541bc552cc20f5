//! A filesystem that shows a directory: measures the cost of FUSE itself.
//!
//! Like similar daemons it lets the kernel cache names and attributes for a second, and the pages of an open
//! file. The daemon reads files, or with passthrough the kernel itself does: it gets the file when the file is
//! opened (Linux 6.9, `CONFIG_FUSE_PASSTHROUGH`).

mod answers;
mod attributes;
mod inodes;
mod operations;
mod shown;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use fuser::{BackingId, Config, INodeNo, Session, SessionACL};
use nix::errno::Errno;
use propagation_model::plan::FuseSpec;
use rustix::fs::{Mode, OFlags};

use crate::failure::errno_text;
use crate::fuse_mount::{Options, mount_fuse};
use crate::mounts::{Proc, errno_of, to_nix};
use inodes::Inodes;
use operations::Directory;
use shown::Shown;

/// How many threads answer requests.
const THREADS: usize = 4;

/// The inode number of the machine's own user namespace (`PROC_USER_INIT_INO` of the kernel).
const FIRST_USER_NAMESPACE: u64 = 0xefff_fffd;

/// Shows `source` at `mountpoint` until it is unmounted, or this process ends.
///
/// # Errors
/// In words, when it cannot be mounted or served.
pub fn serve(source: &Path, mountpoint: &Path, passthrough: bool) -> Result<(), String> {
    if passthrough {
        check_passthrough()?;
    }
    let root =
        rustix::fs::open(source, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| format!("open {}: {}", source.display(), errno_text(to_nix(errno))))?;
    let mirror = Mirror::new(root, passthrough)
        .map_err(|errno| format!("look at {}: {}", source.display(), errno_text(errno)))?;
    let name = source.to_string_lossy();
    // The kernel holds everybody to the owners and modes that files have.
    let spec = FuseSpec { options: vec!["default_permissions".into()], ..FuseSpec::default() };
    let options = Options::of(&spec, &name);
    let device = mount_fuse(mountpoint, &options)?;
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    Session::from_fd(mirror, device, SessionACL::All, config)
        .and_then(Session::run)
        .map_err(|error| format!("serve {}: {error}", mountpoint.display()))
}

/// The kernel accepts backing files only from a process with CAP_SYS_ADMIN over the machine.
fn check_passthrough() -> Result<(), String> {
    let proc = Proc::open().map_err(|failure| failure.reason)?;
    match proc.identity("self/ns/user") {
        Ok((_, FIRST_USER_NAMESPACE)) => Ok(()),
        _ => Err("FUSE passthrough: Operation not permitted (EPERM) in a user namespace".into()),
    }
}

/// The filesystem.
#[derive(Debug)]
struct Mirror {
    root: Shown,
    passthrough: bool,
    inodes: Mutex<Inodes>,
    files: Mutex<HashMap<u64, Arc<Opened>>>,
    directories: Mutex<HashMap<u64, Arc<Directory>>>,
    /// What the kernel has been told of open files: one for each inode, as long as one is open.
    backing: Mutex<HashMap<u64, Weak<BackingId>>>,
    next_handle: AtomicU64,
}

/// An open file.
#[derive(Debug)]
struct Opened {
    file: File,
    /// Kept while it is open.
    _backing: Option<Arc<BackingId>>,
}

impl Mirror {
    fn new(root: OwnedFd, passthrough: bool) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(&root).map_err(to_nix)?;
        Ok(Self {
            root: Shown::new(root),
            passthrough,
            inodes: Mutex::new(Inodes::new(operations::identity(&stat))),
            files: Mutex::default(),
            directories: Mutex::default(),
            backing: Mutex::default(),
            next_handle: AtomicU64::new(1),
        })
    }

    fn handle(&self) -> u64 {
        self.next_handle.fetch_add(1, Ordering::Relaxed)
    }

    fn keep(&self, file: File, backing: Option<Arc<BackingId>>) -> u64 {
        let handle = self.handle();
        lock(&self.files).insert(handle, Arc::new(Opened { file, _backing: backing }));
        handle
    }

    fn file(&self, handle: u64) -> Result<Arc<Opened>, Errno> {
        lock(&self.files).get(&handle).cloned().ok_or(Errno::EBADF)
    }

    /// What the kernel knows the open files of an inode by.
    fn backing(
        &self,
        inode: INodeNo,
        tell: impl FnOnce() -> std::io::Result<BackingId>,
    ) -> Result<Arc<BackingId>, Errno> {
        let mut known = lock(&self.backing);
        if let Some(backing) = known.get(&inode.0).and_then(Weak::upgrade) {
            return Ok(backing);
        }
        let backing = Arc::new(tell().map_err(|error| errno_of(&error))?);
        known.retain(|_, backing| backing.strong_count() > 0);
        known.insert(inode.0, Arc::downgrade(&backing));
        Ok(backing)
    }
}

/// Each change is one assignment: a panic leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
