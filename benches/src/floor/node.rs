//! The node and its containers: mount namespaces, made in the runtime's order.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr::null;

use libc::{
    CLONE_FILES, CLONE_NEWNS, MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, O_CREAT, O_WRONLY, c_int,
    c_ulong, c_void, pid_t,
};

use crate::sys::{bind, exit, mount, new_stack, open, reap, set_propagation, spawn, umount};

/// The marker as the node sees it.
pub(crate) const NODE_MARKER: &CStr = c"/tmp/bridge/dfs/producer-marker.txt";
/// The marker as containers see it.
pub(crate) const CONTAINER_MARKER: &CStr = c"/mnt/dfs/producer-marker.txt";

// The modes in which a container takes its volume.
pub(crate) const NONE: c_ulong = MS_PRIVATE;
pub(crate) const HOST_TO_CONTAINER: c_ulong = MS_SLAVE;
pub(crate) const BIDIRECTIONAL: c_ulong = MS_SHARED;

/// A private copy of the outside with a tmpfs as its root and everything on it shared.
pub(crate) fn build_node() {
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
pub(crate) fn start_container(node: c_int, volume: c_ulong) {
    sys!(setns(node, CLONE_NEWNS));
    let mut status = MaybeUninit::uninit();
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

/// Makes the working directory, a mountpoint, the root, and drops the old root, which `pivot_root`
/// leaves stacked on it.
fn pivot_here() {
    sys!(syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()));
    umount(c".");
}

/// Drops namespaces.
pub(crate) fn close_all(namespaces: &[c_int]) {
    const CLOSERS: usize = 8;
    let size = if namespaces.len() < 100 { 100 } else { namespaces.len().div_ceil(CLOSERS) };
    let mut shares = namespaces.chunks(size);
    let own = shares.next();
    let mut shares: Vec<&[c_int]> = shares.collect();
    let spawn_closer = |share| spawn(close_share, share, new_stack(), CLONE_FILES);
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
