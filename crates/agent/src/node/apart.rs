//! Work in a mount namespace that is nobody else's: what is mounted or made writable for it is so
//! nowhere else.

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

/// How long the work may take, in milliseconds: what is done here waits for nothing.
const WORK_MS: u64 = 5_000;

/// Does some work in a child with a mount namespace of its own.
///
/// # Errors
/// Those of the work, and when there can be no such child.
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
