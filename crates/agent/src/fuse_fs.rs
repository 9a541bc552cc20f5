//! The producer's filesystem: a marker to read, a file to write, and nothing cached, so that every
//! access tells whether the daemon lives.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, PollEvents, PollFlags, PollNotifier, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use propagation_model::marker::MARKER_FILE;

/// How long the kernel may keep names and attributes: not at all, or a stat(2) of a dead mount would
/// succeed for a while. Content is never kept either (direct I/O).
const KEEP: Duration = Duration::ZERO;

/// The largest file a consumer can write: the filesystem lives in memory.
const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;

/// The most files in the directory.
const MAX_FILES: usize = 1024;

/// How the daemon answers; told by faults, read at every request.
#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    /// Every answer comes this much later, in milliseconds.
    pub(crate) delay_ms: AtomicU64,
    /// Every answer is this error; 0 is none.
    pub(crate) errno: AtomicI32,
}

impl Behaviour {
    /// Waits as told, and returns the error that is to be answered.
    fn before_an_answer(&self) -> Result<(), Errno> {
        let delay_ms = self.delay_ms.load(Ordering::Relaxed);
        if delay_ms > 0 {
            // The pause is the fault.
            let _ = nix::poll::poll(&mut [], crate::child::timeout(delay_ms * 1_000_000));
        }
        match self.errno.load(Ordering::Relaxed) {
            0 => Ok(()),
            errno => Err(Errno::from_i32(errno)),
        }
    }
}

#[derive(Debug)]
struct File {
    name: String,
    content: Vec<u8>,
    modified: SystemTime,
    writable: bool,
}

/// The directory in the root that has the marker too, for volumes with a subPath.
pub(crate) const SUBDIRECTORY: &str = "sub";

/// The inode number of that directory, and of the marker in it.
const SUBDIRECTORY_INODE: INodeNo = INodeNo(1 << 32);
const SUBMARKER_INODE: INodeNo = INodeNo((1 << 32) + 1);

/// One directory of files in memory, and one in it with the marker. The inode number of the file at
/// index `i` is `i + 2`, so that a successor that serves the same files knows the numbers the kernel
/// holds.
#[derive(Debug)]
pub(crate) struct MarkerFilesystem {
    /// None where a file has been removed.
    files: Mutex<Vec<Option<File>>>,
    behaviour: Arc<Behaviour>,
    owner: (u32, u32),
    started: SystemTime,
}

impl MarkerFilesystem {
    /// A filesystem with a marker of the given content and an empty writable file, owned by
    /// `owner` (user and group).
    pub(crate) fn new(marker: String, owner: (u32, u32), behaviour: Arc<Behaviour>) -> Self {
        let now = SystemTime::now();
        let file = |name: &str, content: Vec<u8>, writable| {
            Some(File { name: name.into(), content, modified: now, writable })
        };
        let files = vec![
            file(MARKER_FILE, marker.into_bytes(), false),
            file("scratch.txt", Vec::new(), true),
        ];
        Self { files: Mutex::new(files), behaviour, owner, started: now }
    }

