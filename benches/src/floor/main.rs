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
//! `--processes` makes the namespaces and processes that the tool makes, and still nothing else:
//! the node has mount, pid and uts namespaces, every container a program that is process 1 of a pid
//! namespace of its own. The programs of the consumers read the marker themselves, besides the
//! observer who enters by `setns`; each has a process beside it that holds a descriptor; one more
//! consumer starts while the mount is stale; and user 1000 reads too. They share one memory and
//! stay on one CPU all the same, and are told when to read instead of watching the mounts.
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

use std::process::ExitCode;

#[cfg(target_os = "linux")]
#[macro_use]
mod sys;
#[cfg(target_os = "linux")]
mod command;
#[cfg(target_os = "linux")]
mod node;
#[cfg(target_os = "linux")]
mod phases;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
mod producer;
#[cfg(target_os = "linux")]
mod program;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    command::main()
}

/// Only Linux has mount namespaces.
#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    ExitCode::from(2)
}
