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
use super::{Side, fresh_mount, rebind};
use crate::failure::{errno_text, failure, system};
use crate::mounts::{Proc, propagate, to_nix};
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
    // Propagation is changed in the mount's own namespace; groups are joined from any. Nothing that can fail
    // lies between the two but the change itself: a peer would mount on the node.
    enter(Side::Container)?;
    join(&from_mount, &to_mount).map_err(|errno| match errno {
        Errno::EINVAL if asks_move_mount(SET_GROUP) == Some(false) => {
            let reason = "the kernel has no MOVE_MOUNT_SET_GROUP (Linux 5.15)";
            refused(spec, RefusalKind::Kernel, reason)
        }
        errno => system(operation(spec), errno),
    })?;
    make_slave(to, &to_mount)
        .map_err(|errno| system(format!("make the volume of {} a slave", spec.name), errno))?;
    let there = inside.at(&MountPath::from(spec.fuse_path.as_str())).map(|mount| mount.device);
    enter(Side::Node)?;
    match fresh_mount(proc, path) {
        Ok(fresh) if Some(fresh.device) != there => {
            let arriving = Attributes::in_volume(Propagation::HostToContainer);
            rebind(proc, &fresh, spec, Some(arriving), enter)
        }
        // Without a mount that lives there is nothing to put there now: the next one propagates.
        _ => Ok(Attached::default()),
    }
}

/// Makes a peer of the node's mount a slave, or else private again.
fn make_slave(entry: &MountEntry, mount: &OwnedFd) -> Result<(), Errno> {
    let propagation = MsFlags::MS_SLAVE.bits();
    let slave = MountAttributes { propagation, ..MountAttributes::default() };
    set_attributes_of(mount.as_fd(), &slave).or_else(|errno| {
        propagate(&entry.mount_point.to_path_buf(), MsFlags::MS_PRIVATE)?;
        Err(errno)
    })
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
    use std::cell::Cell;
    use std::path::Path;

    use propagation_model::plan::BindSpec;
    use propagation_protocol::Bind;

    use super::*;
    use crate::mounts::{bind, make_directory, tmpfs};

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

    fn propagation_at(path: &str) -> MountPropagation {
        let table = Proc::open().and_then(|proc| proc.mount_table()).expect("mountinfo");
        table.at(&MountPath::from(path)).expect("the mount").propagation()
    }

    /// A shared mount, and a private copy of it in a volume.
    fn volume() -> ContainerSpec {
        let [node, volume] = ["/tmp/node", "/tmp/volume"].map(Path::new);
        for path in [node, volume] {
            make_directory(path).expect("a directory");
        }
        tmpfs(node, "mode=755").expect("the node's mount");
        bind(node, volume).expect("the volume");
        propagate(node, MsFlags::MS_SHARED).expect("it is shared");
        let bound = Bind {
            source: "/tmp/node".into(),
            destination: "/tmp/volume".into(),
            propagation: Propagation::None,
            how: BindSpec::default(),
        };
        let fuse_path = "/tmp/volume/dfs".into();
        ContainerSpec { fuse_path, ..crate::test_container::consumer(vec![bound]) }
    }

    #[test]
    fn wherever_it_fails_the_volume_is_no_peer() {
        let name = "bridge::attach::reconnect::tests::wherever_it_fails_the_volume_is_no_peer";
        if !crate::own_mounts::inside(name) || asks_move_mount(SET_GROUP) == Some(false) {
            return;
        }
        let spec = volume();
        let proc = Proc::open().expect("/proc");
        for fails_at in 0.. {
            let entered = Cell::new(0);
            let enter = |_| {
                let number = entered.replace(entered.get() + 1);
                (number != fails_at).then_some(()).ok_or_else(|| system("enter", Errno::EPERM))
            };
            let done = reconnect(&proc, "/tmp/node/dfs", &spec, enter);
            assert!(done.is_err(), "entering never fails after the change");
            match propagation_at("/tmp/volume") {
                MountPropagation::Private => {}
                MountPropagation::Slave => break,
                other => panic!("it is {other} when entering fails for the {fails_at}. time"),
            }
        }
    }

    #[test]
    fn what_cannot_be_made_a_slave_is_made_private() {
        let name = "bridge::attach::reconnect::tests::what_cannot_be_made_a_slave_is_made_private";
        if !crate::own_mounts::inside(name) {
            return;
        }
        volume();
        propagate(Path::new("/tmp/volume"), MsFlags::MS_SHARED).expect("it is shared");
        make_directory(Path::new("/tmp/volume/inner")).expect("a directory");
        let table = Proc::open().and_then(|proc| proc.mount_table()).expect("mountinfo");
        let entry = table.at(&MountPath::from("/tmp/volume")).expect("the volume");
        // No mount: the kernel refuses to change its propagation.
        let inner = std::fs::File::open("/tmp/volume/inner").expect("the directory");
        assert!(make_slave(entry, &inner.into()).is_err());
        assert_eq!(propagation_at("/tmp/volume"), MountPropagation::Private);
    }
}
