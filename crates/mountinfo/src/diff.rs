//! What changed between two captures of one namespace.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::entry::{DeviceId, MountEntry};
use super::path::MountPath;
use super::table::MountTable;

/// The differences between two captures of one namespace, each list in the order of its capture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TableDiff {
    /// Mounts of the later capture only.
    pub added: Vec<MountEntry>,
    /// Mounts of the earlier capture only.
    pub removed: Vec<MountEntry>,
    /// Mounts of both captures that are no longer the same, such as one that was made private or
    /// remounted.
    pub changed: Vec<MountChange>,
}

/// One mount in two captures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MountChange {
    /// As it was in the earlier capture.
    pub before: MountEntry,
    /// As it is in the later one.
    pub after: MountEntry,
}

impl TableDiff {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// Compares two captures of one namespace.
///
/// Mount ids are reused, so a mount is the same one when its id, its device and its mount point
/// are: a moved mount counts as removed and added.
pub fn diff(before: &MountTable, after: &MountTable) -> TableDiff {
    let (earlier, later) = (by_identity(before), by_identity(after));
    let mut changes = TableDiff::default();
    for entry in before {
        if !later.contains_key(&identity(entry)) {
            changes.removed.push(entry.clone());
        }
    }
    for entry in after {
        match earlier.get(&identity(entry)) {
            None => changes.added.push(entry.clone()),
            Some(&same) if same == entry => {}
            Some(&same) => {
                changes.changed.push(MountChange { before: same.clone(), after: entry.clone() });
            }
        }
    }
    changes
}

type Identity<'table> = (u64, DeviceId, &'table MountPath);

fn identity(entry: &MountEntry) -> Identity<'_> {
    (entry.mount_id, entry.device, &entry.mount_point)
}

fn by_identity(table: &MountTable) -> HashMap<Identity<'_>, &MountEntry> {
    table.iter().map(|entry| (identity(entry), entry)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(lines: &[&str]) -> MountTable {
        lines.iter().map(|line| line.parse::<MountEntry>().unwrap()).collect()
    }

    #[test]
    fn mounts_are_added_removed_and_changed() {
        let kept = "1 0 8:1 / / rw - ext4 d rw";
        let before = table(&[
            kept,
            "2 1 0:46 / /a rw - tmpfs t rw",
            "3 1 0:47 / /b rw shared:1 - tmpfs t rw",
        ]);
        let after =
            table(&["3 1 0:47 / /b rw - tmpfs t rw", kept, "4 1 0:48 / /c rw - tmpfs t rw"]);
        let changes = diff(&before, &after);
        assert_eq!(changes.added, after.entries()[2..]);
        assert_eq!(changes.removed, before.entries()[1..2]);
        let change =
            MountChange { before: before.entries()[2].clone(), after: after.entries()[0].clone() };
        assert_eq!(changes.changed, [change]);
    }

    #[test]
    fn a_reused_id_is_another_mount() {
        let before = table(&["2 1 0:46 / /a rw - fuse.x s rw"]);
        for reused in ["2 1 0:47 / /a rw - fuse.x s rw", "2 1 0:46 / /b rw - fuse.x s rw"] {
            let changes = diff(&before, &table(&[reused]));
            assert_eq!(
                (changes.added.len(), changes.removed.len(), changes.changed.len()),
                (1, 1, 0)
            );
        }
    }

    #[test]
    fn the_order_of_lines_does_not_matter() {
        let (first, second) = ("1 0 8:1 / / rw - ext4 d rw", "2 1 0:46 / /a rw - tmpfs t rw");
        assert!(diff(&table(&[first, second]), &table(&[second, first])).is_empty());
    }
}
