//! Which process starts the containers of a machine.

use std::fs;
use std::path::{Path, PathBuf};

/// Programs that start containers, as `/proc/PID/comm` calls them.
const RUNTIMES: [&str; 6] = ["containerd", "crio", "dockerd", "k3s-server", "k3s-agent", "rke2"];

/// The container runtime with the lowest process id among those whose mount namespace is not that of process 1: its
/// name and that id. None where every runtime sees the mounts of the node, or /proc does not show them.
pub fn runtime_apart() -> Option<(&'static str, u32)> {
    let namespace = |process: &Path| fs::read_link(process.join("ns/mnt")).ok();
    let of_node = namespace(Path::new("/proc/1"))?;
    let apart = |(process, pid): (PathBuf, u32)| {
        let name = fs::read_to_string(process.join("comm")).ok()?;
        let name = RUNTIMES.into_iter().find(|known| *known == name.trim())?;
        let own = namespace(&process)?;
        (own != of_node).then_some((name, pid))
    };
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((entry.path(), pid))
    });
    processes.filter_map(apart).min_by_key(|(_, pid)| *pid)
}
