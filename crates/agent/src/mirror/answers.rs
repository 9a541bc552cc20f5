//! The answers to the kernel's requests: each is the same call on the directory that is shown.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno as FuseErrno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};
use nix::errno::Errno;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::attributes::attributes;
use super::operations::Change;
use super::{Mirror, lock};
use crate::mounts::{errno_of, to_nix};

/// How long the kernel may keep names and attributes: libfuse's default.
const KEEP: Duration = Duration::from_secs(1);

/// Answers with what a call gave.
macro_rules! answer {
    ($reply:ident, $result:expr, $good:pat => $answer:expr) => {
        match $result {
            Ok($good) => $answer,
            Err(errno) => $reply.error(fuse(errno)),
        }
    };
}

impl Filesystem for Mirror {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ATOMIC_O_TRUNC,
        ];
        for capability in wanted {
            // An older kernel does without.
            let _ = config.add_capabilities(capability);
        }
        if self.passthrough {
            config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).map_err(|_| {
                io::Error::other("FUSE passthrough: this kernel does not have it (Linux 6.9)")
            })?;
            let _ = config.set_max_stack_depth(2);
        }
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, self.entry(parent, name), found => reply.entry(&KEEP, &found, Generation(0)));
    }

    fn forget(&self, _request: &Request, inode: INodeNo, lookups: u64) {
        lock(&self.inodes).forget(inode, lookups);
    }

    fn getattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let opened = handle.and_then(|handle| self.file(handle.0).ok());
        let stat = match opened {
            Some(opened) => rustix::fs::fstat(&opened.file).map_err(to_nix),
            None => self.found(inode).and_then(|found| found.stat()),
        };
        answer!(reply, stat, stat => reply.attr(&KEEP, &attributes(inode, &stat)));
    }

    fn setattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _checked: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = Change { mode, uid, gid, size, accessed, modified };
        let changed = self.change(inode, &change, handle.map(|handle| handle.0));
        answer!(reply, changed, attributes => reply.attr(&KEEP, &attributes));
    }

    fn readlink(&self, _request: &Request, inode: INodeNo, reply: ReplyData) {
        let read = self.found(inode).and_then(|found| found.link_target());
        answer!(reply, read, target => reply.data(target.to_bytes()));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.child(parent, name).and_then(|path| {
            let mode = Mode::from_raw_mode(mode & !umask);
            let (directory, name) = self.root.parent(&path)?;
            rustix::fs::mkdirat(directory, name, mode).map_err(to_nix)?;
            self.give(&path, request)?;
            self.entry(parent, name)
        });
        answer!(reply, made, made => reply.entry(&KEEP, &made, Generation(0)));
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let made = self.child(parent, name).and_then(|path| {
            let (directory, name) = self.root.parent(&path)?;
            rustix::fs::symlinkat(target, directory, name).map_err(to_nix)?;
            self.give(&path, request)?;
            self.entry(parent, name)
        });
        answer!(reply, made, made => reply.entry(&KEEP, &made, Generation(0)));
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.remove(parent, name, AtFlags::empty()), () => reply.ok());
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.remove(parent, name, AtFlags::REMOVEDIR), () => reply.ok());
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.rename_entry((parent, name), (new_parent, new_name), flags);
        answer!(reply, renamed, () => reply.ok());
    }

    fn open(&self, _request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let flags = OFlags::from_bits_retain(flags.0.cast_unsigned()) & OPENED_WITH;
        let opened = self.path(inode).and_then(|path| self.root.open(&path, flags, Mode::empty()));
        let file = match opened {
            Ok(file) => file,
            Err(errno) => return reply.error(fuse(errno)),
        };
        if !self.passthrough {
            let handle = FileHandle(self.keep(file, None));
            return reply.opened(handle, FopenFlags::empty());
        }
        match self.backing(inode, || reply.open_backing(&file)) {
            Ok(backing) => {
                let handle = FileHandle(self.keep(file, Some(Arc::clone(&backing))));
                reply.opened_passthrough(handle, FopenFlags::empty(), &backing);
            }
            Err(errno) => reply.error(fuse(errno)),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let flags = OFlags::from_bits_retain(flags.cast_unsigned()) & OPENED_WITH;
        let created = self.child(parent, name).and_then(|path| {
            let flags = flags | OFlags::CREATE | OFlags::EXCL;
            // Of the mode, openat2 takes the permissions alone.
            let mode = Mode::from_raw_mode(mode & !umask & 0o7777);
            let file = self.root.open(&path, flags, mode)?;
            self.give(&path, request)?;
            Ok((file, self.entry(parent, name)?))
        });
        let (file, made) = match created {
            Ok(created) => created,
            Err(errno) => return reply.error(fuse(errno)),
        };
        if !self.passthrough {
            let handle = FileHandle(self.keep(file, None));
            return reply.created(&KEEP, &made, Generation(0), handle, FopenFlags::empty());
        }
        match self.backing(made.ino, || reply.open_backing(&file)) {
            Ok(backing) => {
                let handle = FileHandle(self.keep(file, Some(Arc::clone(&backing))));
                let (generation, flags) = (Generation(0), FopenFlags::empty());
                reply.created_passthrough(&KEEP, &made, generation, handle, flags, &backing);
            }
            Err(errno) => reply.error(fuse(errno)),
        }
    }

    fn read(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let opened = match self.file(handle.0) {
            Ok(opened) => opened,
            Err(errno) => return reply.error(fuse(errno)),
        };
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(buffer.len().max(size as usize), 0);
            let block = &mut buffer[..size as usize];
            let read =
                rustix::io::retry_on_intr(|| rustix::io::pread(&opened.file, &mut *block, offset));
            answer!(reply, read.map_err(to_nix), length => reply.data(&block[..length]));
        });
    }

    fn write(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.file(handle.0).and_then(|opened| {
            let write = || rustix::io::pwrite(&opened.file, data, offset);
            rustix::io::retry_on_intr(write).map_err(to_nix)
        });
        let size = written.map(|size| u32::try_from(size).unwrap_or(u32::MAX));
        answer!(reply, size, size => reply.written(size));
    }

    fn flush(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Nothing is held back. Not to be asked again.
        reply.error(FuseErrno::ENOSYS);
    }

    fn release(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        lock(&self.files).remove(&handle.0);
        reply.ok();
    }

    fn fsync(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let synced = self.file(handle.0);
        let synced = synced.and_then(|opened| opened.file.sync_all().map_err(|e| errno_of(&e)));
        answer!(reply, synced, () => reply.ok());
    }

    fn opendir(&self, _request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        answer!(reply, self.list(inode), directory => {
            let handle = self.handle();
            lock(&self.directories).insert(handle, Arc::new(directory));
            reply.opened(FileHandle(handle), FopenFlags::empty());
        });
    }

    fn readdir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some(directory) = lock(&self.directories).get(&handle.0).cloned() else {
            return reply.error(FuseErrno::EBADF);
        };
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, (name, kind, number)) in directory.entries.iter().enumerate().skip(skip) {
            if reply.add(INodeNo(*number), index as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let Some(directory) = lock(&self.directories).get(&handle.0).cloned() else {
            return reply.error(FuseErrno::EBADF);
        };
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, (name, ..)) in directory.entries.iter().enumerate().skip(skip) {
            let next = index as u64 + 1;
            let is_dot = name == "." || name == "..";
            // The kernel is not told of these two.
            let found = match is_dot {
                true => self
                    .found(inode)
                    .and_then(|found| found.stat())
                    .map(|stat| attributes(inode, &stat)),
                false => self.entry(inode, name),
            };
            // What has gone since is left out.
            let Ok(found) = found else { continue };
            if reply.add(found.ino, next, name, &KEEP, &found, Generation(0)) {
                if !is_dot {
                    lock(&self.inodes).forget(found.ino, 1);
                }
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        lock(&self.directories).remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        answer!(reply, rustix::fs::fstatvfs(&self.root).map_err(to_nix), found => {
            let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
            reply.statfs(
                found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree,
                short(found.f_bsize), short(found.f_namemax), short(found.f_frsize),
            );
        });
    }
}

/// What of the flags of an opening is the file's business; the kernel sees to the rest.
const OPENED_WITH: OFlags = OFlags::RWMODE.union(OFlags::TRUNC).union(OFlags::SYNC);

thread_local! {
    /// What a thread reads into: as long as the longest read.
    static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn fuse(errno: Errno) -> FuseErrno {
    FuseErrno::from_i32(errno as i32)
}
