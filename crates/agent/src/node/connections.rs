//! The FUSE connections of processes, and ending them: aborting one lets everybody go who waits for its
//! daemon, the daemon included.

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

/// The connections that some processes, or any below them, have mounted in their mount namespaces.
pub(super) fn served_below(proc: &Proc, roots: &[Pid]) -> BTreeSet<u32> {
    let names = proc.list(".").unwrap_or_default();
    let all: Vec<i32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let mut below: BTreeSet<i32> = roots.iter().map(|pid| pid.as_raw()).collect();
    loop {
        let is_child = |pid: &&i32| parent_of(proc, **pid).is_some_and(|it| below.contains(&it));
        let found: Vec<i32> =
            all.iter().filter(|pid| !below.contains(pid)).filter(is_child).copied().collect();
        if found.is_empty() {
            break;
        }
        below.extend(found);
    }
    let mut served = BTreeSet::new();
    let mut namespaces = BTreeSet::new();
    for pid in below {
        // The first thread of a process may have ended before the one that is stuck.
        for thread in proc.list(&format!("{pid}/task")).unwrap_or_default() {
            let thread = format!("{pid}/task/{thread}");
            if proc.link(&format!("{thread}/ns/mnt")).is_ok_and(|ns| !namespaces.insert(ns)) {
                continue;
            }
            let text = proc.read(&format!("{thread}/mountinfo")).unwrap_or_default();
            if let Ok(table) = MountTable::parse(&text) {
                served.extend(of_fuse(&table));
            }
        }
    }
    served
}

/// Aborts connections; says what was written. It is done in a mount namespace that is nobody's, where
/// fusectl is mounted anew: where it is, it may be read-only, or not be at all.
///
/// # Errors
/// When fusectl cannot be mounted and is not there, or does not let the caller write.
pub(super) fn abort(minors: &BTreeSet<u32>) -> Result<String, Failure> {
    const OPERATION: &str = "abort the FUSE connection";
    let refuse = |reason: String| {
        let fix = "as root, mount fusectl: mount -t fusectl none /sys/fs/fuse/connections";
        failure(ErrorKind::Environment, OPERATION, reason, Some(fix))
    };
    apart(OPERATION, || {
        let connections = Path::new(CONNECTIONS);
        // Where it cannot be mounted, what is there has to do.
        let kind = Some("fusectl");
        let _ = mount(kind, connections, kind, MsFlags::empty(), None::<&str>)
            .or_else(|_| writable(connections));
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
            Some(reason) => Err(refuse(reason)),
            None => Ok(format!("wrote 1 to {}", written.join(", "))),
        }
    })
}

/// Aborts the connections of some processes of this machine and of all below them, but for those that
/// the caller has mounted too; says which.
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
