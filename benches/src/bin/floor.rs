//! The floor: what the kernel alone costs for the five phases of FUSE mount propagation.
//!
//! A real tool is compared with this program. It does, with raw calls and nothing else, what such a
//! tool cannot leave out: a node (mount namespace, tmpfs root, shared mounts), containers built in
//! the runtime's order, a FUSE filesystem served by hand from inside the producer's container, a
//! read of the marker by the node and by every consumer, `kill -9` of the producer (everybody must
//! get `ENOTCONN`), a second producer that repairs the mount (everybody must read generation 2), and
//! the teardown. A control container must never see the marker. Each result is checked; a surprise
//! ends the program with status 1 and the failing step on stderr.
//!
//! Where the kernel offers a cheaper way to the same result, the floor takes it:
//! - One process builds all containers and moves between them with `setns`, holding each by a
//!   descriptor: about 1 us, where a forked child costs 60. Only producers are processes, since they
//!   must be killed, and they share this one's memory, which saves copying and freeing it.
//! - Further late consumers are copies of the first one's namespace, made by a bare `unshare`.
//! - The run is pinned to one CPU, so that a FUSE round trip is two context switches and no wake-up
//!   of a sleeping CPU, which costs ten times as much in a virtual machine.
//! - The filesystem refuses `OPEN` and `FLUSH` with `ENOSYS` (the kernel then stops asking) and
//!   readers use `O_DIRECT`: each read is one `READ` that the producer answers, never the page cache.
//! - Many namespaces are dropped by several processes at once, which share the wait for RCU.
//!
//! Left out is all that is not the kernel's: no exec, no messages between processes, no mountinfo,
//! no probe children with deadlines, no container images, no report.
//!
//! Every lazy unmount and every dropped namespace waits for an expedited grace period, about 16 in a
//! run: 3 us each when the kernel thread behind it last ran on this CPU, 40 us when it has to be
//! woken on another. Totals therefore come in steps (0.4, 0.8 and 1.2 ms on the machine this was
//! written on), and a busy neighbour is seen at once. Compare medians, taken in turns.
//!
//! The clock runs in a fresh process per run, from its first step to the end of the teardown; the
//! fork that made it and its exit are outside. With `--rootless` the node's namespace goes with the
//! process and is not counted: only root may return to the namespace it came from.

#![allow(unsafe_code, reason = "the program measures bare system calls")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the result and the failing step")]

use std::ffi::CStr;
use std::fmt::Display;
use std::io::{Error, Write};
use std::process::ExitCode;
use std::ptr::null;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use libc::{
    CLONE_FILES, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_VM, ENOENT, ENOSYS, ENOTCONN,
    MNT_DETACH, MS_BIND, MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, O_CLOEXEC, O_CREAT, O_DIRECT,
    O_PATH, O_RDONLY, O_RDWR, O_WRONLY, SIGCHLD, SIGKILL, c_int, c_ulong, c_void, pid_t,
};

const PHASES: [&str; 8] =
    ["node", "early", "producer", "late", "reads", "stale", "recovery", "teardown"];
const NODE_MARKER: &CStr = c"/tmp/bridge/dfs/producer-marker.txt";
const CONTAINER_MARKER: &CStr = c"/mnt/dfs/producer-marker.txt";

// The modes in which a container takes its volume.
const NONE: c_ulong = MS_PRIVATE;
const HOST_TO_CONTAINER: c_ulong = MS_SLAVE;
const BIDIRECTIONAL: c_ulong = MS_SHARED;

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
                let step = concat!(stringify!($name $arguments), " in line ", line!());
                fail(step, Error::last_os_error())
            }
            ret => ret,
        }
    };
}

/// What the marker file holds: nonce and generation.
type Marker = [u64; 2];

/// The phase under way, for the message of a failure.
static PHASE: AtomicUsize = AtomicUsize::new(0);

fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!("usage: floor [--runs N] [--consumers N] [--pidns] [--rootless]");
        return ExitCode::from(2);
    };
    let [results, sink] = pipe();
    let mut samples = vec![Vec::with_capacity(options.runs); PHASES.len() + 1];
    for _ in 0..options.runs {
        let child = sys!(fork());
        if child == 0 {
            run(&options, sink);
        }
        match reap(child) {
            0 => {}
            1 => return ExitCode::FAILURE, // the run has named the step
            status => fail("a run", format_args!("ended with status {status}")),
        }
        let mut nanos = [0u64; PHASES.len() + 1];
        read(results, &mut nanos);
        std::iter::zip(&mut samples, nanos).for_each(|(samples, nanos)| samples.push(nanos));
    }
    samples.iter_mut().for_each(|samples| samples.sort_unstable());
    let micros = |samples: &[u64], percent: usize| {
        samples[(samples.len() * percent).div_ceil(100).max(1) - 1] as f64 / 1000.0
    };
    let phases: Vec<String> = std::iter::zip(PHASES, &samples)
        .map(|(name, samples)| format!("\"{name}\":{:.1}", micros(samples, 50)))
        .collect();
    let (phases, runs) = (phases.join(","), options.runs);
    let [median, p99, min] = [50, 99, 0].map(|percent| micros(&samples[PHASES.len()], percent));
    println!(
        "{{\"runs\":{runs},\"median_us\":{median:.1},\"p99_us\":{p99:.1},\"min_us\":{min:.1},\
         \"per_phase_median_us\":{{{phases}}}}}"
    );
    ExitCode::SUCCESS
}

struct Options {
    runs: usize,
    consumers: usize,
    pidns: bool,
    rootless: bool,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self { runs: 1, consumers: 1, pidns: false, rootless: false };
        while let Some(argument) = arguments.next() {
            let mut count = || arguments.next()?.parse().ok().filter(|&count| count > 0);
            match argument.as_str() {
                "--runs" => options.runs = count()?,
                "--consumers" => options.consumers = count()?,
                "--pidns" => options.pidns = true,
                "--rootless" => options.rootless = true,
                _ => return None,
            }
        }
        Some(options)
    }
}

// ---- one run -----------------------------------------------------------------------------------

fn run(options: &Options, sink: c_int) -> ! {
    let started = Instant::now();
    die_with_parent();
    pin_to_this_cpu();
    let descriptors = options.consumers as u64 + 64;
    if descriptors > 1024 {
        let limit = libc::rlimit { rlim_cur: descriptors, rlim_max: descriptors };
        sys!(setrlimit(libc::RLIMIT_NOFILE, &limit));
    }
    let outside = (!options.rootless).then(|| open(c"/proc/self/ns/mnt", O_RDONLY));
    let (uid, gid) = (call!(geteuid()), call!(getegid()));
    let user_flag = if options.rootless { CLONE_NEWUSER } else { 0 };
    let pid_flag = if options.pidns { CLONE_NEWPID } else { 0 };
    sys!(unshare(CLONE_NEWNS | user_flag | pid_flag));
    if options.rootless {
        let set = |path, content: &str| write(open(path, O_WRONLY), content.as_bytes());
        set(c"/proc/self/setgroups", "deny");
        set(c"/proc/self/uid_map", &format!("0 {uid} 1"));
        set(c"/proc/self/gid_map", &format!("0 {gid} 1"));
    }
    let send_total = || write(sink, &[started.elapsed().as_nanos() as u64]);
    if options.pidns {
        let init = sys!(fork());
        if init != 0 {
            let status = reap(init);
            send_total();
            exit(status);
        }
        die_with_parent();
    }
    write(sink, &phases(options, outside, started));
    if !options.pidns {
        send_total();
    }
    exit(0)
}

/// All phases; their durations in nanoseconds.
fn phases(options: &Options, outside: Option<c_int>, started: Instant) -> [u64; PHASES.len()] {
    let mut laps = [0; PHASES.len()];
    let mut last = started;
    let mut lap = || {
        let now = Instant::now();
        laps[PHASE.fetch_add(1, Relaxed)] = (now - last).as_nanos() as u64;
        last = now;
    };
    let proc_self = open(c"/proc/self", O_PATH);
    let hold = || sys!(openat(proc_self, c"ns/mnt".as_ptr(), O_RDONLY | O_CLOEXEC));
    build_node();
    let node = hold();
    lap();

    start_container(node, NONE);
    let control = hold();
    start_container(node, HOST_TO_CONTAINER);
    let early = hold();
    lap();

    let nonce = u64::from(std::process::id()) << 32 | started.elapsed().as_nanos() as u64;
    start_container(node, BIDIRECTIONAL);
    let producer = start_producer([nonce, 1]);
    lap();

    let mut consumers = Vec::with_capacity(options.consumers + 1);
    consumers.push(early);
    start_container(node, HOST_TO_CONTAINER);
    consumers.push(hold());
    for _ in 1..options.consumers {
        sys!(unshare(CLONE_NEWNS));
        consumers.push(hold());
    }
    lap();

    everybody_sees(node, &consumers, Ok([nonce, 1]));
    sees("control", control, CONTAINER_MARKER, Err(ENOENT));
    lap();

    kill(producer);
    everybody_sees(node, &consumers, Err(ENOTCONN));
    lap();

    start_container(node, BIDIRECTIONAL);
    umount(c"/mnt/dfs"); // the stale mount, which the recursive bind brought along
    let producer = start_producer([nonce, 2]);
    everybody_sees(node, &consumers, Ok([nonce, 2]));
    sees("control", control, CONTAINER_MARKER, Err(ENOENT));
    lap();

    kill(producer);
    sees("node", node, NODE_MARKER, Err(ENOTCONN));
    umount(c"/tmp/bridge/dfs");
    sees("node", node, NODE_MARKER, Err(ENOENT));
    sys!(close(control));
    close_all(&consumers);
    if let Some(outside) = outside {
        sys!(setns(outside, CLONE_NEWNS));
    }
    sys!(close(node));
    lap();
    laps
}

