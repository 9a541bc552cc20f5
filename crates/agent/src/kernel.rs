//! Asks the kernel for its features. Changes nothing and needs no privilege: a feature that cannot be tried
//! without privilege is judged by the version.
#![allow(unsafe_code)] // listmount(2) and FAN_REPORT_MNT, which no library wraps

use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;
use propagation_model::kernel::{FeatureFact, FeatureState, KernelFeature};

use crate::sys::asks_move_mount;

/// What is known of every feature, for a kernel of this release.
pub(crate) fn features(release: &str) -> Vec<FeatureFact> {
    let fact = |feature: KernelFeature| {
        let state = probe(feature);
        state.map_or_else(
            || FeatureFact::by_version(feature, release),
            |state| FeatureFact::probed(feature, state),
        )
    };
    KernelFeature::ALL.into_iter().map(fact).collect()
}

/// What the kernel says of a feature; none where it cannot be asked.
fn probe(feature: KernelFeature) -> Option<FeatureState> {
    let there = |there| if there { FeatureState::There } else { FeatureState::Missing };
    match feature {
        KernelFeature::Reconnect => asks_move_mount(crate::bridge::SET_GROUP).map(there),
        KernelFeature::RebindWithoutHole => asks_move_mount(crate::bridge::BENEATH).map(there),
        KernelFeature::Listmount => Some(there(has_listmount())),
        KernelFeature::MountEvents => Some(there(has_mount_events())),
        KernelFeature::IoUring => switch("/sys/module/fuse/parameters/enable_uring", "N"),
        KernelFeature::RequestTimeout => switch("/proc/sys/fs/fuse/default_request_timeout", "0"),
        KernelFeature::Resend
        | KernelFeature::Passthrough
        | KernelFeature::IdmappedMounts
        | KernelFeature::DaemonNames => None,
    }
}

/// What a file of the FUSE module says. Where it is not there the module may not have been loaded.
fn switch(path: &str, off: &str) -> Option<FeatureState> {
    let value = fs::read_to_string(path).ok()?;
    Some(if value.trim() == off { FeatureState::Off } else { FeatureState::There })
}

/// Whether the kernel has listmount(2), which refuses to be given nothing.
fn has_listmount() -> bool {
    const SYS_LISTMOUNT: libc::c_long = 458;
    // SAFETY: the null pointers are what is refused (EFAULT, EINVAL).
    let result = unsafe { libc::syscall(SYS_LISTMOUNT, 0_usize, 0_usize, 0_usize, 0_usize) };
    Errno::result(result) != Err(Errno::ENOSYS)
}

/// Whether fanotify reports mounts to this process. Marks nothing: to close a descriptor with a mark takes 5 to 25 ms.
pub(crate) fn has_mount_events() -> bool {
    const FAN_REPORT_MNT: libc::c_uint = 0x0000_4000;
    let flags = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | FAN_REPORT_MNT;
    // SAFETY: takes two numbers; an older kernel answers EINVAL.
    let Ok(number) = Errno::result(unsafe { libc::fanotify_init(flags, 0) }) else { return false };
    // SAFETY: the call has just made this descriptor, and nobody else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_probed_agrees_with_the_version() {
        let release = nix::sys::utsname::uname().expect("a release");
        let release = release.release().to_string_lossy().into_owned();
        for fact in features(&release) {
            let expected = FeatureFact::by_version(fact.feature, &release).state;
            // Distributions carry back, so that an older kernel may have more.
            if expected == FeatureState::There {
                assert_ne!(fact.state, FeatureState::Missing, "{fact:?} on Linux {release}");
            }
        }
    }
}
