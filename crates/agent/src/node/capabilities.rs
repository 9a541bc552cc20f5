//! The capabilities of a container that is not privileged.

use nix::errno::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities,
};

use crate::mounts::to_nix;

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

/// Capabilities over the machine that no node needs.
const OF_THE_MACHINE: CapabilitySet = CapabilitySet::SYS_MODULE
    .union(CapabilitySet::SYS_RAWIO)
    .union(CapabilitySet::SYS_BOOT)
    .union(CapabilitySet::SYS_TIME)
    .union(CapabilitySet::WAKE_ALARM)
    .union(CapabilitySet::SYSLOG)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::MAC_ADMIN)
    .union(CapabilitySet::MAC_OVERRIDE)
    .union(CapabilitySet::AUDIT_CONTROL)
    .union(CapabilitySet::AUDIT_READ)
    .union(CapabilitySet::LINUX_IMMUTABLE)
    .union(CapabilitySet::BLOCK_SUSPEND);

/// The default capabilities and the named ones (`SYS_ADMIN` or `CAP_SYS_ADMIN`) that the calling process has.
pub(super) fn default_and(names: &[String]) -> Result<CapabilitySet, Errno> {
    let wanted = names.iter().try_fold(DEFAULT, |set, name| {
        let name = name.trim_start_matches("CAP_");
        Ok(set | CapabilitySet::from_name(name).ok_or(Errno::EINVAL)?)
    })?;
    Ok(wanted & current()?)
}

/// Gives up the capabilities over the machine, for good; and that of making devices, where they are made
/// already.
pub(super) fn give_up_the_machines(devices_are_made: bool) -> Result<(), Errno> {
    let mut given_up = OF_THE_MACHINE;
    given_up.set(CapabilitySet::MKNOD, devices_are_made);
    keep(current()? - given_up)
}

/// The capabilities of the calling process.
pub(super) fn current() -> Result<CapabilitySet, Errno> {
    let sets = capabilities(None).map_err(to_nix)?;
    Ok(sets.permitted)
}

/// Their names, as runtimes want them: `CAP_SYS_ADMIN`.
pub(super) fn names(set: CapabilitySet) -> Vec<String> {
    set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

/// Drops all capabilities except the default and the named ones.
pub(super) fn drop_all_but(names: &[String]) -> Result<(), Errno> {
    keep(default_and(names)?)
}

fn keep(kept: CapabilitySet) -> Result<(), Errno> {
    // Otherwise root would get them back with the next program it executes.
    for capability in CapabilitySet::all().iter().filter(|one| !kept.contains(*one)) {
        // Those that this kernel does not know are none that could be had.
        let _ = remove_capability_from_bounding_set(capability);
    }
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(to_nix)
}
