//! The directory that is shown. Nothing outside it is reached: paths are walked below it, symbolic links are
//! not followed, and what is done to a file is done to a descriptor of it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Stat, Timestamps, Uid};

use crate::mounts::to_nix;

/// The directory; all paths are relative to it.
#[derive(Debug)]
pub(super) struct Shown(OwnedFd);

impl Shown {
    pub(super) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    pub(super) fn open(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<File, Errno> {
        let stay = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let opened = rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, mode, stay);
        opened.map(File::from).map_err(to_nix)
    }

    /// What is at a path, be it a symbolic link, to be looked at and changed.
    pub(super) fn find(&self, path: &Path) -> Result<Found, Errno> {
        self.open(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).map(Found)
    }

    /// The directory of an entry, and the entry's name there.
    pub(super) fn parent<'a>(&self, path: &'a Path) -> Result<(File, &'a OsStr), Errno> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::EINVAL);
        };
        let directory = self.open(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        Ok((directory, name))
    }
}

impl AsFd for Shown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A file, directory or link that has been found, whatever its name leads to later.
#[derive(Debug)]
pub(super) struct Found(File);

impl Found {
    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        rustix::fs::fstat(&self.0).map_err(to_nix)
    }

    pub(super) fn link_target(&self) -> Result<std::ffi::CString, Errno> {
        rustix::fs::readlinkat(&self.0, "", Vec::new()).map_err(to_nix)
    }

    pub(super) fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        // Before Linux 6.6 no call changes the mode behind a descriptor that was opened for its path alone.
        let same = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::chmodat(rustix::fs::CWD, same, mode, AtFlags::empty()).map_err(to_nix)
    }

    pub(super) fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        rustix::fs::chownat(&self.0, "", uid, gid, AtFlags::EMPTY_PATH).map_err(to_nix)
    }

    pub(super) fn set_times(&self, times: &Timestamps) -> Result<(), Errno> {
        rustix::fs::utimensat(&self.0, "", times, AtFlags::EMPTY_PATH).map_err(to_nix)
    }
}
