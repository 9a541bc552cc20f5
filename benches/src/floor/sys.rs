//! Bare system calls, checked, and the small tools made of them.
#![allow(clippy::print_stderr, reason = "the failing step")]

use std::ffi::CStr;
use std::fmt::Display;
use std::io::Error;
use std::ptr::null;

use libc::{
    CLONE_VM, MNT_DETACH, MS_BIND, O_CLOEXEC, O_DIRECT, O_RDONLY, SIGCHLD, SIGKILL, c_int, c_ulong,
    c_void, pid_t,
};

use crate::phases::phase_under_way;

/// A system call as libc has it, not checked.
macro_rules! call {
    ($name:ident $arguments:tt) => {
        // SAFETY: every pointer comes from a `CStr`, or from a live variable that the call fits into
        // or whose size it is given; descriptors and pids are the caller's own; with one thread in
        // each process there is nobody whom a fork or a change of namespace could surprise. What
        // lets `clone` share the memory is said in `spawn`.
        unsafe { libc::$name $arguments }
    };
}

/// A system call that must not fail: else the program ends and says what and where it was.
macro_rules! sys {
    ($name:ident $arguments:tt) => {
        match call!($name $arguments) {
            -1 => {
                let step =
                    concat!(stringify!($name $arguments), " in ", file!(), " line ", line!());
                $crate::sys::fail(step, std::io::Error::last_os_error())
            }
            ret => ret,
        }
    };
}

/// What the marker file holds: nonce and generation.
pub(crate) type Marker = [u64; 2];

/// What a read of it gave, or the errno.
pub(crate) type Seen = Result<Marker, c_int>;

/// Ends the process, naming the failed step.
pub(crate) fn fail(step: &str, reason: impl Display) -> ! {
    eprintln!("floor: {}: {step}: {reason}", phase_under_way());
    exit(1)
}

/// Without exit handlers, which belong to the process forked from.
pub(crate) fn exit(status: c_int) -> ! {
    call!(_exit(status))
}

fn errno() -> c_int {
    Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// A stack for [`spawn`]; pages not touched cost nothing. It is never freed.
pub(crate) type Stack = &'static mut std::mem::MaybeUninit<[u128; 4096]>;

pub(crate) fn new_stack() -> Stack {
    Box::leak(Box::new_uninit())
}

/// Starts a process that shares this one's memory, as `vfork` does, but runs beside it.
pub(crate) fn spawn<T>(
    entry: extern "C" fn(*mut c_void) -> c_int,
    argument: &mut T,
    stack: Stack,
    flags: c_int,
) -> pid_t {
    let base: *mut [u128; 4096] = stack.as_mut_ptr();
    // SAFETY: one past the end, where a stack that grows downwards begins.
    let top = unsafe { base.add(1) };
    let argument: *mut T = argument;
    // The child has a stack of its own that is never freed, and uses nothing else but its argument,
    // which the caller keeps until the child is done with it. It does not allocate. The processes
    // share `errno`, so at any time only one of them makes a call that may fail and is looked at:
    // the others sleep in a read that does not.
    sys!(clone(entry, top.cast(), CLONE_VM | SIGCHLD | flags, argument.cast()))
}

/// Waits for a child: its exit status, or 128 and more for a signal.
pub(crate) fn reap(child: pid_t) -> c_int {
    let mut status = 0;
    sys!(waitpid(child, &mut status, 0));
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// Kills a child, waits until it has gone, and with it the pid namespace it was process 1 of.
pub(crate) fn kill(child: pid_t) {
    sys!(kill(child, SIGKILL));
    let status = reap(child);
    if status != 128 + SIGKILL {
        fail("the killed process", format_args!("status {status}"));
    }
}

/// The monotonic clock in nanoseconds: the same in all processes.
pub(crate) fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    sys!(clock_gettime(libc::CLOCK_MONOTONIC, &mut time));
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Leaves nothing behind after an interrupted run: a child dies with its parent.
pub(crate) fn die_with_parent() {
    sys!(prctl(libc::PR_SET_PDEATHSIG, SIGKILL));
}

pub(crate) fn pin_to_this_cpu() {
    let cpu = sys!(sched_getcpu()) as usize;
    let mut mask = [0u64; 16];
    mask[cpu / 64 % 16] = 1 << (cpu % 64);
    sys!(sched_setaffinity(0, size_of_val(&mask), mask.as_ptr().cast()));
}

/// Sets the effective user of this process alone, keeping the real and the saved one.
pub(crate) fn become_user(uid: libc::uid_t) {
    const KEEP: libc::uid_t = libc::uid_t::MAX;
    sys!(syscall(libc::SYS_setresuid, KEEP, uid, KEEP));
}

/// `data` is null or NUL-terminated.
pub(crate) fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: c_ulong,
    data: *const c_void,
) {
    if call!(mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data)) == -1 {
        let error = Error::last_os_error();
        fail("mount", format_args!("{source:?} on {target:?}, flags {flags:#x}: {error}"));
    }
}

pub(crate) fn bind(source: &CStr, target: &CStr, recursive: c_ulong) {
    mount(source, target, c"", MS_BIND | recursive, null());
}

pub(crate) fn set_propagation(target: &CStr, flags: c_ulong) {
    mount(c"", target, c"", flags, null());
}

pub(crate) fn umount(target: &CStr) {
    sys!(umount2(target.as_ptr(), MNT_DETACH));
}

pub(crate) fn open(path: &CStr, flags: c_int) -> c_int {
    match call!(open(path.as_ptr(), flags | O_CLOEXEC, 0o644)) {
        -1 => fail("open", format_args!("{path:?}: {}", Error::last_os_error())),
        file => file,
    }
}

/// Reads the marker from its beginning through an open file.
pub(crate) fn read_marker(file: c_int) -> Seen {
    let mut marker = Marker::default();
    let size = size_of_val(&marker);
    match call!(pread(file, marker.as_mut_ptr().cast(), size, 0)) {
        -1 => Err(errno()),
        _ => Ok(marker),
    }
}

/// Opens the marker, in the current namespace and as the current user, and reads it.
pub(crate) fn look(path: &CStr) -> Seen {
    let file = call!(open(path.as_ptr(), O_RDONLY | O_CLOEXEC | O_DIRECT));
    if file == -1 {
        return Err(errno());
    }
    let seen = read_marker(file);
    sys!(close(file));
    seen
}

/// Not checked: a failure can be what is expected. `T` is a plain number.
pub(crate) fn read<T>(file: c_int, buffer: &mut [T]) -> isize {
    call!(read(file, buffer.as_mut_ptr().cast(), size_of_val(buffer)))
}

pub(crate) fn write<T>(file: c_int, data: &[T]) {
    sys!(write(file, data.as_ptr().cast(), size_of_val(data)));
}

pub(crate) fn pipe() -> [c_int; 2] {
    let mut ends = [0; 2];
    sys!(pipe2(ends.as_mut_ptr(), O_CLOEXEC));
    ends
}
