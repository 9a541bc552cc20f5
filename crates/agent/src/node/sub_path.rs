//! The kubelet's part in a volume with a subPath: a bind that it makes when the pod starts, and that the runtime
//! then binds into the container.

use std::fs;
use std::path::Path;

use mountinfo::MountPath;
use nix::errno::Errno;
use nix::mount::MsFlags;
use propagation_model::program::{RefusalKind, StartRefused};

use crate::failure::{go_errno_text, reported};
use crate::mounts::{Proc, bind_recursive, errno_of, make_directory, propagate, unmount_lazily};

/// Where the kubelet's binds are on the node, one directory for each pod.
pub(super) const SUB_PATHS: &str = "/run/propagation/volume-subpaths";

/// Binds `source` on `target`, unless something is mounted there already: the kubelet goes by the
/// mount table and does not ask whether the mount lives, unless it is one that `heals`. A new pod gets
/// a new bind.
pub(super) fn bind(
    source: &Path,
    target: &Path,
    fresh_pod: bool,
    heals: bool,
    proc: &Proc,
) -> Result<(), StartRefused> {
    let refused = |errno: Errno| {
        let (source, why) = (source.display(), go_errno_text(errno));
        let text = format!("failed to prepare subPath for volumeMount: {source}: {why}");
        StartRefused::with(reported(errno), text)
    };
    let path = MountPath::from(target);
    let mounted = || {
        let table = proc.mount_table().map_err(|failure| {
            let text = format!("{}: {}", failure.operation, failure.reason);
            StartRefused::of(RefusalKind::Other, text)
        })?;
        Ok(table.stack_at(&path).len())
    };
    let there = mounted()?;
    let dead = || fs::metadata(target).is_err();
    if there > 0 && !fresh_pod && !(heals && dead()) {
        return Ok(());
    }
    for _ in 0..there {
        unmount_lazily(target).map_err(refused)?;
    }
    let is_file = match fs::metadata(source) {
        Ok(metadata) => metadata.is_file(),
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {
            make_directory(source).map_err(refused)?;
            false
        }
        Err(error) => return Err(refused(errno_of(&error))),
    };
    if is_file {
        target.parent().map_or(Ok(()), make_directory).map_err(refused)?;
        fs::write(target, "").map_err(|error| refused(errno_of(&error)))?;
    } else {
        make_directory(target).map_err(refused)?;
    }
    bind_recursive(source, target).map_err(refused)?;
    // The kubelet's mount is a member of the node's groups, as every bind on a shared mount is.
    propagate(target, MsFlags::MS_SHARED).map_err(refused)
}