/// A private copy of the outside with a tmpfs as its root and everything on it shared.
fn build_node() {
    set_propagation(c"/", MS_REC | MS_PRIVATE);
    mount(c"floor", c"/tmp", c"tmpfs", 0, null());
    sys!(chdir(c"/tmp".as_ptr()));
    for path in [c"dev", c"run", c"run/root", c"run/root/dev", c"run/root/mnt"] {
        sys!(mkdir(path.as_ptr(), 0o755));
    }
    for path in [c"tmp", c"tmp/bridge", c"tmp/bridge/dfs"] {
        sys!(mkdir(path.as_ptr(), 0o755));
    }
    for path in [c"dev/fuse", c"run/root/dev/fuse"] {
        sys!(close(open(path, O_CREAT | O_WRONLY)));
    }
    bind(c"/dev/fuse", c"dev/fuse", 0);
    // Containers' roots lie on a mount of their own, as on a real node: a Bidirectional container
    // must make it private while the bridge stays shared.
    bind(c"run", c"run", 0);
    pivot_here();
    set_propagation(c"/", MS_REC | MS_SHARED);
}

/// Leaves the caller in a new container of `node`, made in the runtime's order.
fn start_container(node: c_int, volume: c_ulong) {
    sys!(setns(node, CLONE_NEWNS));
    let mut status = std::mem::MaybeUninit::uninit();
    sys!(stat(c"/tmp/bridge".as_ptr(), status.as_mut_ptr()));
    sys!(unshare(CLONE_NEWNS));
    if volume == BIDIRECTIONAL {
        // A slave cannot send, so `/` stays shared. The mount that will hold the root must not.
        set_propagation(c"/", MS_REC | MS_SHARED);
        set_propagation(c"/run", MS_PRIVATE);
    } else {
        set_propagation(c"/", MS_REC | MS_SLAVE);
    }
    bind(c"/run/root", c"/run/root", 0);
    bind(c"/tmp/bridge", c"/run/root/mnt", MS_REC);
    set_propagation(c"/run/root/mnt", MS_REC | volume);
    if volume == BIDIRECTIONAL {
        bind(c"/dev/fuse", c"/run/root/dev/fuse", 0);
        // Else dropping the old root would unmount what is mounted on the node's. runc does this
        // after the pivot and for the whole tree; here only `/` has mounts on it.
        set_propagation(c"/", MS_SLAVE);
    }
    sys!(chdir(c"/run/root".as_ptr()));
    pivot_here();
}

fn everybody_sees(node: c_int, consumers: &[c_int], expected: Result<Marker, c_int>) {
    sees("node", node, NODE_MARKER, expected);
    sees("early consumer", consumers[0], CONTAINER_MARKER, expected);
    for &consumer in &consumers[1..] {
        sees("late consumer", consumer, CONTAINER_MARKER, expected);
    }
}

/// Reads the marker in a namespace and compares it, or the errno, with what is expected.
fn sees(who: &str, namespace: c_int, path: &CStr, expected: Result<Marker, c_int>) {
    sys!(setns(namespace, CLONE_NEWNS));
    let mut marker = Marker::default();
    let file = call!(open(path.as_ptr(), O_RDONLY | O_CLOEXEC | O_DIRECT));
    let length = if file == -1 { -1 } else { read(file, &mut marker) };
    let seen = if length == -1 { Err(errno()) } else { Ok(marker) };
    if file != -1 {
        sys!(close(file));
    }
    if seen != expected {
        fail(who, format_args!("saw {seen:?}, not {expected:?} (nonce and generation, or errno)"));
    }
}

