//! Giving a running container the node's mount.

mod reconnect;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use mountinfo::{MountEntry, MountPath, MountPropagation, MountTable};
use nix::errno::Errno;
use propagation_model::ErrorKind;
use propagation_model::plan::Propagation;
use propagation_model::program::{Attach, Attached};
use propagation_protocol::{ContainerSpec, Failure};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::attributes::Attributes;
use crate::failure::{errno_text, failure, system};
use crate::mounts::{Proc, errno_of, to_nix, unmount_lazily};
use crate::sys::asks_move_mount;
pub(crate) use reconnect::SET_GROUP;

/// `MOVE_MOUNT_BENEATH` of linux/mount.h, since Linux 6.5.
pub(crate) const BENEATH: u32 = 0x200;

/// Where the calling process goes, to look and to mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The node's mount namespace.
    Node,
    /// The container's.
    Container,
}

/// Gives a container the node's fresh mount at `path`, in one of several ways. The process may end up on either
/// side.
pub(crate) fn attach(
    proc: &Proc,
    path: &str,
    spec: &ContainerSpec,
    how: Attach,
    enter: impl Fn(Side) -> Result<(), Failure>,
) -> Result<Attached, Failure> {
    match how {
        Attach::Rebind => {
            enter(Side::Node)?;
            let fresh = fresh_mount(proc, path)?;
            rebind(proc, &fresh, spec, None, &enter)
        }
        Attach::Reconnect => reconnect::reconnect(proc, path, spec, &enter),
    }
}

/// Takes a copy of the node's fresh mount and puts it where the container's stale one is. The
/// copy shows the part of the filesystem that the stale mount showed, and has its propagation and its
/// flags, or others that are wanted. What has propagated to the container by itself is left alone.
fn rebind(
    proc: &Proc,
    fresh: &MountEntry,
    spec: &ContainerSpec,
    wanted: Option<Attributes>,
    enter: impl Fn(Side) -> Result<(), Failure>,
) -> Result<Attached, Failure> {
    enter(Side::Container)?;
    let stale = stale_mount(spec, &proc.mount_table()?);
    if stale.as_ref().is_some_and(|stale| has_received(stale, fresh)) {
        return Ok(Attached::default());
    }
    // A mount can be copied only in its own namespace.
    enter(Side::Node)?;
    let (part, target) = match &stale {
        Some(stale) => (stale.root.as_bytes(), stale.mount_point.to_path_buf()),
        None => (&b"/"[..], spec.fuse_path.as_str().into()),
    };
    let copy = copy_of_mount(&fresh.mount_point.to_path_buf(), part)?;
    let attributes = wanted.unwrap_or_else(|| match (&stale, spec.volumes.first()) {
        (Some(stale), _) => Attributes::of(stale),
        (None, Some(volume)) => Attributes::in_volume(volume.propagation),
        (None, None) => Attributes::in_volume(Propagation::None),
    });
    let given = match attributes.give_to(&copy) {
        Err(Errno::ENOSYS) => false,
        result => result.map(|()| true).map_err(|errno| {
            system(format!("give the copy the propagation and flags of {target:?}"), errno)
        })?,
    };
    enter(Side::Container)?;
    let hole = match &stale {
        Some(_) => Some(replace(&copy, &target, has_beneath())?),
        None => mount_copy(&copy, &target).map(|()| None)?,
    };
    if !given {
        attributes.give_at(&target).map_err(|errno| {
            system(format!("give {target:?} the propagation and flags that it had"), errno)
        })?;
    }
    Ok(Attached { hole })
}

/// Whether a container's mount is the node's own, propagated to it. Unmounting it there could unmount it on
/// the node and everywhere else.
fn has_received(mount: &MountEntry, fresh: &MountEntry) -> bool {
    mount.device == fresh.device && mount.propagation() != MountPropagation::Private
}

/// Puts a copy in the place of the topmost mount at a path; whether the directory underneath could be seen
/// meanwhile.
fn replace(copy: &OwnedFd, target: &Path, beneath: bool) -> Result<bool, Failure> {
    let unmount = || {
        unmount_lazily(target)
            .map_err(|errno| system(format!("unmount the stale {target:?}"), errno))
    };
    if beneath {
        match move_here(copy, target, MoveMountFlags::from_bits_retain(BENEATH)) {
            Ok(()) => return unmount().map(|()| false),
            // Nothing goes beneath a mount whose parent would receive its own copy.
            Err(Errno::EINVAL) => {}
            Err(errno) => return Err(not_mounted(target, errno)),
        }
    }
    unmount()?;
    mount_copy(copy, target).map(|()| true)
}

