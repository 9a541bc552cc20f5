//! Making a container as the runtime does, in its order, with its checks and its words.
//!
//! The checks and texts are those of containerd's CRI plugin (`WithMounts`), the mounting is that
//! of runc (`prepareRoot`, `mountToRootfs`, `pivotRoot`).

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::chdir;
use propagation_core::mountinfo::{MountPath, MountPropagation};
use propagation_core::plan::Propagation;
use propagation_core::program::StartRefused;
use propagation_core::protocol::ContainerSpec;

use super::root::IMAGE;
use crate::failure::{errno_name, go_errno_text};
use crate::mounts::{
    Proc, bind_recursive, errno_of, flag_of, make_directory, pivot_into_current_directory,
    propagate, propagate_recursive,
};

/// Makes the mount namespaces of one container spec, one for each replica, and returns to the
/// node's. Runs in a child that can be given up: the volume's source may hang.
pub(super) fn create(
    spec: &ContainerSpec,
    proc: &Proc,
    node: &OwnedFd,
) -> Result<Vec<OwnedFd>, StartRefused> {
    check_source(spec)?;
    check_covering(spec, proc)?;
    let made = build(spec, proc);
    let back = setns(node.as_fd(), CloneFlags::CLONE_NEWNS);
    let namespaces = made?;
    back.map_err(|errno| refused("return to the node's mount namespace", errno))?;
    Ok(namespaces)
}

fn refused(operation: &str, errno: Errno) -> StartRefused {
    StartRefused {
        text: format!("{operation}: {}", go_errno_text(errno)),
        errno: Some(errno_name(errno)),
    }
}

/// containerd stats the source of a volume, and makes a directory where there is nothing.
fn check_source(spec: &ContainerSpec) -> Result<(), StartRefused> {
    let source = &spec.source;
    match fs::metadata(source) {
        Ok(_) => Ok(()),
        Err(error) => {
            let errno = errno_of(&error);
            if errno != Errno::ENOENT {
                let operation = format!("failed to stat {source:?}: stat {source}");
                return Err(refused(&operation, errno));
            }
            make_directory(Path::new(source)).map_err(|errno| {
                refused(&format!("failed to mkdir {source:?}: mkdir {source}"), errno)
            })
        }
    }
}

/// containerd looks up the mount that the source lies on and refuses what cannot propagate.
fn check_covering(spec: &ContainerSpec, proc: &Proc) -> Result<(), StartRefused> {
    let words = match spec.propagation {
        Propagation::None => return Ok(()),
        Propagation::HostToContainer => "a shared or slave mount",
        Propagation::Bidirectional => "a shared mount",
    };
    // The runtime resolves links in the source before it looks.
    let source = fs::canonicalize(&spec.source).map_err(|e| {
        refused(&format!("failed to resolve symlink {:?}", spec.source), errno_of(&e))
    })?;
    let table = proc.mount_table().map_err(|failure| StartRefused {
        text: format!("{}: {}", failure.operation, failure.reason),
        errno: None,
    })?;
    let Some(mount) = table.covering(&MountPath::from(source.as_path())) else {
        return Ok(());
    };
    let fits = match mount.propagation() {
        MountPropagation::Shared | MountPropagation::SlaveAndShared => true,
        MountPropagation::Slave => spec.propagation == Propagation::HostToContainer,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let mount_point = mount.mount_point.to_string_lossy();
    Err(StartRefused {
        text: format!("path {:?} is mounted on {mount_point:?} but it is not {words}", spec.source),
        errno: None,
    })
}

fn build(spec: &ContainerSpec, proc: &Proc) -> Result<Vec<OwnedFd>, StartRefused> {
    enter(spec)?;
    let own = || proc.of_thread("ns/mnt").map_err(|errno| refused("open the namespace", errno));
    let mut namespaces = vec![own()?];
    for _ in 1..spec.replicas {
        // A copy of the finished namespace has the same propagation graph as one built from the
        // beginning: a slave's copy is a slave of the same master, a private mount's is private, a
        // shared mount's is a peer.
        unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| refused("unshare", errno))?;
        namespaces.push(own()?);
    }
    Ok(namespaces)
}

/// Unshares, makes `/` a slave (or leaves it shared) before any bind, binds, pivots.
fn enter(spec: &ContainerSpec) -> Result<(), StartRefused> {
    let root = Path::new(IMAGE);
    let step = |what: &'static str| move |errno| refused(what, errno);
    unshare(CloneFlags::CLONE_NEWNS).map_err(step("unshare the mount namespace"))?;
    // containerd asks for the root's propagation by the strongest of the volumes'.
    let root_propagation = match spec.propagation {
        Propagation::Bidirectional => MsFlags::MS_SHARED,
        _ => MsFlags::MS_SLAVE,
    };
    propagate_recursive(Path::new("/"), root_propagation).map_err(step("propagation of /"))?;
    propagate(root, MsFlags::MS_PRIVATE).map_err(step("propagation of the rootfs' parent"))?;
    bind_recursive(root, root).map_err(step("bind the rootfs"))?;
    mount_into(root, Path::new("/proc"), "/proc", MsFlags::MS_PRIVATE)?;
    if spec.privileged {
        mount_into(root, Path::new("/dev"), "/dev", MsFlags::MS_PRIVATE)?;
    }
    if spec.uid != 0 {
        mount_into(root, Path::new("/usr"), "/usr", MsFlags::MS_PRIVATE)?;
    }
    let source = Path::new(&spec.source);
    mount_into(root, source, &spec.destination, flag_of(spec.propagation))?;
    chdir(root).map_err(step("enter the rootfs"))?;
    // `/` stays private, as with runc 1.1.15 to 1.2.6 and 1.3.0. Older ones leave it a slave of the
    // rootfs' mount, newer ones and crun share it in a group of its own for Bidirectional. No volume
    // can tell (backend-local/tests/side_by_side/roots.rs).
    pivot_into_current_directory().map_err(step("pivot_root"))
}

fn mount_into(
    root: &Path,
    source: &Path,
    destination: &str,
    propagation: MsFlags,
) -> Result<(), StartRefused> {
    let target: PathBuf = root.join(destination.trim_start_matches('/'));
    let failed = |errno| {
        refused(
            &format!("error mounting {:?} to rootfs at {destination:?}", source.display()),
            errno,
        )
    };
    make_directory(&target).map_err(failed)?;
    bind_recursive(source, &target).map_err(failed)?;
    propagate_recursive(&target, propagation).map_err(failed)
}
