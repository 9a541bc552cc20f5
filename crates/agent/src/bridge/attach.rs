//! Giving a running container the node's mount.

mod reconnect;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use mountinfo::{MountEntry, MountPath, MountTable};
use nix::errno::Errno;
use propagation_model::ErrorKind;
use propagation_model::plan::Propagation;
use propagation_model::program::{Attach, Attached};
use propagation_protocol::{ContainerSpec, Failure};
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
            check_fresh(proc, path)?;
            rebind(proc, path, spec, None, &enter)
        }
        Attach::Reconnect => reconnect::reconnect(proc, path, spec, &enter),
    }
}

/// Takes a copy of the node's fresh mount at `path` and puts it where the container's stale one is. The
/// copy shows the part of the filesystem that the stale mount showed, and has its propagation and its
/// flags, or others that are wanted.
fn rebind(
    proc: &Proc,
    path: &str,
    spec: &ContainerSpec,
    wanted: Option<Attributes>,
    enter: impl Fn(Side) -> Result<(), Failure>,
) -> Result<Attached, Failure> {
    enter(Side::Container)?;
    let stale = stale_mount(spec, &proc.mount_table()?);
    // A mount can be copied only in its own namespace.
    enter(Side::Node)?;
    let (part, target) = match &stale {
        Some(stale) => (stale.root.to_string_lossy(), stale.mount_point.to_string_lossy()),
        None => ("/".into(), spec.fuse_path.as_str().into()),
    };
    let copy = copy_of_mount(format!("{path}{part}").trim_end_matches('/'))?;
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
    let target = Path::new(&*target);
    let hole = match &stale {
        Some(_) => replace(&copy, target, has_beneath())?,
        None => mount_copy(&copy, target).map(|()| false)?,
    };
    if !given {
        attributes.give_at(target).map_err(|errno| {
            system(format!("give {target:?} the propagation and flags that it had"), errno)
        })?;
    }
    Ok(Attached { hole })
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
        table.at(&MountPath::from(place)).filter(|mount| mount.is_fuse()).cloned()
    })
}

/// Whether a FUSE mount is at a path that answers, to be bound elsewhere.
fn check_fresh(proc: &Proc, path: &str) -> Result<(), Failure> {
    let refuse = |reason: String| {
        let words = "re-bind in a container";
        let fix = "start the producer first, so that a living mount is there";
        Err(failure(ErrorKind::Environment, words, reason, Some(fix)))
    };
    let table = proc.mount_table()?;
    if !table.at(&MountPath::from(path)).is_some_and(MountEntry::is_fuse) {
        return refuse(format!("no FUSE mount is at {path:?} on the node"));
    }
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        // Whom the mount does not let in says nothing of its life.
        Err(error) if errno_of(&error) == Errno::EACCES => Ok(()),
        Err(error) => {
            let words = errno_text(errno_of(&error));
            refuse(format!("the mount at {path:?} on the node: {words}"))
        }
    }
}

/// A detached copy of the mount, or of the part of it, at a path of the current namespace.
pub(super) fn copy_of_mount(path: &str) -> Result<OwnedFd, Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(rustix::fs::CWD, path, flags)
        .map_err(|e| system(format!("copy the mount at {path:?}"), to_nix(e)))
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
                let copy = copy_of_mount("/tmp/fresh").expect("a copy");
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
}