/// Whether the kernel can mount beneath another mount.
fn has_beneath() -> bool {
    asks_move_mount(BENEATH) == Some(true)
}

/// The FUSE mount that a container holds at its mountpoint, or as its volume.
fn stale_mount(spec: &ContainerSpec, table: &MountTable) -> Option<MountEntry> {
    let volume = spec.volumes.first().map(|volume| volume.destination.as_str());
    let mut places = std::iter::once(spec.fuse_path.as_str()).chain(volume);
    places.find_map(|place| {
        table.at(&MountPath::from(place)).filter(|mount| mount.is_served()).cloned()
    })
}

/// The FUSE mount at a path, which has to answer, to be bound elsewhere.
fn fresh_mount(proc: &Proc, path: &str) -> Result<MountEntry, Failure> {
    let refuse = |reason: String| {
        let words = "re-bind in a container";
        let fix = "start the producer first, so that a living mount is there";
        Err(failure(ErrorKind::Environment, words, reason, Some(fix)))
    };
    let table = proc.mount_table()?;
    let Some(mount) = table.at(&MountPath::from(path)).filter(|mount| mount.is_served()) else {
        return refuse(format!("no mount of a producer is at {path:?} on the node"));
    };
    match fs::metadata(path) {
        Ok(_) => Ok(mount.clone()),
        // EACCES does not tell whether the daemon is alive.
        Err(error) if errno_of(&error) == Errno::EACCES => Ok(mount.clone()),
        Err(error) => {
            let words = errno_text(errno_of(&error));
            refuse(format!("the mount at {path:?} on the node: {words}"))
        }
    }
}

