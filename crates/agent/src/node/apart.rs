//! Work in a private mount namespace: mounts for it and writable mounts exist nowhere else.

use std::path::Path;

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use propagation_model::ErrorKind;
use propagation_protocol::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::child::within;
use crate::failure::{failure, system};
use crate::mounts::propagate_recursive;

/// Deadline of the work, in milliseconds; the work here never waits.
const WORK_MS: u64 = 5_000;

/// Does some work in a child with a mount namespace of its own.
///
/// # Errors
/// The errors of the work, and of making the child.
pub(super) fn apart<T: Serialize + DeserializeOwned>(
    operation: &str,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let failed = |errno| system(operation, errno);
    let done = within(WORK_MS, || {
        unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
        propagate_recursive(Path::new("/"), MsFlags::MS_PRIVATE).map_err(failed)?;
        work()
    });
    let late = || {
        let reason = format!("no answer in {WORK_MS} ms");
        failure(ErrorKind::Timeout, operation, reason, None)
    };
    done.map_err(failed)?.ok_or_else(late)?
}
