//! Mode, owner and time of a file or a directory, and what chmod(2), chown(2) and utimensat(2) change.

use std::time::SystemTime;

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

/// The bits that chmod(2) sets.
const MODE_BITS: u32 = 0o7777;

/// What stat(2) tells of a file or a directory beyond its size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metadata {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: SystemTime,
}

/// A request to change some of it; what is none stays.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Change {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) modified: Option<TimeOrNow>,
}

impl Metadata {
    /// Of a file or a directory that is made now.
    pub(super) fn new(mode: u16, (uid, gid): (u32, u32)) -> Self {
        Self { mode, uid, gid, modified: SystemTime::now() }
    }

    /// The whole of what stat(2) tells.
    pub(super) fn attributes(
        &self,
        ino: INodeNo,
        kind: FileType,
        size: u64,
        crtime: SystemTime,
    ) -> FileAttr {
        FileAttr {
            ino,
            size,
            blocks: size.div_ceil(512),
            atime: self.modified,
            mtime: self.modified,
            ctime: self.modified,
            crtime,
            kind,
            perm: self.mode,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// Changes all but the size. Who may is for the kernel to say, with `default_permissions`.
    pub(super) fn apply(&mut self, change: &Change) {
        if let Some(mode) = change.mode.and_then(|mode| u16::try_from(mode & MODE_BITS).ok()) {
            self.mode = mode;
        }
        self.uid = change.uid.unwrap_or(self.uid);
        self.gid = change.gid.unwrap_or(self.gid);
        match change.modified {
            Some(TimeOrNow::SpecificTime(time)) => self.modified = time,
            Some(TimeOrNow::Now) => self.modified = SystemTime::now(),
            None => {}
        }
    }
}
