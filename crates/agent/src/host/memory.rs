//! A filesystem in memory for the files of a run on a real node: no disk decides what is measured on it, and all
//! that was mounted in it goes with it.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::state::source;
use crate::mounts::propagate;

/// Mounts one at a directory. Its source is that of the run's mounts, by which the clean-up finds it.
///
/// # Errors
/// Those of mount(2).
pub fn mount_memory(at: &Path, run_id: &str, bytes: u64) -> Result<(), Errno> {
    let (flags, options) =
        (MsFlags::MS_NOSUID | MsFlags::MS_NODEV, format!("size={bytes},mode=755"));
    mount(Some(source(run_id).as_str()), at, Some("tmpfs"), flags, Some(options.as_str()))?;
    // A runtime refuses a bidirectional volume whose source is not shared.
    propagate(at, MsFlags::MS_SHARED)
}
