//! Failures of the agent's own work, in the form that is sent.

use nix::errno::Errno;
use propagation_model::ErrorKind;
use propagation_model::program::{Refusal, RefusalKind};
use propagation_protocol::Failure;

/// The symbolic name of an errno: `ENOTCONN`.
pub(crate) fn errno_name(errno: Errno) -> String {
    format!("{errno:?}")
}

/// The errno as reports have it.
pub(crate) fn reported(errno: Errno) -> propagation_model::Errno {
    propagation_model::Errno::from_number(errno as i32)
}

/// The text of an errno with its name: `Transport endpoint is not connected (ENOTCONN)`.
pub(crate) fn errno_text(errno: Errno) -> String {
    format!("{} ({errno:?})", errno.desc())
}

/// The text of an errno, and what to do about it where that is known.
pub(crate) fn errno_and_fix(errno: Errno) -> String {
    match fix_for(errno) {
        Some(fix) => format!("{}: {fix}", errno_text(errno)),
        None => errno_text(errno),
    }
}

/// The text that Go programs, and so container runtimes, print for an errno.
pub(crate) fn go_errno_text(errno: Errno) -> String {
    // Go keeps a table of its own; these are the ones that a volume's source can give.
    match errno {
        Errno::ENOTCONN => "transport endpoint is not connected".into(),
        Errno::EACCES => "permission denied".into(),
        Errno::EPERM => "operation not permitted".into(),
        Errno::ENOENT => "no such file or directory".into(),
        Errno::ENOTDIR => "not a directory".into(),
        Errno::EEXIST => "file exists".into(),
        Errno::EROFS => "read-only file system".into(),
        Errno::ENOSPC => "no space left on device".into(),
        Errno::EIO => "input/output error".into(),
        Errno::ELOOP => "too many levels of symbolic links".into(),
        Errno::ESTALE => "stale NFS file handle".into(),
        other => other.desc().to_lowercase(),
    }
}

/// A failure of the machine: `operation` gave `errno`.
pub(crate) fn system(operation: impl Into<String>, errno: Errno) -> Failure {
    Failure {
        kind: ErrorKind::Environment,
        operation: operation.into(),
        reason: errno_text(errno),
        fix: fix_for(errno).map(Into::into),
        refusal: Some(Refusal {
            kind: RefusalKind::of(reported(errno)),
            errno: Some(reported(errno)),
        }),
    }
}

/// A failure with a reason in words.
pub(crate) fn failure(
    kind: ErrorKind,
    operation: impl Into<String>,
    reason: impl Into<String>,
    fix: Option<&str>,
) -> Failure {
    let fix = fix.map(Into::into);
    Failure { kind, operation: operation.into(), reason: reason.into(), fix, refusal: None }
}

/// What to do about an errno where it means the same whatever was attempted.
fn fix_for(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::ENOSPC => Some(
            "no room: free space on the disk; for a namespace raise the limits in \
             /proc/sys/user/max_*_namespaces; for a mount raise /proc/sys/fs/mount-max",
        ),
        Errno::EMFILE | Errno::ENFILE => {
            Some("raise the limit of open descriptors (ulimit -n, or /proc/sys/fs/file-max)")
        }
        Errno::EAGAIN | Errno::ENOMEM => {
            Some("raise the limit of processes (ulimit -u, pids.max) or free memory")
        }
        Errno::ENOSYS => Some("use a kernel that has this call: Linux 5.10 or newer"),
        Errno::EROFS => Some("the filesystem is read-only: use a bridge on a writable one"),
        _ => None,
    }
}
