//! The producer's filesystem: a marker to read, a file to write, and nothing cached, so that every
//! access tells whether the daemon lives.

use std::ffi::OsStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, PollEvents, PollFlags, PollNotifier, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use propagation_core::marker::MARKER_FILE;

/// How long the kernel may keep names and attributes: not at all, or a stat(2) of a dead mount would
/// succeed for a while. Content is never kept either (direct I/O).
const KEEP: Duration = Duration::ZERO;

/// The largest file a consumer can write: the filesystem lives in memory.
const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;

/// The most files in the directory.
const MAX_FILES: usize = 1024;

#[derive(Debug)]
struct File {
    name: String,
    content: Vec<u8>,
    modified: SystemTime,
    writable: bool,
}

/// One directory of files in memory. The inode number of the file at index `i` is `i + 2`, so that
/// a successor that serves the same files knows the numbers the kernel holds.
#[derive(Debug)]
pub(crate) struct MarkerFilesystem {
    files: Mutex<Vec<File>>,
    owner: (u32, u32),
    started: SystemTime,
}

impl MarkerFilesystem {
    /// A filesystem with a marker of the given content and an empty writable file, owned by
    /// `owner` (user and group).
    pub(crate) fn new(marker: String, owner: (u32, u32)) -> Self {
        let now = SystemTime::now();
        let file = |name: &str, content: Vec<u8>, writable| File {
            name: name.into(),
            content,
            modified: now,
            writable,
        };
        let files = vec![
            file(MARKER_FILE, marker.into_bytes(), false),
            file("scratch.txt", Vec::new(), true),
        ];
        Self { files: Mutex::new(files), owner, started: now }
    }

    fn files(&self) -> MutexGuard<'_, Vec<File>> {
        // A panic while the lock was held leaves files as they are: each change is one assignment.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self) -> FileAttr {
        self.attributes(INodeNo::ROOT, FileType::Directory, 0o755, 0, self.started)
    }

    fn file(&self, inode: INodeNo, file: &File) -> FileAttr {
        let mode = if file.writable { 0o666 } else { 0o644 };
        let size = file.content.len() as u64;
        self.attributes(inode, FileType::RegularFile, mode, size, file.modified)
    }

    fn attributes(
        &self,
        ino: INodeNo,
        kind: FileType,
        perm: u16,
        size: u64,
        time: SystemTime,
    ) -> FileAttr {
        FileAttr {
            ino,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: self.started,
            kind,
            perm,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

fn inode_of(index: usize) -> INodeNo {
    INodeNo(index as u64 + 2)
}

fn index_of(inode: INodeNo) -> Option<usize> {
    usize::try_from(inode.0.checked_sub(2)?).ok()
}

impl Filesystem for MarkerFilesystem {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let files = self.files();
        let found = files.iter().position(|file| name == file.name.as_str());
        match found {
            Some(index) if parent == INodeNo::ROOT => {
                let attributes = self.file(inode_of(index), &files[index]);
                reply.entry(&KEEP, &attributes, Generation(0));
            }
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        if ino == INodeNo::ROOT {
            return reply.attr(&KEEP, &self.directory());
        }
        match index_of(ino).and_then(|index| self.files().get(index).map(|f| self.file(ino, f))) {
            Some(attributes) => reply.attr(&KEEP, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut files = self.files();
        let Some(file) = index_of(ino).and_then(|index| files.get_mut(index)) else {
            return reply.error(Errno::EPERM);
        };
        if let Some(size) = size {
            match usize::try_from(size) {
                Ok(size) if file.writable && size <= MAX_FILE_BYTES => {
                    file.content.resize(size, 0);
                    file.modified = SystemTime::now();
                }
                Ok(_) if !file.writable => return reply.error(Errno::EACCES),
                _ => return reply.error(Errno::EFBIG),
            }
        }
        reply.attr(&KEEP, &self.file(ino, file));
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match index_of(ino) {
            Some(index) if index < self.files().len() => reply.opened(FileHandle(0), OPENED),
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let Some(name) = name.to_str() else { return reply.error(Errno::EILSEQ) };
        let mut files = self.files();
        if parent != INodeNo::ROOT || files.len() >= MAX_FILES {
            return reply.error(Errno::ENOSPC);
        }
        files.push(File {
            name: name.into(),
            content: Vec::new(),
            modified: SystemTime::now(),
            writable: true,
        });
        let index = files.len() - 1;
        let attributes = self.file(inode_of(index), &files[index]);
        reply.created(&KEEP, &attributes, Generation(0), FileHandle(0), OPENED);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let files = self.files();
        let Some(file) = index_of(ino).and_then(|index| files.get(index)) else {
            return reply.error(Errno::ENOENT);
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.content.len());
        let end = start.saturating_add(size as usize).min(file.content.len());
        reply.data(&file.content[start..end]);
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut files = self.files();
        let Some(file) = index_of(ino).and_then(|index| files.get_mut(index)) else {
            return reply.error(Errno::ENOENT);
        };
        if !file.writable {
            return reply.error(Errno::EACCES);
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(data.len());
        if end > MAX_FILE_BYTES {
            return reply.error(Errno::EFBIG);
        }
        if file.content.len() < end {
            file.content.resize(end, 0);
        }
        file.content[start..end].copy_from_slice(data);
        file.modified = SystemTime::now();
        reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX));
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if ino != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        let files = self.files();
        let dots = [".", ".."].map(|name| (INodeNo::ROOT, FileType::Directory, name));
        let entries = dots.into_iter().chain(
            files
                .iter()
                .enumerate()
                .map(|(index, file)| (inode_of(index), FileType::RegularFile, file.name.as_str())),
        );
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (position, (inode, kind, name)) in entries.enumerate().skip(skip) {
            if reply.add(inode, position as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let files = self.files();
        let used: usize = files.iter().map(|file| file.content.len()).sum();
        let blocks = (MAX_FILES * MAX_FILE_BYTES / 4096) as u64;
        let free = blocks - used.div_ceil(4096) as u64;
        let inodes = MAX_FILES as u64;
        let free_inodes = inodes - files.len() as u64;
        reply.statfs(blocks, free, free, inodes, free_inodes, 4096, 255, 4096);
    }

    /// Never ready: whoever polls a descriptor sleeps until the connection ends. That is how a
    /// consumer hears of the daemon's death without asking again and again.
    fn poll(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.poll(PollEvents::empty());
    }
}

/// Direct I/O: a read is answered by the daemon or not at all. No flush: closing a descriptor never
/// waits for the daemon.
const OPENED: FopenFlags = FopenFlags::FOPEN_DIRECT_IO.union(FopenFlags::FOPEN_NOFLUSH);