    fn files(&self) -> MutexGuard<'_, Vec<Option<File>>> {
        // A panic while the lock was held leaves files as they are: each change is one assignment.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self, inode: INodeNo) -> FileAttr {
        // Everybody may make files in it: what a consumer may do is not what is tested.
        self.attributes(inode, FileType::Directory, 0o777, 0, self.started)
    }

    /// The attributes of what has a name in a directory.
    fn find(&self, parent: INodeNo, name: &OsStr) -> Option<FileAttr> {
        let files = self.files();
        if parent == SUBDIRECTORY_INODE {
            let marker = files.first()?.as_ref()?;
            return (name == MARKER_FILE).then(|| self.file(SUBMARKER_INODE, marker));
        }
        if name == SUBDIRECTORY {
            return Some(self.directory(SUBDIRECTORY_INODE));
        }
        let mut there = files.iter().enumerate().filter_map(|(i, file)| Some((i, file.as_ref()?)));
        let (index, file) = there.find(|(_, file)| name == file.name.as_str())?;
        Some(self.file(inode_of(index), file))
    }

    /// The attributes of anything.
    fn attributes_of(&self, inode: INodeNo) -> Option<FileAttr> {
        if inode == INodeNo::ROOT || inode == SUBDIRECTORY_INODE {
            return Some(self.directory(inode));
        }
        let files = self.files();
        let file = files.get(index_of(inode)?)?.as_ref()?;
        Some(self.file(inode, file))
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

/// Where the content of a file is; the marker in the subdirectory is the one in the root.
fn index_of(inode: INodeNo) -> Option<usize> {
    if inode == SUBMARKER_INODE {
        return Some(0);
    }
    usize::try_from(inode.0.checked_sub(2)?).ok()
}

/// Answers with the error that a fault has told the daemon to give.
macro_rules! answer_or {
    ($filesystem:expr, $reply:expr) => {
        if let Err(errno) = $filesystem.behaviour.before_an_answer() {
            return $reply.error(errno);
        }
    };
}

impl Filesystem for MarkerFilesystem {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer_or!(self, reply);
        match self.find(parent, name) {
            Some(attributes) => reply.entry(&KEEP, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        answer_or!(self, reply);
        match self.attributes_of(ino) {
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
        answer_or!(self, reply);
        let mut files = self.files();
        let index = index_of(ino);
        let Some(file) = index.and_then(|index| files.get_mut(index)?.as_mut()) else {
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
        answer_or!(self, reply);
        match index_of(ino) {
            Some(index) if self.files().get(index).is_some_and(Option::is_some) => {
                reply.opened(FileHandle(0), OPENED);
            }
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
        answer_or!(self, reply);
        let Some(name) = name.to_str() else { return reply.error(Errno::EILSEQ) };
        let mut files = self.files();
        let free = files.iter().position(Option::is_none).unwrap_or(files.len());
        if parent != INodeNo::ROOT || free >= MAX_FILES {
            return reply.error(Errno::ENOSPC);
        }
        let modified = SystemTime::now();
        let file = File { name: name.into(), content: Vec::new(), modified, writable: true };
        let attributes = self.file(inode_of(free), &file);
        if free == files.len() {
            files.push(Some(file));
        } else {
            files[free] = Some(file);
        }
        reply.created(&KEEP, &attributes, Generation(0), FileHandle(0), OPENED);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer_or!(self, reply);
        let mut files = self.files();
        let named = |file: &Option<File>| file.as_ref().is_some_and(|f| name == f.name.as_str());
        match files.iter().position(named).filter(|_| parent == INodeNo::ROOT) {
            Some(index) if files[index].as_ref().is_some_and(|file| file.writable) => {
                files[index] = None;
                reply.ok();
            }
            Some(_) => reply.error(Errno::EACCES),
            None => reply.error(Errno::ENOENT),
        }
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
        answer_or!(self, reply);
        let files = self.files();
        let Some(file) = index_of(ino).and_then(|index| files.get(index)?.as_ref()) else {
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
        answer_or!(self, reply);
        let mut files = self.files();
        let index = index_of(ino);
        let Some(file) = index.and_then(|index| files.get_mut(index)?.as_mut()) else {
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
        answer_or!(self, reply);
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
        answer_or!(self, reply);
        let dots = [".", ".."].map(|name| (ino, FileType::Directory, name.to_owned()));
        let mut entries = Vec::from(dots);
        if ino == SUBDIRECTORY_INODE {
            entries.push((SUBMARKER_INODE, FileType::RegularFile, MARKER_FILE.to_owned()));
        } else if ino == INodeNo::ROOT {
            let files = self.files();
            let there = files.iter().enumerate().filter_map(|(i, file)| Some((i, file.as_ref()?)));
            entries.extend(
                there.map(|(i, file)| (inode_of(i), FileType::RegularFile, file.name.clone())),
            );
            entries.push((SUBDIRECTORY_INODE, FileType::Directory, SUBDIRECTORY.to_owned()));
        } else {
            return reply.error(Errno::ENOTDIR);
        }
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (position, (inode, kind, name)) in entries.into_iter().enumerate().skip(skip) {
            if reply.add(inode, position as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        answer_or!(self, reply);
        let files = self.files();
        let used: usize = files.iter().flatten().map(|file| file.content.len()).sum();
        let blocks = (MAX_FILES * MAX_FILE_BYTES / 4096) as u64;
        let free = blocks - used.div_ceil(4096) as u64;
        let inodes = MAX_FILES as u64;
        let free_inodes = inodes - files.iter().flatten().count() as u64;
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
