//! One run: its process, its clock, and the phases with as few processes as the kernel allows.

use std::ffi::CStr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use libc::{
    CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS, ENOENT, ENOTCONN, O_CLOEXEC, O_PATH,
    O_RDONLY, O_WRONLY, c_int,
};

use crate::command::Options;
use crate::node::{
    BIDIRECTIONAL, CONTAINER_MARKER, HOST_TO_CONTAINER, NODE_MARKER, NONE, build_node, close_all,
    start_container,
};
use crate::processes;
use crate::producer::start_producer;
use crate::sys::{
    Marker, Seen, die_with_parent, exit, fail, kill, look, open, pin_to_this_cpu, reap, umount,
    write,
};

/// The parts of a run that are timed.
pub(crate) const PHASES: [&str; 8] =
    ["node", "early", "producer", "late", "reads", "stale", "recovery", "teardown"];

/// What is timed besides with `--processes`: from a mount or the kill to the end of a consumer's
/// own read, which it is told to make at once.
pub(crate) const LATENCIES: [&str; 3] = ["mount_to_read", "kill_to_enotconn", "remount_to_read"];

/// How many numbers a run gives, beside its total time.
pub(crate) const VALUES: usize = PHASES.len() + LATENCIES.len();

/// The phase under way.
static PHASE: AtomicUsize = AtomicUsize::new(0);

/// Its name, for the message of a failure.
pub(crate) fn phase_under_way() -> &'static str {
    PHASES.get(PHASE.load(Relaxed)).unwrap_or(&"end")
}

/// The times of a run, in nanoseconds.
pub(crate) struct Times {
    values: [u64; VALUES],
    started: Instant,
    last: Instant,
}

impl Times {
    fn starting_at(started: Instant) -> Self {
        Self { values: [0; VALUES], started, last: started }
    }

    /// Ends the phase under way.
    pub(crate) fn lap(&mut self) {
        let now = Instant::now();
        self.values[PHASE.fetch_add(1, Relaxed)] = (now - self.last).as_nanos() as u64;
        self.last = now;
    }

    /// Notes the time between two readings of the clock as one of the [`LATENCIES`].
    pub(crate) fn latency(&mut self, which: usize, from_ns: u64, to_ns: u64) {
        self.values[PHASES.len() + which] = to_ns.saturating_sub(from_ns);
    }

    /// A number that no other run has.
    pub(crate) fn nonce(&self) -> u64 {
        u64::from(std::process::id()) << 32 | self.started.elapsed().as_nanos() as u64
    }
}

/// Does one run and ends the process. Its times and its total go into `sink`.
pub(crate) fn run(options: &Options, sink: c_int) -> ! {
    let started = Instant::now();
    die_with_parent();
    pin_to_this_cpu();
    let descriptors = options.consumers as u64 + 64;
    if descriptors > 1024 {
        let limit = libc::rlimit { rlim_cur: descriptors, rlim_max: descriptors };
        sys!(setrlimit(libc::RLIMIT_NOFILE, &limit));
    }
    // A node that is a pid namespace ends with its process 1, and all that is in it.
    let own_pids = options.pidns || options.processes;
    let stays_outside = !options.rootless && !options.processes;
    let outside = stays_outside.then(|| open(c"/proc/self/ns/mnt", O_RDONLY));
    let (uid, gid) = (call!(geteuid()), call!(getegid()));
    let when = |wanted: bool, flag: c_int| if wanted { flag } else { 0 };
    sys!(unshare(
        CLONE_NEWNS
            | when(options.rootless, CLONE_NEWUSER)
            | when(own_pids, CLONE_NEWPID)
            | when(options.processes, CLONE_NEWUTS)
    ));
    if options.rootless {
        let set = |path, content: &str| write(open(path, O_WRONLY), content.as_bytes());
        set(c"/proc/self/setgroups", "deny");
        set(c"/proc/self/uid_map", &format!("0 {uid} 1"));
        set(c"/proc/self/gid_map", &format!("0 {gid} 1"));
    }
    let send_total = || write(sink, &[started.elapsed().as_nanos() as u64]);
    if own_pids {
        let init = sys!(fork());
        if init != 0 {
            let status = reap(init);
            send_total();
            exit(status);
        }
        die_with_parent();
    }
    let mut times = Times::starting_at(started);
    if options.processes {
        processes::phases(options, &mut times);
    } else {
        phases(options, outside, &mut times);
    }
    write(sink, &times.values);
    if !own_pids {
        send_total();
    }
    exit(0)
}

/// All phases.
fn phases(options: &Options, outside: Option<c_int>, times: &mut Times) {
    let proc_self = open(c"/proc/self", O_PATH);
    let hold = || own_namespace(proc_self);
    build_node();
    let node = hold();
    times.lap();

    start_container(node, NONE);
    let control = hold();
    start_container(node, HOST_TO_CONTAINER);
    let early = hold();
    times.lap();

    let nonce = times.nonce();
    start_container(node, BIDIRECTIONAL);
    let (producer, _) = start_producer([nonce, 1], 0);
    times.lap();

    let mut consumers = Vec::with_capacity(options.consumers + 1);
    consumers.push(early);
    start_container(node, HOST_TO_CONTAINER);
    consumers.push(hold());
    for _ in 1..options.consumers {
        sys!(unshare(CLONE_NEWNS));
        consumers.push(hold());
    }
    times.lap();

    everybody_sees(node, &consumers, Ok([nonce, 1]));
    sees("control", control, CONTAINER_MARKER, Err(ENOENT));
    times.lap();

    kill(producer);
    everybody_sees(node, &consumers, Err(ENOTCONN));
    times.lap();

    start_container(node, BIDIRECTIONAL);
    umount(c"/mnt/dfs"); // the stale mount, which the recursive bind brought along
    let (producer, _) = start_producer([nonce, 2], 0);
    everybody_sees(node, &consumers, Ok([nonce, 2]));
    sees("control", control, CONTAINER_MARKER, Err(ENOENT));
    times.lap();

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
    times.lap();
}

/// A descriptor of the mount namespace that the caller is in.
pub(crate) fn own_namespace(proc_self: c_int) -> c_int {
    sys!(openat(proc_self, c"ns/mnt".as_ptr(), O_RDONLY | O_CLOEXEC))
}

/// Reads the marker from the node and from every consumer.
pub(crate) fn everybody_sees(node: c_int, consumers: &[c_int], expected: Result<Marker, c_int>) {
    sees("node", node, NODE_MARKER, expected);
    for &consumer in consumers {
        sees("consumer", consumer, CONTAINER_MARKER, expected);
    }
}

/// Reads the marker in a namespace and compares it, or the errno, with what is expected.
pub(crate) fn sees(who: &str, namespace: c_int, path: &CStr, expected: Seen) {
    sys!(setns(namespace, CLONE_NEWNS));
    check(who, look(path), expected);
}

/// Ends the program when something else was seen than expected.
pub(crate) fn check(who: &str, seen: Seen, expected: Seen) {
    if seen != expected {
        fail(who, format_args!("saw {seen:?}, not {expected:?} (nonce and generation, or errno)"));
    }
}
