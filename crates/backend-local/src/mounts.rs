//! The mount tables of this host, for `doctor`.

use std::fs;
use std::path::Path;

use propagation_core::mountinfo::MountTable;
use propagation_core::{Error, ErrorKind, runtime_apart};

/// The mount tables that decide what containers on this host see.
#[derive(Debug, Clone)]
pub struct HostMounts {
    /// The mounts of this process's namespace, which are those that a simulated node is made of.
    pub node: MountTable,
    /// Whether this process has a mount namespace of its own: the mounts of process 1 may be others.
    pub own_namespace: bool,
    /// The mounts of the container runtime, if it runs in its own mount namespace.
    pub runtime: Option<RuntimeMounts>,
}

/// The mount table of a container runtime.
#[derive(Debug, Clone)]
pub struct RuntimeMounts {
    /// What the program is called, and its process id.
    pub process: String,
    /// Its mounts.
    pub table: MountTable,
}

/// Reads the mount tables. Only /proc is looked at, so nothing can hang.
///
/// # Errors
/// [`ErrorKind::Environment`] when /proc cannot be read.
pub fn host_mounts() -> Result<HostMounts, Error> {
    let (own, first) = (own_mounts(), read(Path::new("/proc/1")));
    let own_namespace =
        first.as_ref().zip(own.as_ref().ok()).is_some_and(|(first, own)| apart(own, first));
    // In the same namespace process 1 sees what a chroot hides.
    let node = first.filter(|_| !own_namespace).map_or(own, Ok)?;
    let runtime = runtime_apart().and_then(|(name, pid)| {
        let table = read(&Path::new("/proc").join(pid.to_string()))?;
        Some(RuntimeMounts { process: format!("{name} (process {pid})"), table })
    });
    Ok(HostMounts { node, own_namespace, runtime })
}

/// Whether two tables are of two mount namespaces: an id belongs to one mount in one of them, and everybody may read
/// it, while /proc/1/ns/mnt is for root. A chroot may show nothing.
fn apart(own: &MountTable, first: &MountTable) -> bool {
    let mut ids = own.iter().map(|mount| mount.mount_id).peekable();
    ids.peek().is_some() && !ids.any(|id| first.by_id(id).is_some())
}

/// The mounts of this process.
///
/// # Errors
/// [`ErrorKind::Environment`] when /proc cannot be read.
pub fn own_mounts() -> Result<MountTable, Error> {
    read(Path::new("/proc/self")).ok_or_else(|| {
        Error::new(ErrorKind::Environment, "read /proc/self/mountinfo", "it is not there")
            .with_fix("mount /proc")
    })
}

fn read(process: &Path) -> Option<MountTable> {
    let bytes = fs::read(process.join("mountinfo")).ok()?;
    MountTable::parse(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_root() {
        let mounts = host_mounts().expect("/proc");
        assert!(mounts.node.covering(&"/".into()).is_some());
    }
}