/// A detached copy of the mount at a path of the current namespace, from a part of it on: `/` is all of it.
/// The daemon says what lies in its filesystem, so no symbolic link is followed there, nor is another mount
/// entered.
pub(super) fn copy_of_mount(path: &Path, part: &[u8]) -> Result<OwnedFd, Failure> {
    let failed = |errno| {
        let part = String::from_utf8_lossy(part);
        system(format!("copy {part:?} of the mount at {path:?}"), to_nix(errno))
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let below = part.strip_prefix(b"/").unwrap_or(part);
    if !below.is_empty() {
        let stay = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        at = rustix::fs::openat2(&at, below, flags, Mode::empty(), stay).map_err(failed)?;
    }
    let copy = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(&at, "", copy).map_err(failed)
}

/// Puts a copy on top of what is at a path.
pub(super) fn mount_copy(copy: &OwnedFd, target: &Path) -> Result<(), Failure> {
    move_here(copy, target, MoveMountFlags::empty()).map_err(|errno| not_mounted(target, errno))
}

fn move_here(copy: &OwnedFd, target: &Path, flags: MoveMountFlags) -> Result<(), Errno> {
    let flags = flags | MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(copy, "", rustix::fs::CWD, target, flags).map_err(to_nix)
}

fn not_mounted(target: &Path, errno: Errno) -> Failure {
    system(format!("mount the fresh copy on {target:?}"), errno)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;

    use super::*;
    use crate::mounts::{bind, make_directory, tmpfs};

    const FILE: &str = "file";

    /// How many of at least 10,000 opens found the directory under the mount while it was replaced again
    /// and again.
    fn opens_that_miss(beneath: bool) -> u64 {
        const OPENS: u64 = 10_000;
        const REPLACEMENTS: u32 = 100;
        let target = PathBuf::from("/tmp/target");
        let (opens, missed) = (AtomicU64::new(0), AtomicU64::new(0));
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        opens.fetch_add(1, Ordering::Relaxed);
                        if fs::File::open(target.join(FILE)).is_err() {
                            missed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            let mut replacements = 0;
            while replacements < REPLACEMENTS || opens.load(Ordering::Relaxed) < OPENS {
                let copy = copy_of_mount(Path::new("/tmp/fresh"), b"/").expect("a copy");
                assert_eq!(replace(&copy, &target, beneath).expect("it is replaced"), !beneath);
                replacements += 1;
            }
            over.store(true, Ordering::Relaxed);
        });
        missed.into_inner()
    }

    #[test]
    fn beneath_no_open_sees_the_directory_under_the_mount() {
        let name = "bridge::attach::tests::beneath_no_open_sees_the_directory_under_the_mount";
        if !crate::own_mounts::inside(name) {
            return;
        }
        let [fresh, target] = ["/tmp/fresh", "/tmp/target"].map(Path::new);
        for path in [fresh, target] {
            make_directory(path).expect("a directory");
        }
        tmpfs(fresh, "mode=755").expect("the fresh mount");
        fs::write(fresh.join(FILE), "").expect("a file");
        bind(fresh, target).expect("the stale mount");
        assert!(opens_that_miss(false) > 0, "the hole is not seen: the test is blind");
        if has_beneath() {
            assert_eq!(opens_that_miss(true), 0);
        }
    }

    /// Shows a directory by FUSE as long as it is mounted.
    fn serve(proc: &Proc, source: &'static str, at: &'static str) {
        thread::spawn(move || crate::mirror::serve(Path::new(source), Path::new(at), false));
        while fresh_mount(proc, at).is_err() {
            thread::yield_now();
        }
    }

    fn attach_here(proc: &Proc, node: &str, container: &str) -> Result<Attached, Failure> {
        let spec = ContainerSpec {
            fuse_path: container.into(),
            ..crate::test_container::consumer(Vec::new())
        };
        attach(proc, node, &spec, Attach::Rebind, |_| Ok(()))
    }

    fn mounts_at(proc: &Proc, path: &str) -> Vec<MountEntry> {
        let table = proc.mount_table().expect("mountinfo");
        table.stack_at(&MountPath::from(path)).into_iter().cloned().collect()
    }

    #[test]
    fn a_link_where_the_part_was_is_not_followed() {
        let name = "bridge::attach::tests::a_link_where_the_part_was_is_not_followed";
        if !crate::own_mounts::inside(name) {
            return;
        }
        let (node, container) = ("/tmp/node", "/tmp/container");
        for path in [node, container, "/tmp/good/sub", "/tmp/bad", "/tmp/outside"] {
            make_directory(Path::new(path)).expect("a directory");
        }
        fs::write("/tmp/good/sub/file", "good").expect("a file");
        std::os::unix::fs::symlink("/tmp/outside", "/tmp/bad/sub").expect("a link");
        let proc = Proc::open().expect("/proc");
        serve(&proc, "/tmp/good", node);
        bind(&Path::new(node).join("sub"), Path::new(container)).expect("the stale mount");

        unmount_lazily(Path::new(node)).expect("it is unmounted");
        serve(&proc, "/tmp/good", node);
        let stale = mounts_at(&proc, container);
        assert!(attach_here(&proc, node, container).expect("it is re-bound").hole.is_some());
        let bound = mounts_at(&proc, container);
        assert_eq!((bound.len(), bound[0].root.as_bytes()), (1, &b"/sub"[..]));
        assert_ne!(bound[0].device, stale[0].device);
        assert_eq!(fs::read_to_string("/tmp/container/file").expect("the file"), "good");

        unmount_lazily(Path::new(node)).expect("it is unmounted");
        serve(&proc, "/tmp/bad", node);
        let refused = attach_here(&proc, node, container).expect_err("a link leads out of it");
        assert!(refused.reason.contains("ELOOP"), "{refused:?}");
        assert_eq!(mounts_at(&proc, container), bound);
    }

    #[test]
    fn a_mount_that_has_propagated_is_left_alone() {
        let name = "bridge::attach::tests::a_mount_that_has_propagated_is_left_alone";
        if !crate::own_mounts::inside(name) {
            return;
        }
        let [bridge, peer] = ["/tmp/bridge", "/tmp/peer"].map(Path::new);
        for path in [bridge, peer, Path::new("/tmp/source")] {
            make_directory(path).expect("a directory");
        }
        tmpfs(bridge, "mode=755").expect("the bridge");
        crate::mounts::propagate(bridge, nix::mount::MsFlags::MS_SHARED).expect("it is shared");
        bind(bridge, peer).expect("a volume");
        let (node, container) = ("/tmp/bridge/dfs", "/tmp/peer/dfs");
        make_directory(Path::new(node)).expect("a directory");
        let proc = Proc::open().expect("/proc");
        serve(&proc, "/tmp/source", node);
        let before = [node, container].map(|path| mounts_at(&proc, path));
        assert_eq!(before.each_ref().map(Vec::len), [1, 1]);
        assert_eq!(attach_here(&proc, node, container).expect("it is there").hole, None);
        assert_eq!([node, container].map(|path| mounts_at(&proc, path)), before);
    }
}
