//! Control groups that runtimes have made.

use std::path::{Path, PathBuf};

/// Those of the machine whose name fits, at any depth.
pub(super) fn named(fits: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut below = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = below.pop() {
        below.extend(directories(&directory));
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        if fits(&name) {
            found.push(directory);
        }
    }
    found
}

fn directories(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path())
}
