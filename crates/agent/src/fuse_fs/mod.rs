//! The producer's filesystem: a marker to read, a file to write, and nothing cached, so that every
//! access tells whether the daemon lives.

mod behaviour;
mod directory;
mod metadata;

use std::ffi::OsStr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use propagation_model::marker::Marker;
use propagation_model::plan::Operation;

pub(crate) use behaviour::Behaviour;
use behaviour::Reply;
use directory::Directory;
pub(crate) use directory::SUBDIRECTORY;
use fuser::{
    FileHandle, Filesystem, INodeNo, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyPoll, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use metadata::Change;

/// A filesystem with a marker; faults can change its answers.
#[derive(Debug)]
pub(crate) struct MarkerFilesystem {
    /// Shared with answers that are given later.
    directory: Arc<Directory>,
    behaviour: Arc<Behaviour>,
    /// Is told the number of the first request, once.
    first: Mutex<Option<Sender<u64>>>,
}

impl MarkerFilesystem {
    /// A filesystem with a marker and an empty writable file, owned by `owner` (user and group).
    pub(crate) fn new(marker: &Marker, owner: (u32, u32), behaviour: Arc<Behaviour>) -> Self {
        let directory = Directory::new(marker, owner);
        Self { directory: Arc::new(directory), behaviour, first: Mutex::new(None) }
    }

    /// Tells the number of the first request that arrives.
    pub(crate) fn tell_first(&mut self, first: Sender<u64>) {
        self.first = Mutex::new(Some(first));
    }

    /// Answers a request by `work` on the directory, as faults have told it to.
    fn answer<R: Reply>(
        &self,
        request: &Request,
        operation: Operation,
        reply: R,
        work: impl FnOnce(&Directory, R) + Send + 'static,
    ) {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(first) = first {
            // Who asked may have given up.
            let _ = first.send(request.unique().into());
        }
        let directory = Arc::clone(&self.directory);
        self.behaviour.answer(operation, reply, move |reply| work(&directory, reply));
    }
}

impl Filesystem for MarkerFilesystem {
    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        self.answer(req, Operation::Lookup, reply, move |directory, reply| {
            directory.lookup(parent, &name, reply)
        });
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.answer(req, Operation::Getattr, reply, move |directory, reply| {
            directory.getattr(ino, reply)
        });
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = Change { mode, uid, gid, size, modified };
        self.answer(req, Operation::Setattr, reply, move |directory, reply| {
            directory.setattr(ino, &change, reply)
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.answer(req, Operation::Open, reply, move |directory, reply| {
            directory.open(ino, reply)
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let name = name.to_owned();
        self.answer(req, Operation::Create, reply, move |directory, reply| {
            directory.create(parent, &name, reply)
        });
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.answer(req, Operation::Unlink, reply, move |directory, reply| {
            directory.unlink(parent, &name, reply)
        });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.answer(req, Operation::Read, reply, move |directory, reply| {
            directory.read(ino, offset, size, reply)
        });
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = data.to_vec();
        self.answer(req, Operation::Write, reply, move |directory, reply| {
            directory.write(ino, offset, &data, reply)
        });
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
        req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.answer(req, Operation::Fsync, reply, move |directory, reply| directory.fsync(reply));
    }

    fn readdir(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.answer(req, Operation::Readdir, reply, move |directory, reply| {
            directory.readdir(ino, offset, reply)
        });
    }

    fn statfs(&self, req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.answer(req, Operation::Statfs, reply, move |directory, reply| directory.statfs(reply));
    }

    /// Never ready: a process that polls a descriptor sleeps until the connection ends. So a consumer learns of
    /// the daemon's death without polling in a loop.
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
