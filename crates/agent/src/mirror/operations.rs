//! What requests do to the directory that is shown.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use fuser::{FileAttr, FileType, INodeNo, RenameFlags, Request, TimeOrNow};
use nix::errno::Errno;
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, RenameFlags as RenameHow, Stat, Timestamps};

use super::attributes::{attributes, kind, kind_of_entry, timespec};
use super::shown::Found;
use super::{Mirror, lock};
use crate::mounts::{errno_of, to_nix};

/// The entries of an open directory, as it was when it was opened.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) entries: Vec<(OsString, FileType, u64)>,
}

/// What a file is, whatever it is called.
pub(super) fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl Mirror {
    pub(super) fn stat(&self, path: &Path) -> Result<Stat, Errno> {
        self.root.find(path)?.stat()
    }

    pub(super) fn found(&self, inode: INodeNo) -> Result<Found, Errno> {
        self.root.find(&self.path(inode)?)
    }

    pub(super) fn path(&self, inode: INodeNo) -> Result<std::path::PathBuf, Errno> {
        lock(&self.inodes).path(inode).map(Into::into).ok_or(Errno::ESTALE)
    }

    pub(super) fn child(&self, parent: INodeNo, name: &OsStr) -> Result<std::path::PathBuf, Errno> {
        lock(&self.inodes).child(parent, name).ok_or(Errno::ESTALE)
    }

    /// The attributes of an entry, of which the kernel is told.
    pub(super) fn entry(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let path = self.child(parent, name)?;
        let stat = self.stat(&path)?;
        let inode = lock(&self.inodes).tell(path, identity(&stat));
        Ok(attributes(inode, &stat))
    }

    pub(super) fn list(&self, inode: INodeNo) -> Result<Directory, Errno> {
        let directory = self.root.open(
            &self.path(inode)?,
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        )?;
        let mut buffer = Vec::with_capacity(64 * 1024);
        let mut raw = RawDir::new(&directory, buffer.spare_capacity_mut());
        let mut entries = Vec::new();
        while let Some(entry) = raw.next() {
            let entry = entry.map_err(to_nix)?;
            let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
            entries.push((name, kind_of_entry(entry.file_type()), entry.ino()));
        }
        Ok(Directory { entries })
    }

    pub(super) fn remove(
        &self,
        parent: INodeNo,
        name: &OsStr,
        flags: AtFlags,
    ) -> Result<(), Errno> {
        let path = self.child(parent, name)?;
        let stat = self.stat(&path)?;
        let (directory, name) = self.root.parent(&path)?;
        rustix::fs::unlinkat(directory, name, flags).map_err(to_nix)?;
        lock(&self.inodes).removed(identity(&stat), &path, has_one_name(&stat));
        Ok(())
    }

    pub(super) fn rename_entry(
        &self,
        from: (INodeNo, &OsStr),
        to: (INodeNo, &OsStr),
        how: RenameFlags,
    ) -> Result<(), Errno> {
        let (from, to) = (self.child(from.0, from.1)?, self.child(to.0, to.1)?);
        let moved = self.stat(&from)?;
        let replaced = self.stat(&to).ok();
        let how = RenameHow::from_bits_retain(how.bits());
        let ((old, name), (new, new_name)) = (self.root.parent(&from)?, self.root.parent(&to)?);
        rustix::fs::renameat_with(old, name, new, new_name, how).map_err(to_nix)?;
        let mut inodes = lock(&self.inodes);
        if how.contains(RenameHow::EXCHANGE) {
            inodes.exchanged(&from, &to);
            return Ok(());
        }
        if let Some(other) = replaced {
            inodes.removed(identity(&other), &to, has_one_name(&other));
        }
        if kind(moved.st_mode) == FileType::Directory {
            inodes.directory_renamed(&from, &to);
        } else {
            inodes.renamed(identity(&moved), &to);
        }
        Ok(())
    }

    pub(super) fn change(
        &self,
        inode: INodeNo,
        change: &Change,
        open: Option<u64>,
    ) -> Result<FileAttr, Errno> {
        let path = self.path(inode)?;
        let found = self.root.find(&path)?;
        if let Some(mode) = change.mode {
            found.set_mode(mode)?;
        }
        if change.uid.is_some() || change.gid.is_some() {
            found.set_owner(change.uid, change.gid)?;
        }
        if let Some(size) = change.size {
            match open {
                Some(handle) => self.file(handle)?.file.set_len(size),
                None => self
                    .root
                    .open(&path, OFlags::WRONLY, Mode::empty())
                    .and_then(|file| file.set_len(size).map_err(|error| errno_of(&error)))
                    .map_err(io::Error::from),
            }
            .map_err(|error| errno_of(&error))?;
        }
        if change.accessed.is_some() || change.modified.is_some() {
            let times = Timestamps {
                last_access: timespec(change.accessed),
                last_modification: timespec(change.modified),
            };
            found.set_times(&times)?;
        }
        Ok(attributes(inode, &found.stat()?))
    }

    /// What a user makes is that user's.
    pub(super) fn give(&self, path: &Path, request: &Request) -> Result<(), Errno> {
        let owner = (request.uid(), request.gid());
        if owner == (0, 0) {
            return Ok(());
        }
        self.root.find(path)?.set_owner(Some(owner.0), Some(owner.1))
    }
}

/// Whether a file ends with one of its names: directories count theirs otherwise.
fn has_one_name(stat: &Stat) -> bool {
    stat.st_nlink <= 1 || kind(stat.st_mode) == FileType::Directory
}

/// What a request changes of a file's attributes.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) accessed: Option<TimeOrNow>,
    pub(super) modified: Option<TimeOrNow>,
}
