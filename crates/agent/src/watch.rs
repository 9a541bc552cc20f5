//! Events of mounts and unmounts in the process's own namespace.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::PollFlags;

use crate::mounts::Proc;

/// A descriptor that becomes ready when the mount table changes.
#[derive(Debug)]
pub(crate) enum MountWatch {
    /// fanotify with mount events (Linux 6.15, in user namespaces 6.16; needs `CAP_SYS_ADMIN` over the
    /// mount namespace).
    Fanotify(OwnedFd),
    /// poll(2) on mountinfo, on every kernel.
    Mountinfo(OwnedFd),
}

impl MountWatch {
    /// The best one there is.
    pub(crate) fn open(proc: &Proc) -> Result<Self, Errno> {
        match proc.of_thread("ns/mnt").and_then(|namespace| fanotify(namespace.as_fd())) {
            Ok(descriptor) => Ok(Self::Fanotify(descriptor)),
            Err(_) => proc.of_thread("mountinfo").map(Self::Mountinfo),
        }
    }

    /// What to poll for.
    pub(crate) fn interest(&self) -> PollFlags {
        match self {
            Self::Fanotify(_) => PollFlags::POLLIN,
            Self::Mountinfo(_) => PollFlags::POLLPRI,
        }
    }

    /// Takes what has been reported, so that the descriptor is not ready any more.
    pub(crate) fn drain(&self) {
        if let Self::Fanotify(descriptor) = self {
            let mut buffer = [0; 4096];
            while nix::unistd::read(descriptor, &mut buffer).is_ok_and(|length| length > 0) {}
        }
    }

    /// In words.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Fanotify(_) => "fanotify mount events",
            Self::Mountinfo(_) => "poll on mountinfo",
        }
    }
}

impl AsFd for MountWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Fanotify(descriptor) | Self::Mountinfo(descriptor) => descriptor.as_fd(),
        }
    }
}

/// Whether the kernel can report mounts through fanotify. Marks nothing: closing a descriptor with
/// a mark waits for the kernel's reaper, about 14 ms.
pub(crate) fn has_fanotify() -> bool {
    fanotify_group().is_ok()
}

/// A fanotify descriptor for mount events, without a mark.
#[allow(unsafe_code)] // nix does not know FAN_REPORT_MNT
fn fanotify_group() -> Result<OwnedFd, Errno> {
    use std::os::fd::FromRawFd;
    const FAN_REPORT_MNT: libc::c_uint = 0x0000_4000;
    let flags = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | FAN_REPORT_MNT;
    // SAFETY: takes two numbers; an older kernel answers EINVAL.
    let number = Errno::result(unsafe { libc::fanotify_init(flags, 0) })?;
    // SAFETY: the call has just made this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A fanotify descriptor that reports mounts attached to and detached from a mount namespace.
#[allow(unsafe_code)] // nix does not know FAN_MARK_MNTNS
fn fanotify(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    use std::os::fd::AsRawFd;
    const FAN_MARK_MNTNS: libc::c_uint = 0x0000_0110;
    const FAN_MNT_ATTACH: u64 = 0x0100_0000;
    const FAN_MNT_DETACH: u64 = 0x0200_0000;
    let descriptor = fanotify_group()?;
    // SAFETY: both descriptors are open for the length of the call; a null path means that the
    // descriptor itself is marked.
    let result = unsafe {
        libc::fanotify_mark(
            descriptor.as_raw_fd(),
            libc::FAN_MARK_ADD | FAN_MARK_MNTNS,
            FAN_MNT_ATTACH | FAN_MNT_DETACH,
            namespace.as_raw_fd(),
            std::ptr::null(),
        )
    };
    Errno::result(result)?;
    Ok(descriptor)
}