/// Drops namespaces.
fn close_all(namespaces: &[c_int]) {
    const CLOSERS: usize = 8;
    let size = if namespaces.len() < 100 { 100 } else { namespaces.len().div_ceil(CLOSERS) };
    let mut shares = namespaces.chunks(size);
    let own = shares.next();
    let mut shares: Vec<&[c_int]> = shares.collect();
    let spawn_closer = |share| spawn(close_share, share, CLONE_FILES);
    let closers: Vec<pid_t> = shares.iter_mut().map(spawn_closer).collect();
    for &namespace in own.into_iter().flatten() {
        sys!(close(namespace));
    }
    for closer in closers {
        if reap(closer) != 0 {
            exit(1); // it has named the step
        }
    }
}

extern "C" fn close_share(share: *mut c_void) -> c_int {
    // SAFETY: `close_all` passes this type and waits for the end of this process.
    for &namespace in unsafe { *share.cast::<&[c_int]>() } {
        sys!(close(namespace));
    }
    0
}

// ---- the producer ------------------------------------------------------------------------------

/// Starts a producer in the current container; returns when its mount is there.
fn start_producer(marker: Marker) -> pid_t {
    let [from_child, to_parent] = pipe();
    let mut order = (marker, to_parent);
    let child = spawn(produce, &mut order, 0);
    sys!(close(to_parent));
    if read(from_child, &mut [0u8]) != 1 {
        fail("start the producer", "it ended before its mount was there");
    }
    sys!(close(from_child));
    child
}

extern "C" fn produce(order: *mut c_void) -> c_int {
    // SAFETY: `start_producer` passes this type and keeps it until the mount is reported.
    let (marker, to_parent) = unsafe { *order.cast::<(Marker, c_int)>() };
    die_with_parent();
    let fuse = open(c"/dev/fuse", O_RDWR);
    let mut data = [0u8; 80];
    let fixed = "rootmode=40000,user_id=0,group_id=0,allow_other";
    if write!(&mut data[..], "fd={fuse},{fixed}\0").is_err() {
        fail("mount fuse", "the options do not fit");
    }
    mount(c"floor", c"/mnt/dfs", c"fuse", 0, data.as_ptr().cast());
    write(to_parent, &[1u8]);
    serve(fuse, marker)
}

/// Answers the FUSE protocol (`linux/fuse.h`, little-endian) until killed: a root, inode 1, with
/// one file, inode 2. Replies are built of 64-bit words, two fields in a word where they are short.
fn serve(fuse: c_int, marker: Marker) -> ! {
    const LOOKUP: u32 = 1;
    const FORGET: u32 = 2;
    const GETATTR: u32 = 3;
    const READ: u32 = 15;
    const STATFS: u32 = 17;
    const INIT: u32 = 26;
    const INTERRUPT: u32 = 36;
    const BATCH_FORGET: u32 = 42;
    // Names and attributes stay valid for an hour: longer than any run.
    const ROOT: [u64; 13] = [3600, 0, 1, 0, 0, 0, 0, 0, 0, 0o040_755 << 32, 2, 0, 4096];
    const FILE: [u64; 13] = [3600, 0, 2, 16, 1, 0, 0, 0, 0, 0o100_444 << 32, 1, 0, 4096];
    let mut entry = [2, 0, 3600, 3600, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    entry[5..].copy_from_slice(&FILE[2..]);
    let mut request = [0u8; 8192]; // FUSE_MIN_READ_BUFFER
    loop {
        let length = sys!(read(fuse, request.as_mut_ptr().cast(), request.len())) as usize;
        let word = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap_or([0; 8]));
        let (opcode, unique, inode, offset) = ((word(0) >> 32) as u32, word(8), word(16), word(48));
        let (errno, body): (c_int, &[u64]) = match opcode {
            INIT => (0, &[31 << 32 | 7, 0, 4096 << 32, 0, 0, 0, 0, 0]), // 7.31, max_write 4096
            LOOKUP if inode == 1 && &request[40..length] == b"producer-marker.txt\0" => (0, &entry),
            LOOKUP => (ENOENT, &[]),
            GETATTR => (0, if inode == 1 { &ROOT } else { &FILE }),
            READ => (0, if offset == 0 { &marker } else { &[] }),
            STATFS => (0, &[0; 10]),
            FORGET | BATCH_FORGET | INTERRUPT => continue, // need no answer
            _ => (ENOSYS, &[]),
        };
        let mut reply = [0u64; 18];
        reply[0] = u64::from(-errno as u32) << 32 | (16 + size_of_val(body) as u64);
        reply[1] = unique;
        reply[2..2 + body.len()].copy_from_slice(body);
        write(fuse, &reply[..2 + body.len()]);
    }
}

