//! The FUSE connections of processes, and aborting them: an abort frees every process that waits for the
//! daemon, and the daemon itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mountinfo::MountTable;
use nix::mount::{MsFlags, mount};
use nix::unistd::Pid;
use propagation_model::ErrorKind;
use propagation_protocol::Failure;

use super::apart::apart;
use crate::facts::{CONNECTIONS, parent_of};
use crate::failure::{errno_text, failure};
use crate::mounts::{Proc, errno_of, writable};

/// The connections of the FUSE mounts in a table, by their minor device numbers.
pub(super) fn of_fuse(table: &MountTable) -> BTreeSet<u32> {
    table.iter().filter(|mount| mount.is_fuse()).map(|mount| mount.device.minor).collect()
}

/// Some processes and all below them.
fn below(proc: &Proc, roots: &[Pid]) -> BTreeSet<i32> {
    let names = proc.list(".").unwrap_or_default();
    let all: Vec<i32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let mut below: BTreeSet<i32> = roots.iter().map(|pid| pid.as_raw()).collect();
    loop {
        let is_child = |pid: &&i32| parent_of(proc, **pid).is_some_and(|it| below.contains(&it));
        let found: Vec<i32> =
            all.iter().filter(|pid| !below.contains(pid)).filter(is_child).copied().collect();
        if found.is_empty() {
            return below;
        }
        below.extend(found);
    }
}

/// Their threads, in /proc: the first of a process may have ended before the one that is stuck.
fn threads_below(proc: &Proc, roots: &[Pid]) -> Vec<String> {
    let threads = |pid: i32| {
        let threads = proc.list(&format!("{pid}/task")).unwrap_or_default();
        threads.into_iter().map(move |thread| format!("{pid}/task/{thread}"))
    };
    below(proc, roots).into_iter().flat_map(threads).collect()
}

/// The connections that some processes, or any below them, serve, on kernels that show it.
pub(crate) fn open_below(proc: &Proc, roots: &[Pid]) -> BTreeSet<u32> {
    threads_below(proc, roots).iter().flat_map(|thread| open_in(proc, thread)).collect()
}

/// The connections that some processes, or any below them, have mounted in their mount namespaces, or
/// serve: a mount that was taken off lazily is in no namespace.
pub(super) fn served_below(proc: &Proc, roots: &[Pid]) -> BTreeSet<u32> {
    let mut served = BTreeSet::new();
    let mut namespaces = BTreeSet::new();
    for thread in threads_below(proc, roots) {
        served.extend(open_in(proc, &thread));
        if proc.link(&format!("{thread}/ns/mnt")).is_ok_and(|ns| !namespaces.insert(ns)) {
            continue;
        }
        let text = proc.read(&format!("{thread}/mountinfo")).unwrap_or_default();
        if let Ok(table) = MountTable::parse(&text) {
            served.extend(of_fuse(&table));
        }
    }
    served
}

/// The connections with a device that a process has open, on kernels that show it.
fn open_in(proc: &Proc, process: &str) -> BTreeSet<u32> {
    let names = proc.list(&format!("{process}/fdinfo")).unwrap_or_default();
    let connection = |name: &String| -> Option<u32> {
        let text = proc.read(&format!("{process}/fdinfo/{name}")).ok()?;
        let text = String::from_utf8_lossy(&text);
        let number = text.lines().find_map(|line| line.strip_prefix("fuse_connection:"))?;
        number.trim().parse().ok()
    };
    names.iter().filter_map(connection).collect()
}

/// Aborts connections; returns what was written. It mounts fusectl in a private mount namespace, because the
/// existing fusectl may be read-only or absent.
///
/// # Errors
/// When fusectl cannot be mounted and is not there, or does not let the caller write.
pub(crate) fn abort(minors: &BTreeSet<u32>) -> Result<String, Failure> {
    const OPERATION: &str = "abort the FUSE connection";
    let refuse = |kind: ErrorKind, reason: String| {
        let fix = "as root, mount fusectl: mount -t fusectl none /sys/fs/fuse/connections";
        failure(kind, OPERATION, reason, Some(fix))
    };
    apart(OPERATION, || {
        let connections = Path::new(CONNECTIONS);
        // Where it cannot be mounted, what is there has to do.
        let kind = Some("fusectl");
        let mounted = mount(kind, connections, kind, MsFlags::empty(), None::<&str>);
        let _ = mounted.or_else(|_| writable(connections));
        // There are connections, and none is shown: an ordinary user can do nothing about it.
        if mounted.is_err() && fs::read_dir(connections).is_ok_and(|mut all| all.next().is_none()) {
            let reason =
                format!("fusectl is not mounted on {CONNECTIONS}, and only root can mount it");
            return Err(refuse(ErrorKind::Unsupported, reason));
        }
        let (mut written, mut failed) = (Vec::new(), None);
        for minor in minors {
            let file = connections.join(minor.to_string()).join("abort");
            let reason = |error| format!("write {}: {}", file.display(), errno_text(error));
            match fs::write(&file, "1") {
                Ok(()) => written.push(file.display().to_string()),
                Err(error) => failed = Some(reason(errno_of(&error))),
            }
        }
        match failed.filter(|_| written.is_empty()) {
            Some(reason) => Err(refuse(ErrorKind::Environment, reason)),
            None => Ok(format!("wrote 1 to {}", written.join(", "))),
        }
    })
}

/// Aborts the connections of some processes of this machine and of their descendants, except connections that
/// the caller has mounted too; returns which.
///
/// # Errors
/// When /proc cannot be read, and when none of them can be aborted.
pub fn release(pids: &[i32]) -> Result<BTreeSet<u32>, Failure> {
    let proc = Proc::open()?;
    let roots: Vec<Pid> = pids.iter().copied().map(Pid::from_raw).collect();
    let own = of_fuse(&proc.mount_table()?);
    let served: BTreeSet<u32> = &served_below(&proc, &roots) - &own;
    if !served.is_empty() {
        abort(&served)?;
    }
    Ok(served)
}
