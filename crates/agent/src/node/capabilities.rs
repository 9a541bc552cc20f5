//! The capabilities of a container that is not privileged.

use nix::errno::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
};

/// What containerd gives every container.
const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Leaves the default capabilities and those that are named (`SYS_ADMIN` or `CAP_SYS_ADMIN`).
pub(super) fn drop_all_but(names: &[String]) -> Result<(), Errno> {
    let mut kept = DEFAULT;
    for name in names {
        let name = name.trim_start_matches("CAP_");
        kept |= CapabilitySet::from_name(name).ok_or(Errno::EINVAL)?;
    }
    // Otherwise root would get them back with the next program it executes.
    for capability in CapabilitySet::all().iter().filter(|one| !kept.contains(*one)) {
        // Those that this kernel does not know are none that could be had.
        let _ = remove_capability_from_bounding_set(capability);
    }
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(|errno| Errno::from_raw(errno.raw_os_error()))
}