// ---- small tools -------------------------------------------------------------------------------

/// Ends the process, naming the failed step.
fn fail(step: &str, reason: impl Display) -> ! {
    let phase = PHASES.get(PHASE.load(Relaxed)).unwrap_or(&"end");
    eprintln!("floor: {phase}: {step}: {reason}");
    exit(1)
}

/// Without exit handlers, which belong to the process forked from.
fn exit(status: c_int) -> ! {
    call!(_exit(status))
}

fn errno() -> c_int {
    Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Starts a process that shares this one's memory, as `vfork` does, but runs beside it.
fn spawn<T>(entry: extern "C" fn(*mut c_void) -> c_int, argument: &mut T, flags: c_int) -> pid_t {
    let stack = Box::leak(Box::<[u128; 4096]>::new_uninit()); // pages not touched cost nothing
    // SAFETY: one past the end, where a stack that grows downwards begins.
    let top = unsafe { stack.as_mut_ptr().add(1) };
    let argument: *mut T = argument;
    // The child has a stack of its own that is never freed, and uses nothing else but its argument,
    // which the caller keeps until the child is done with it. It does not allocate, and writes the
    // shared `errno` only when a call of its own fails, which fails the run.
    sys!(clone(entry, top.cast(), CLONE_VM | SIGCHLD | flags, argument.cast()))
}

/// Waits for a child: its exit status, or 128 and more for a signal.
fn reap(child: pid_t) -> c_int {
    let mut status = 0;
    sys!(waitpid(child, &mut status, 0));
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

fn kill(child: pid_t) {
    sys!(kill(child, SIGKILL));
    let status = reap(child);
    if status != 128 + SIGKILL {
        fail("the killed producer", format_args!("status {status}"));
    }
}

/// Leaves nothing behind after an interrupted run: a child dies with its parent.
fn die_with_parent() {
    sys!(prctl(libc::PR_SET_PDEATHSIG, SIGKILL));
}

fn pin_to_this_cpu() {
    let cpu = sys!(sched_getcpu()) as usize;
    let mut mask = [0u64; 16];
    mask[cpu / 64 % 16] = 1 << (cpu % 64);
    sys!(sched_setaffinity(0, size_of_val(&mask), mask.as_ptr().cast()));
}

/// `data` is null or NUL-terminated.
fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: c_ulong, data: *const c_void) {
    if call!(mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data)) == -1 {
        let error = Error::last_os_error();
        fail("mount", format_args!("{source:?} on {target:?}, flags {flags:#x}: {error}"));
    }
}

fn bind(source: &CStr, target: &CStr, recursive: c_ulong) {
    mount(source, target, c"", MS_BIND | recursive, null());
}

fn set_propagation(target: &CStr, flags: c_ulong) {
    mount(c"", target, c"", flags, null());
}

fn umount(target: &CStr) {
    sys!(umount2(target.as_ptr(), MNT_DETACH));
}

/// Makes the working directory, a mountpoint, the root, and drops the old root, which `pivot_root`
/// leaves stacked on it.
fn pivot_here() {
    sys!(syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()));
    umount(c".");
}

fn open(path: &CStr, flags: c_int) -> c_int {
    match call!(open(path.as_ptr(), flags | O_CLOEXEC, 0o644)) {
        -1 => fail("open", format_args!("{path:?}: {}", Error::last_os_error())),
        file => file,
    }
}

/// Not checked: a failure can be what is expected. `T` is a plain number.
fn read<T>(file: c_int, buffer: &mut [T]) -> isize {
    call!(read(file, buffer.as_mut_ptr().cast(), size_of_val(buffer)))
}

fn write<T>(file: c_int, data: &[T]) {
    sys!(write(file, data.as_ptr().cast(), size_of_val(data)));
}

fn pipe() -> [c_int; 2] {
    let mut ends = [0; 2];
    sys!(pipe2(ends.as_mut_ptr(), O_CLOEXEC));
    ends
}
