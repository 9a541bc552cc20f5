//! The system calls that no library wraps.
#![allow(unsafe_code)] // fork, clone and mount_setattr have no safe wrapper anywhere

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

/// What [`fork`] returns in which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fork {
    /// In the new process.
    Child,
    /// In the old one, with the new one's id.
    Parent(Pid),
}

/// Copies the calling process.
///
/// # Errors
/// `EAGAIN` at the limit of processes, `ENOMEM`.
///
/// # Safety
/// The calling process has one thread: a lock that another one holds stays locked in the copy.
pub(crate) unsafe fn fork() -> Result<Fork, Errno> {
    // SAFETY: the caller's word.
    unsafe { clone(0) }
}

/// Copies the calling process; the copy is process 1 of a new pid namespace, so that its death ends
/// everything it has started.
///
/// # Errors
/// As [`fork`]; `EPERM` without `CAP_SYS_ADMIN`, `ENOSPC` at the limit of pid namespaces.
///
/// # Safety
/// As [`fork`].
pub(crate) unsafe fn fork_into_pid_namespace() -> Result<Fork, Errno> {
    // SAFETY: the caller's word.
    unsafe { clone(libc::CLONE_NEWPID) }
}

/// # Safety
/// As [`fork`].
unsafe fn clone(flags: libc::c_int) -> Result<Fork, Errno> {
    let flags = libc::c_ulong::try_from(flags | libc::SIGCHLD).unwrap_or_default();
    // SAFETY: without CLONE_VM this is fork: the child has its own copy of all memory, and the null
    // arguments ask for no new stack and no thread ids. No other thread holds a lock: the caller's word.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    match Errno::result(pid)? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)))),
    }
}

/// Ends the process at once, without running destructors of the parent's copies.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any value and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` on.
///
/// # Safety
/// Nothing that owns a descriptor of that range is used or dropped any more in this process.
pub(crate) unsafe fn close_from(first: RawFd) {
    let first = libc::c_uint::try_from(first).unwrap_or(3);
    // SAFETY: nobody has them: the caller's word. Failing leaves them open, which is harmless.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
}

