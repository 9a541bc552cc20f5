//! Making the volume of a running container a slave of the node's mount, as though it had been started with
//! HostToContainer.
//!
//! The kernel lets a private mount join the peer group of another mount of the same filesystem
//! (move_mount(2) with `MOVE_MOUNT_SET_GROUP`, Linux 5.15); made a slave afterwards, it receives what is
//! mounted on the node from then on. An existing mount is copied into the container.

use std::os::fd::{AsFd, OwnedFd};

use mountinfo::{MountEntry, MountPath, MountPropagation};
use nix::errno::Errno;
use nix::mount::MsFlags;
use propagation_model::plan::Propagation;
use propagation_model::program::{Attached, Refusal, RefusalKind};
use propagation_model::{Errno as Number, ErrorKind};
use propagation_protocol::{ContainerSpec, Failure};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::super::attributes::Attributes;
use super::{Side, check_fresh, rebind};
use crate::failure::{errno_text, failure, system};
use crate::mounts::{Proc, to_nix};
use crate::sys::{MountAttributes, asks_move_mount, set_attributes_of};

/// `MOVE_MOUNT_SET_GROUP` of linux/mount.h.
pub(crate) const SET_GROUP: u32 = 0x100;

/// Makes the container's volume a slave of the mount that covers its source on the node, and puts the
/// node's mount at `path` into it, if a living one is there.
pub(super) fn reconnect(
    proc: &Proc,
    path: &str,
    spec: &ContainerSpec,
    enter: impl Fn(Side) -> Result<(), Failure>,
) -> Result<Attached, Failure> {
    let Some(volume) = spec.volumes.first().filter(|_| !spec.host) else {
        return Err(refused(spec, RefusalKind::NotPrivate, "it has the node's own mounts"));
    };
    enter(Side::Container)?;
    let inside = proc.mount_table()?;
    let Some(to) = inside.at(&MountPath::from(volume.destination.as_str())) else {
        let reason = format!("nothing is mounted at {:?} in it", volume.destination);
        return Err(refused(spec, RefusalKind::Other, &reason));
    };
    let to_mount = open_mount(to)?;
    enter(Side::Node)?;
    let table = proc.mount_table()?;
    let Some(from) = table.covering(&MountPath::from(volume.source.as_str())) else {
        let reason = format!("no mount covers {:?} on the node", volume.source);
        return Err(refused(spec, RefusalKind::Other, &reason));
    };
    if to.mount_point.starts_with(&MountPath::from(spec.fuse_path.as_str())) {
        let reason =
            "its volume is the FUSE mount itself, and later mounts lie in the directory above";
        return Err(refused(spec, RefusalKind::OtherFilesystem, reason));
    }
    if let Some((kind, reason)) = forbidden(from, to) {
        return Err(refused(spec, kind, &reason));
    }
    let from_mount = open_mount(from)?;
    join(&from_mount, &to_mount).map_err(|errno| match errno {
        Errno::EINVAL if asks_move_mount(SET_GROUP) == Some(false) => {
            let reason = "the kernel has no MOVE_MOUNT_SET_GROUP (Linux 5.15)";
            refused(spec, RefusalKind::Kernel, reason)
        }
        errno => system(operation(spec), errno),
    })?;
    enter(Side::Container)?;
    let propagation = MsFlags::MS_SLAVE.bits();
    let slave = MountAttributes { propagation, ..MountAttributes::default() };
    set_attributes_of(to_mount.as_fd(), &slave)
        .map_err(|errno| system(format!("make the volume of {} a slave", spec.name), errno))?;
    let there = inside.at(&MountPath::from(spec.fuse_path.as_str())).map(|mount| mount.device);
    enter(Side::Node)?;
    let here = table.at(&MountPath::from(path)).map(|mount| mount.device);
    // Without a mount that lives there is nothing to put there now: the next one arrives by itself.
    if here == there || check_fresh(proc, path).is_err() {
        return Ok(Attached { hole: false });
    }
    let arriving = Attributes::in_volume(Propagation::HostToContainer);
    rebind(proc, path, spec, Some(arriving), enter)
}

