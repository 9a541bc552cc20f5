//! The phases with the namespaces and processes that the tool makes.

use libc::{CLONE_NEWNS, CLONE_NEWPID, ENOENT, ENOTCONN, O_PATH, c_int, c_ulong};

use crate::command::Options;
use crate::node::{
    BIDIRECTIONAL, CONTAINER_MARKER, HOST_TO_CONTAINER, NODE_MARKER, NONE, build_node, close_all,
    start_container,
};
use crate::phases::{Times, check, everybody_sees, own_namespace, sees};
use crate::producer::start_producer;
use crate::program::Program;
use crate::sys::{Seen, become_user, die_with_parent, kill, now_ns, open, umount};

/// The user who reads too, as in the tool's plan.
const OTHER_USER: libc::uid_t = 1000;

/// A container with a program in it.
struct Container {
    namespace: c_int,
    program: Program,
}

/// All phases. The node and whatever still runs in it end with this process, which is process 1 of
/// its pid namespace.
pub(crate) fn phases(options: &Options, times: &mut Times) {
    let proc_self = open(c"/proc/self", O_PATH);
    let start = |node: c_int, volume: c_ulong| {
        start_container(node, volume);
        Container { namespace: own_namespace(proc_self), program: Program::start() }
    };
    build_node();
    let name = "floor";
    sys!(sethostname(name.as_ptr().cast(), name.len()));
    let node = own_namespace(proc_self);
    times.lap();

    let control = start(node, NONE);
    let early = start(node, HOST_TO_CONTAINER);
    times.lap();

    let nonce = times.nonce();
    start_container(node, BIDIRECTIONAL);
    let fresh = Ok([nonce, 1]);
    let (producer, mounted_at) = start_producer([nonce, 1], CLONE_NEWPID);
    let seen_at = own_read(&early, fresh);
    times.latency(0, mounted_at, seen_at);
    sees("node", node, NODE_MARKER, fresh);
    other_user_sees(node, NODE_MARKER, fresh);
    times.lap();

    let late = start(node, HOST_TO_CONTAINER);
    let mut consumers = vec![early.namespace, late.namespace];
    for _ in 1..options.consumers {
        sys!(unshare(CLONE_NEWNS));
        consumers.push(own_namespace(proc_self));
    }
    times.lap();

    let programs = [&early, &late];
    own_read(&late, fresh);
    own_read(&control, Err(ENOENT));
    everybody_sees(node, &consumers, fresh);
    sees("control", control.namespace, CONTAINER_MARKER, Err(ENOENT));
    for consumer in programs {
        other_user_sees(consumer.namespace, CONTAINER_MARKER, fresh);
        consumer.program.hold();
    }
    times.lap();

    let killed_at = now_ns();
    kill(producer);
    let seen_at = own_read(&early, Err(ENOTCONN));
    times.latency(1, killed_at, seen_at);
    own_read(&late, Err(ENOTCONN));
    for consumer in programs {
        check("held descriptor", consumer.program.read_held(), Err(ENOTCONN));
    }
    everybody_sees(node, &consumers, Err(ENOTCONN));
    sees("control", control.namespace, CONTAINER_MARKER, Err(ENOENT));
    let during_fault = start(node, HOST_TO_CONTAINER);
    own_read(&during_fault, Err(ENOTCONN));
    sees("consumer during the fault", during_fault.namespace, CONTAINER_MARKER, Err(ENOTCONN));
    times.lap();

    start_container(node, BIDIRECTIONAL);
    umount(c"/mnt/dfs"); // the stale mount, which the recursive bind brought along
    let fresh = Ok([nonce, 2]);
    let (producer, mounted_at) = start_producer([nonce, 2], CLONE_NEWPID);
    let seen_at = own_read(&early, fresh);
    times.latency(2, mounted_at, seen_at);
    own_read(&late, fresh);
    everybody_sees(node, &consumers, fresh);
    times.lap();

    kill(producer);
    sees("node", node, NODE_MARKER, Err(ENOTCONN));
    umount(c"/tmp/bridge/dfs");
    close_all(&consumers);
    times.lap();
}

/// A read by the container's own program: when it ended.
fn own_read(container: &Container, expected: Seen) -> u64 {
    let (at_ns, seen) = container.program.look();
    check("own program", seen, expected);
    at_ns
}

/// A read as another user.
fn other_user_sees(namespace: c_int, path: &std::ffi::CStr, expected: Seen) {
    sys!(setns(namespace, CLONE_NEWNS));
    become_user(OTHER_USER);
    check("another user", crate::sys::look(path), expected);
    become_user(0);
    // A change of the user takes it away.
    die_with_parent();
}
