//! What keeps a node from the machine it is on, also where root has made it.
//!
//! Root of its own user namespace has no rights over the machine: over devices, modules, the clock, filesystems
//! of block devices. It is still the user that owns the machine's files, so the node has them read-only, in
//! mounts that this user namespace cannot change (mount_namespaces(7), "locked").

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use propagation_protocol::{Failure, NodeSetup};

use super::capabilities::give_up_the_machines;
use super::kernel_calls;
use super::runtime::enter_user_namespace;
use crate::failure::system;
use crate::mounts::Proc;

/// Contains the calling process, and so all that the node will be. An OCI runtime makes devices and
/// mounts /proc, for which it has to stay in the machine's user namespace, and so has a node where there
/// can be no other: there the capabilities that no node needs are given up.
pub(super) fn contain(setup: &NodeSetup) -> Result<(), Failure> {
    let failed = |errno| system("contain the node", errno);
    let builtin = setup.spec.runtime.is_builtin();
    let mut contained = false;
    if builtin {
        let proc = Proc::open()?;
        match enter_user_namespace(&proc) {
            Ok(()) => {
                unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
                contained = true;
            }
            // Not allowed here, or no more of them.
            Err(Errno::EPERM | Errno::EACCES | Errno::ENOSPC | Errno::EINVAL)
                if Uid::effective().is_root() => {}
            Err(errno) => return Err(failed(errno)),
        }
        // A change of credentials may have taken it back.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed)?;
    }
    give_up_the_machines(builtin).map_err(failed)?;
    kernel_calls::deny(contained, setup.files_by_handle).map_err(failed)
}
