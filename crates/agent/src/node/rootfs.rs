//! The root filesystem of a container: a directory on the runtime's disk. It is kept over restarts of the
//! container in place, and a new pod begins with a new one.

use std::fs;
use std::path::{Path, PathBuf};

use mountinfo::MountPath;
use nix::errno::Errno;
use propagation_model::program::StartRefused;
use propagation_protocol::ContainerSpec;

use super::made::refused;
use super::oci::PROGRAM;
use super::root::{DISK, IMAGE, fill_rootfs};
use crate::mounts::{Proc, errno_of, unmount_lazily};

/// Makes the root filesystem of a container, unless its pod has one; returns where it is on the node.
pub(super) fn prepare(
    spec: &ContainerSpec,
    fuse_conf: Option<&str>,
    proc: &Proc,
) -> Result<PathBuf, StartRefused> {
    let rootfs = Path::new(DISK).join("rootfs").join(&spec.name);
    let failed = |error: std::io::Error| {
        refused(&format!("prepare the root filesystem {}", rootfs.display()), errno_of(&error))
    };
    // It is one directory of the disk, whoever gave the name.
    if Path::new(&spec.name).file_name() != Some(spec.name.as_ref()) {
        return Err(failed(std::io::Error::from_raw_os_error(Errno::EINVAL as i32)));
    }
    if spec.fresh_pod {
        remove(&rootfs, proc).map_err(failed)?;
    }
    if !rootfs.exists() {
        fill_rootfs(&rootfs, fuse_conf).map_err(failed)?;
        let program = format!("{IMAGE}{PROGRAM}");
        if Path::new(&program).exists() {
            let link = rootfs.join(PROGRAM.trim_start_matches('/'));
            fs::hard_link(&program, link).map_err(failed)?;
        }
    }
    Ok(rootfs)
}

/// Removes the root filesystem of a pod that is gone, and nothing through a mount.
fn remove(rootfs: &Path, proc: &Proc) -> std::io::Result<()> {
    let table = proc.mount_table().map_err(|failure| std::io::Error::other(failure.reason))?;
    let path = MountPath::from(rootfs);
    for mount in table.entries().iter().rev().filter(|mount| mount.mount_point.starts_with(&path)) {
        unmount_lazily(&mount.mount_point.to_path_buf())
            .map_err(|errno| std::io::Error::from_raw_os_error(errno as i32))?;
    }
    match fs::remove_dir_all(rootfs) {
        Err(error) if errno_of(&error) == Errno::ENOENT => Ok(()),
        removed => removed,
    }
}