/// Why the kernel would not let a mount of the container join the group of one of the node.
fn forbidden(from: &MountEntry, to: &MountEntry) -> Option<(RefusalKind, String)> {
    let (source, target) = (&from.mount_point, &to.mount_point);
    if from.device != to.device {
        let reason = format!(
            "its volume at {target} is of another filesystem (device {}) than the node's mount at \
             {source} (device {})",
            to.device, from.device
        );
        return Some((RefusalKind::OtherFilesystem, reason));
    }
    if to.propagation() != MountPropagation::Private {
        let reason = format!("its volume at {target} is {}, not private", to.propagation());
        return Some((RefusalKind::NotPrivate, reason));
    }
    if !to.root.starts_with(&from.root) {
        let reason = format!(
            "its volume shows {} of the filesystem, and the node's mount at {source} {} only",
            to.root, from.root
        );
        return Some((RefusalKind::Narrower, reason));
    }
    let sends =
        !matches!(from.propagation(), MountPropagation::Private | MountPropagation::Unbindable);
    let reason = || format!("the node's mount at {source} is {}", from.propagation());
    (!sends).then(|| (RefusalKind::NotShared, reason()))
}

/// Lets a private mount join the groups that another one is in.
fn join(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::from_bits_retain(SET_GROUP)
        | MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
        | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(from, "", to, "", flags).map_err(to_nix)
}

/// A descriptor of a mount of the current namespace.
fn open_mount(mount: &MountEntry) -> Result<OwnedFd, Failure> {
    let path = mount.mount_point.to_path_buf();
    open_tree(rustix::fs::CWD, &path, OpenTreeFlags::OPEN_TREE_CLOEXEC)
        .map_err(|errno| system(format!("open the mount at {path:?}"), to_nix(errno)))
}

fn operation(spec: &ContainerSpec) -> String {
    format!("reconnect {}", spec.name)
}

/// What the kernel would refuse with EINVAL and no reason.
fn refused(spec: &ContainerSpec, kind: RefusalKind, reason: &str) -> Failure {
    let reason = format!("{reason} ({})", errno_text(Errno::EINVAL));
    let mut failure = failure(ErrorKind::Environment, operation(spec), reason, None);
    let errno = Number::from_number(Errno::EINVAL as i32);
    failure.refusal = Some(Refusal { kind, errno: Some(errno) });
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(from: &str, to: &str) -> Option<RefusalKind> {
        let mount = |line: &str| line.parse::<MountEntry>().expect("a mountinfo line");
        forbidden(&mount(from), &mount(to)).map(|(kind, _)| kind)
    }

    #[test]
    fn what_the_kernel_would_not_do_is_refused_by_its_reason() {
        let node = "1 0 8:1 / / rw shared:1 - ext4 d rw";
        for (from, to, expected) in [
            (node, "9 8 8:1 /b /mnt rw - ext4 d rw", None),
            ("1 0 8:1 / / rw master:1 - ext4 d rw", "9 8 8:1 /b /mnt rw - ext4 d rw", None),
            (node, "9 8 0:46 / /mnt rw - fuse.x d rw", Some(RefusalKind::OtherFilesystem)),
            (node, "9 8 8:1 /b /mnt rw master:1 - ext4 d rw", Some(RefusalKind::NotPrivate)),
            (
                "1 0 8:1 /b/c /b rw shared:1 - ext4 d rw",
                "9 8 8:1 /b /mnt rw - ext4 d rw",
                Some(RefusalKind::Narrower),
            ),
            (
                "1 0 8:1 / / rw - ext4 d rw",
                "9 8 8:1 /b /mnt rw - ext4 d rw",
                Some(RefusalKind::NotShared),
            ),
        ] {
            assert_eq!(kind(from, to), expected, "{from}, {to}");
        }
    }
}
