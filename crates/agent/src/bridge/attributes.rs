//! Propagation and flags of a mount, to give to another mount.

use std::os::fd::AsFd;
use std::path::Path;

use mountinfo::{MountEntry, MountPropagation};
use nix::errno::Errno;
use nix::mount::MsFlags;
use propagation_model::plan::Propagation;

use crate::mounts::{flag_of, flags_of, propagate, remount};
use crate::sys::{MountAttributes, set_attributes_of};

/// A flag of a mount: its word in mountinfo, and its bit for mount_setattr(2).
const FLAGS: [(&str, u64); 6] = [
    ("ro", 0x01),
    ("nosuid", 0x02),
    ("nodev", 0x04),
    ("noexec", 0x08),
    ("noatime", 0x10),
    ("nodiratime", 0x80),
];

/// The bits of mount_setattr(2) that are one number: when a read changes the time of access. `relatime`
/// is 0.
const ACCESS_TIME: u64 = 0x70;
const STRICT_ACCESS_TIME: u64 = 0x20;

/// What a mount is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    /// Changes of its propagation, in order.
    propagation: Vec<MsFlags>,
    /// The words of its flags in mountinfo; none where they do not matter.
    flags: Option<String>,
}

impl Attributes {
    /// The attributes of a mount.
    pub(super) fn of(mount: &MountEntry) -> Self {
        let propagation = match mount.propagation() {
            MountPropagation::Private => vec![MsFlags::MS_PRIVATE],
            MountPropagation::Shared => vec![MsFlags::MS_SHARED],
            MountPropagation::Slave => vec![MsFlags::MS_SLAVE],
            MountPropagation::SlaveAndShared => vec![MsFlags::MS_SLAVE, MsFlags::MS_SHARED],
            MountPropagation::Unbindable => vec![MsFlags::MS_UNBINDABLE],
        };
        Self { propagation, flags: Some(mount.mount_options.clone()) }
    }

    /// The attributes of a mount that propagates into a volume of this mode; its flags stay the same.
    pub(super) fn in_volume(mode: Propagation) -> Self {
        Self { propagation: vec![flag_of(mode)], flags: None }
    }

    /// Gives them to a mount that is nowhere yet.
    ///
    /// # Errors
    /// `ENOSYS` before Linux 5.12; `EPERM` where another user namespace holds a flag.
    pub(super) fn give_to(&self, mount: impl AsFd) -> Result<(), Errno> {
        let mut changes = self.flags.as_deref().map(change_of).unwrap_or_default();
        for propagation in &self.propagation {
            changes.propagation = propagation.bits();
            set_attributes_of(mount.as_fd(), &changes)?;
            changes = MountAttributes::default();
        }
        Ok(())
    }

    /// Gives them to the mount at a path of the current namespace, on every kernel.
    pub(super) fn give_at(&self, path: &Path) -> Result<(), Errno> {
        if let Some(flags) = &self.flags {
            remount(path, flags_of(flags))?;
        }
        self.propagation.iter().try_for_each(|propagation| propagate(path, *propagation))
    }
}

/// What makes a mount have just these flags.
fn change_of(flags: &str) -> MountAttributes {
    let has = |word: &str| flags.split(',').any(|flag| flag == word);
    let bits = |there: bool| {
        let fits = FLAGS.iter().filter(|(word, _)| has(word) == there);
        fits.fold(0, |bits, (_, bit)| bits | bit)
    };
    let access_time = if has("relatime") || has("noatime") { 0 } else { STRICT_ACCESS_TIME };
    MountAttributes {
        set: bits(true) | access_time,
        clear: bits(false) & !ACCESS_TIME | ACCESS_TIME,
        ..MountAttributes::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_set_or_cleared() {
        let change = change_of("ro,nosuid,relatime");
        assert_eq!((change.set, change.clear), (0x03, 0x04 | 0x08 | 0x80 | ACCESS_TIME));
        assert_eq!(change_of("rw,noatime").set, 0x10);
        assert_eq!(change_of("rw").set, STRICT_ACCESS_TIME);
    }
}
