//! Attributes of files, from the words of system calls to those of FUSE and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use rustix::fs::{Stat, Timespec, UTIME_NOW, UTIME_OMIT};

/// The attributes of a file as the kernel is told.
pub(super) fn attributes(ino: INodeNo, stat: &Stat) -> FileAttr {
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    FileAttr {
        ino,
        size: stat.st_size.try_into().unwrap_or_default(),
        blocks: stat.st_blocks.try_into().unwrap_or_default(),
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        crtime: UNIX_EPOCH,
        kind: kind(stat.st_mode),
        perm: u16::try_from(stat.st_mode & 0o7777).unwrap_or_default(),
        nlink: stat.st_nlink.try_into().unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: narrow(stat.st_rdev),
        blksize: 4096,
        flags: 0,
    }
}

fn time(seconds: i64, nanoseconds: u64) -> SystemTime {
    let part = Duration::new(seconds.unsigned_abs(), 0);
    let whole =
        if seconds < 0 { UNIX_EPOCH.checked_sub(part) } else { UNIX_EPOCH.checked_add(part) };
    whole.unwrap_or(UNIX_EPOCH) + Duration::from_nanos(nanoseconds)
}

/// A time that a request sets.
pub(super) fn timespec(time: Option<TimeOrNow>) -> Timespec {
    let (tv_sec, tv_nsec) = match time {
        None => (0, UTIME_OMIT),
        Some(TimeOrNow::Now) => (0, UTIME_NOW),
        Some(TimeOrNow::SpecificTime(time)) => {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            (since.as_secs().try_into().unwrap_or(i64::MAX), since.subsec_nanos().into())
        }
    };
    Timespec { tv_sec, tv_nsec }
}

/// The kind of a file with this mode.
pub(super) fn kind(mode: u32) -> FileType {
    kind_of_entry(rustix::fs::FileType::from_raw_mode(mode))
}

/// The kind of an entry of a directory.
pub(super) fn kind_of_entry(kind: rustix::fs::FileType) -> FileType {
    use rustix::fs::FileType as Kind;
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharacterDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}
