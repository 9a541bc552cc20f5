//! What the filesystem serves: a directory of files in memory, and the answers to requests about them.

use std::ffi::OsStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite,
};
use propagation_model::marker::{MARKER_FILE, Marker};

use super::metadata::{Change, Metadata};

/// How long the kernel may keep names and attributes: not at all, or a stat(2) of a dead mount would
/// succeed for a while. Content is never kept either (direct I/O).
const KEEP: Duration = Duration::ZERO;

/// The largest file a consumer can write: the filesystem lives in memory.
const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;

/// The most files in the directory.
const MAX_FILES: usize = 1024;

#[derive(Debug)]
struct File {
    /// The directory that it is in.
    parent: INodeNo,
    name: String,
    content: Vec<u8>,
    metadata: Metadata,
    /// Whether its content may be changed, whatever its mode.
    writable: bool,
}

impl File {
    fn is(&self, parent: INodeNo, name: &OsStr) -> bool {
        self.parent == parent && name == self.name.as_str()
    }
}

/// The directory in the root that has a marker of its own, for volumes with a subPath.
pub(crate) const SUBDIRECTORY: &str = "sub";

/// The inode number of that directory.
const SUBDIRECTORY_INODE: INodeNo = INodeNo(1 << 32);

/// One directory of files in memory, and one in it with a marker. The inode number of the file at
/// index `i` is `i + 2`, so that a successor that serves the same files knows the numbers the kernel
/// holds.
#[derive(Debug)]
pub(super) struct Directory {
    /// None where a file has been removed.
    files: Mutex<Vec<Option<File>>>,
    /// Of the root, and of the directory in it.
    directories: Mutex<[Metadata; 2]>,
    /// Who owns what is made.
    owner: (u32, u32),
    started: SystemTime,
}

impl Directory {
    /// A directory with a marker and an empty writable file, owned by `owner` (user and group).
    pub(super) fn new(marker: &Marker, owner: (u32, u32)) -> Self {
        let file = |parent, name: &str, content: String, writable| {
            let metadata = Metadata::new(if writable { 0o666 } else { 0o644 }, owner);
            let content = content.into_bytes();
            Some(File { parent, name: name.into(), content, metadata, writable })
        };
        // Everybody may make files in them: what a consumer may do is not what is tested.
        let directory = Metadata::new(0o777, owner);
        let below = marker.render_in(&format!("/{SUBDIRECTORY}"));
        let files = vec![
            file(INodeNo::ROOT, MARKER_FILE, marker.render(), false),
            file(INodeNo::ROOT, "scratch.txt", String::new(), true),
            file(SUBDIRECTORY_INODE, MARKER_FILE, below, false),
        ];
        Self {
            files: Mutex::new(files),
            directories: Mutex::new([directory; 2]),
            owner,
            started: directory.modified,
        }
    }

    fn files(&self) -> MutexGuard<'_, Vec<Option<File>>> {
        // A panic while the lock was held leaves files as they are: each change is one assignment.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directories(&self) -> MutexGuard<'_, [Metadata; 2]> {
        // As above.
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attributes_of_directory(&self, inode: INodeNo) -> Option<FileAttr> {
        let metadata = self.directories()[directory_of(inode)?];
        Some(metadata.attributes(inode, FileType::Directory, 0, self.started))
    }

    /// The attributes of what has a name in a directory.
    fn find(&self, parent: INodeNo, name: &OsStr) -> Option<FileAttr> {
        if parent == INodeNo::ROOT && name == SUBDIRECTORY {
            return self.attributes_of_directory(SUBDIRECTORY_INODE);
        }
        let files = self.files();
        let mut there = files.iter().enumerate().filter_map(|(i, file)| Some((i, file.as_ref()?)));
        let (index, file) = there.find(|(_, file)| file.is(parent, name))?;
        Some(self.file(inode_of(index), file))
    }

    /// The attributes of anything.
    fn attributes_of(&self, inode: INodeNo) -> Option<FileAttr> {
        if directory_of(inode).is_some() {
            return self.attributes_of_directory(inode);
        }
        let files = self.files();
        let file = files.get(index_of(inode)?)?.as_ref()?;
        Some(self.file(inode, file))
    }

    fn file(&self, inode: INodeNo, file: &File) -> FileAttr {
        let size = file.content.len() as u64;
        file.metadata.attributes(inode, FileType::RegularFile, size, self.started)
    }