/// Marks every descriptor from `first` on to be closed at the next exec.
pub(crate) fn close_on_exec_from(first: RawFd) {
    let number = libc::c_uint::try_from(first).unwrap_or(3);
    // SAFETY: CLOSE_RANGE_CLOEXEC only sets a flag on descriptors.
    let all = Errno::result(unsafe {
        libc::syscall(libc::SYS_close_range, number, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    });
    // Before Linux 5.11 the flag is set on one after the other.
    if all.is_err() {
        let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let numbers = open.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
        for number in numbers.filter(|number| *number >= first) {
            // SAFETY: F_SETFD only sets a flag on the descriptor, if it is one.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
}

/// Duplicates `descriptor` onto the number `target`, and keeps that number open at exec.
///
/// # Errors
/// As dup2(2).
///
/// # Safety
/// Whatever owns the number `target` in this process is used no more, or wants to go on with this
/// file; and if it closes the number, what is returned is not dropped.
pub(crate) unsafe fn duplicate_onto(
    descriptor: BorrowedFd<'_>,
    target: RawFd,
) -> Result<OwnedFd, Errno> {
    // SAFETY: dup2 takes any two numbers, and nobody misses what the target was: the caller's word.
    let result = unsafe { libc::dup2(descriptor.as_raw_fd(), target) };
    Errno::result(result)?;
    // SAFETY: dup2 made `target` an open descriptor, and nobody else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(target) })
}

/// Makes these the only descriptors beside the standard ones, with the numbers from 3 on, and keeps them
/// open at exec.
///
/// # Errors
/// `EMFILE` at the limit of open descriptors.
///
/// # Safety
/// Nothing else that owns a descriptor is used or dropped any more in this process, nor what owned these.
pub(crate) unsafe fn keep_only<const N: usize>(
    descriptors: [BorrowedFd<'_>; N],
) -> Result<[OwnedFd; N], Errno> {
    const FIRST: RawFd = 3;
    let mut high = Vec::with_capacity(N);
    for descriptor in descriptors {
        // Out of the way of the numbers to come.
        high.push(duplicate_above(descriptor, 64)?);
    }
    let mut next = FIRST;
    let mut kept = Vec::with_capacity(N);
    for descriptor in &high {
        // SAFETY: nobody uses what the number was: the caller's word.
        kept.push(unsafe { duplicate_onto(descriptor.as_fd(), next) }?);
        next += 1;
    }
    drop(high);
    // SAFETY: nobody uses the others: the caller's word.
    unsafe { close_from(next) };
    kept.try_into().map_err(|_| Errno::EINVAL)
}

/// Duplicates `descriptor` onto the first free number from `least` on; closed at exec.
///
/// # Errors
/// `EMFILE`, `EINVAL` when `least` is above the limit.
pub(crate) fn duplicate_above(descriptor: BorrowedFd<'_>, least: RawFd) -> Result<OwnedFd, Errno> {
    let number = nix::fcntl::fcntl(descriptor, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(least))?;
    // SAFETY: the call has just made this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes over the descriptor with a number that the process was started with.
///
/// # Errors
/// `EBADF` when no descriptor has the number.
///
/// # Safety
/// Nothing else in this process owns the number.
pub(crate) unsafe fn adopt(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: F_GETFD only asks whether the number is open.
    Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: it is open, and nobody else owns it: the caller's word.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// What mount_setattr(2) changes of a mount: `struct mount_attr` of linux/mount.h.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct MountAttributes {
    /// The flags to set, `MOUNT_ATTR_…`.
    pub(crate) set: u64,
    /// The flags to clear.
    pub(crate) clear: u64,
    /// The propagation to change to, one of `MS_…`; 0 leaves it.
    pub(crate) propagation: u64,
    /// The descriptor of a user namespace, for `MOUNT_ATTR_IDMAP` alone.
    pub(crate) user_namespace: u64,
}

/// Makes the mount at `path`, and all below it, read-only or writable, leaving other flags as they are.
///
/// # Errors
/// `ENOSYS` before Linux 5.12; `EINVAL` when nothing is mounted there; `EPERM` where another user
/// namespace has made it read-only.
pub(crate) fn set_read_only(path: &CStr, read_only: bool) -> Result<(), Errno> {
    const MOUNT_ATTR_RDONLY: u64 = 1;
    let attributes = match read_only {
        true => MountAttributes { set: MOUNT_ATTR_RDONLY, ..MountAttributes::default() },
        false => MountAttributes { clear: MOUNT_ATTR_RDONLY, ..MountAttributes::default() },
    };
    set_attributes(libc::AT_FDCWD, path, libc::AT_RECURSIVE, &attributes)
}

/// Changes the mount behind a descriptor alone.
///
/// # Errors
/// `ENOSYS` before Linux 5.12; `EINVAL` when the mount is in another mount namespace; `EPERM` where another
/// user namespace holds a flag.
pub(crate) fn set_attributes_of(
    mount: BorrowedFd<'_>,
    attributes: &MountAttributes,
) -> Result<(), Errno> {
    set_attributes(mount.as_raw_fd(), c"", libc::AT_EMPTY_PATH, attributes)
}

fn set_attributes(
    directory: RawFd,
    path: &CStr,
    flags: libc::c_int,
    attributes: &MountAttributes,
) -> Result<(), Errno> {
    // SAFETY: the path is a NUL-terminated string and the struct has the size that is passed; both
    // outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory,
            path.as_ptr(),
            flags,
            &raw const *attributes,
            size_of::<MountAttributes>(),
        )
    };
    Errno::result(result).map(drop)
}

/// Whether move_mount(2) knows a flag: the kernel refuses one that it does not know (EINVAL) before it looks
/// at the descriptors (EBADF). None without `CAP_SYS_ADMIN`, which it asks for first.
pub(crate) fn asks_move_mount(flag: libc::c_uint) -> Option<bool> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x04;
    const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH | flag;
    let (none, path) = (-1, c"");
    // SAFETY: the paths are NUL-terminated, and nothing is moved from a descriptor that is none.
    let result = unsafe {
        libc::syscall(libc::SYS_move_mount, none, path.as_ptr(), none, path.as_ptr(), flags)
    };
    match Errno::result(result) {
        Err(Errno::EBADF) => Some(true),
        Err(Errno::EINVAL | Errno::ENOSYS) => Some(false),
        _ => None,
    }
}

/// Brings up the loopback device of the calling process's network namespace, which has it down when
/// it is made.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` over the namespace.
pub(crate) fn raise_loopback() -> Result<(), Errno> {
    let flags = nix::sys::socket::SockFlag::SOCK_CLOEXEC;
    let kind = nix::sys::socket::SockType::Datagram;
    let socket =
        nix::sys::socket::socket(nix::sys::socket::AddressFamily::Unix, kind, flags, None)?;
    // SAFETY: every field of the struct is a number or made of numbers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(up).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the call reads the struct, which outlives it, and writes none of it.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    Errno::result(result).map(drop)
}

/// When a time from now will have passed, on the clock of [`now_ns`]; never, if it is long enough.
pub(crate) fn in_ms(milliseconds: u64) -> u64 {
    now_ns().saturating_add(milliseconds.saturating_mul(1_000_000))
}

/// Each mount view of a workload is a descriptor.
pub(crate) fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// The monotonic clock in nanoseconds: the same in every container of a node.
pub(crate) fn now_ns() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .unwrap_or_else(|_| nix::sys::time::TimeSpec::new(0, 0));
    let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or_default()
}