    pub(super) fn lookup(&self, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent, name) {
            Some(attributes) => reply.entry(&KEEP, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    pub(super) fn getattr(&self, ino: INodeNo, reply: ReplyAttr) {
        match self.attributes_of(ino) {
            Some(attributes) => reply.attr(&KEEP, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    pub(super) fn setattr(&self, ino: INodeNo, change: &Change, reply: ReplyAttr) {
        if let Some(directory) = directory_of(ino) {
            if change.size.is_some() {
                return reply.error(Errno::EISDIR);
            }
            self.directories()[directory].apply(change);
            return self.getattr(ino, reply);
        }
        let mut files = self.files();
        let index = index_of(ino);
        let Some(file) = index.and_then(|index| files.get_mut(index)?.as_mut()) else {
            return reply.error(Errno::ENOENT);
        };
        if let Some(size) = change.size {
            match usize::try_from(size) {
                Ok(size) if file.writable && size <= MAX_FILE_BYTES => {
                    file.content.resize(size, 0);
                    file.metadata.modified = SystemTime::now();
                }
                Ok(_) if !file.writable => return reply.error(Errno::EACCES),
                _ => return reply.error(Errno::EFBIG),
            }
        }
        file.metadata.apply(change);
        reply.attr(&KEEP, &self.file(ino, file));
    }

    pub(super) fn open(&self, ino: INodeNo, reply: ReplyOpen) {
        match index_of(ino) {
            Some(index) if self.files().get(index).is_some_and(Option::is_some) => {
                reply.opened(FileHandle(0), OPENED);
            }
            _ => reply.error(Errno::ENOENT),
        }
    }

    pub(super) fn create(&self, parent: INodeNo, name: &OsStr, reply: ReplyCreate) {
        let Some(name) = name.to_str() else { return reply.error(Errno::EILSEQ) };
        let mut files = self.files();
        let free = files.iter().position(Option::is_none).unwrap_or(files.len());
        if parent != INodeNo::ROOT || free >= MAX_FILES {
            return reply.error(Errno::ENOSPC);
        }
        let metadata = Metadata::new(0o666, self.owner);
        let file =
            File { parent, name: name.into(), content: Vec::new(), metadata, writable: true };
        let attributes = self.file(inode_of(free), &file);
        if free == files.len() {
            files.push(Some(file));
        } else {
            files[free] = Some(file);
        }
        reply.created(&KEEP, &attributes, Generation(0), FileHandle(0), OPENED);
    }

    pub(super) fn unlink(&self, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut files = self.files();
        let named = |file: &Option<File>| file.as_ref().is_some_and(|file| file.is(parent, name));
        match files.iter().position(named) {
            Some(index) if files[index].as_ref().is_some_and(|file| file.writable) => {
                files[index] = None;
                reply.ok();
            }
            Some(_) => reply.error(Errno::EACCES),
            None => reply.error(Errno::ENOENT),
        }
    }

    pub(super) fn read(&self, ino: INodeNo, offset: u64, size: u32, reply: ReplyData) {
        let files = self.files();
        let Some(file) = index_of(ino).and_then(|index| files.get(index)?.as_ref()) else {
            return reply.error(Errno::ENOENT);
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.content.len());
        let end = start.saturating_add(size as usize).min(file.content.len());
        reply.data(&file.content[start..end]);
    }

    pub(super) fn write(&self, ino: INodeNo, offset: u64, data: &[u8], reply: ReplyWrite) {
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
        file.metadata.modified = SystemTime::now();
        reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX));
    }

    pub(super) fn fsync(&self, reply: ReplyEmpty) {
        reply.ok();
    }

    pub(super) fn readdir(&self, ino: INodeNo, offset: u64, mut reply: ReplyDirectory) {
        let dots = [".", ".."].map(|name| (ino, FileType::Directory, name.to_owned()));
        let mut entries = Vec::from(dots);
        if directory_of(ino).is_none() {
            return reply.error(Errno::ENOTDIR);
        }
        let files = self.files();
        let there = files.iter().enumerate().filter_map(|(i, file)| Some((i, file.as_ref()?)));
        let there = there.filter(|(_, file)| file.parent == ino);
        entries
            .extend(there.map(|(i, file)| (inode_of(i), FileType::RegularFile, file.name.clone())));
        drop(files);
        if ino == INodeNo::ROOT {
            entries.push((SUBDIRECTORY_INODE, FileType::Directory, SUBDIRECTORY.to_owned()));
        }
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (position, (inode, kind, name)) in entries.into_iter().enumerate().skip(skip) {
            if reply.add(inode, position as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    pub(super) fn statfs(&self, reply: ReplyStatfs) {
        let files = self.files();
        let used: usize = files.iter().flatten().map(|file| file.content.len()).sum();
        let blocks = (MAX_FILES * MAX_FILE_BYTES / 4096) as u64;
        let free = blocks - used.div_ceil(4096) as u64;
        let inodes = MAX_FILES as u64;
        let free_inodes = inodes - files.iter().flatten().count() as u64;
        reply.statfs(blocks, free, free, inodes, free_inodes, 4096, 255, 4096);
    }
}

/// Which of the two directories an inode number is of.
fn directory_of(inode: INodeNo) -> Option<usize> {
    [INodeNo::ROOT, SUBDIRECTORY_INODE].iter().position(|one| *one == inode)
}

fn inode_of(index: usize) -> INodeNo {
    INodeNo(index as u64 + 2)
}

/// Where the content of a file is.
fn index_of(inode: INodeNo) -> Option<usize> {
    usize::try_from(inode.0.checked_sub(2)?).ok()
}

/// Direct I/O: a read is answered by the daemon or not at all. No flush: closing a descriptor never
/// waits for the daemon.
const OPENED: FopenFlags = FopenFlags::FOPEN_DIRECT_IO.union(FopenFlags::FOPEN_NOFLUSH);
