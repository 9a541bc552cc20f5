//! The mounts of one namespace, and which of them a path leads to.

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::entry::{DeviceId, MountEntry};
use super::path::MountPath;

/// The mounts of one namespace, as one process sees them.
///
/// Paths given to the lookups are absolute, from that process's root directory, and free of `..`
/// and symbolic links: a table cannot know what those lead to. The indexes behind the lookups are
/// made at the first use.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
#[derive(schemars::JsonSchema)]
pub struct MountTable {
    entries: Vec<MountEntry>,
    #[serde(skip)]
    ids: OnceLock<HashMap<u64, usize>>,
    #[serde(skip)]
    tree: OnceLock<Tree>,
}

impl MountTable {
    /// The mounts in the order of the file, which is not always the order in which they were made.
    pub fn entries(&self) -> &[MountEntry] {
        &self.entries
    }

    /// Converts the table to its mounts.
    pub fn into_entries(self) -> Vec<MountEntry> {
        self.entries
    }

    /// The mounts in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, MountEntry> {
        self.entries.iter()
    }

    /// The mount that the process meets at `path`, when `path` is a mount point.
    ///
    /// It is the topmost of the mounts stacked there. Mounts below a directory that was mounted
    /// over later are hidden and never found. At `/` it is the process's root mount: what is
    /// mounted on top of that is out of reach for the process, because a path walk does not step up
    /// where it starts.
    pub fn at(&self, path: &MountPath) -> Option<&MountEntry> {
        self.stack_at(path).pop()
    }

    /// All mounts that the process crosses at `path`, bottom to top; the last is [`at`](Self::at).
    pub fn stack_at(&self, path: &MountPath) -> Vec<&MountEntry> {
        let walk = self.walk(path).unwrap_or_default();
        walk.crossed[walk.arrived..].iter().map(|&index| &self.entries[index]).collect()
    }

    /// The mount that `path` lies on: the last one the process crosses on the way.
    pub fn covering(&self, path: &MountPath) -> Option<&MountEntry> {
        self.walk(path)?.crossed.last().map(|&index| &self.entries[index])
    }

    /// The mount with this id.
    pub fn by_id(&self, mount_id: u64) -> Option<&MountEntry> {
        self.ids().get(&mount_id).map(|&index| &self.entries[index])
    }

    /// The mounts mounted on this one, hidden ones too, in the order of their mount points.
    pub fn children(&self, mount_id: u64) -> impl Iterator<Item = &MountEntry> {
        let parent = self.ids().get(&mount_id).copied();
        let children = parent.map_or(&[][..], |parent| self.tree().children(parent));
        children
            .iter()
            .map(|&(_, index)| &self.entries[index])
            .filter(move |entry| entry.parent_id == mount_id)
    }

    /// The mounts of one superblock, hidden ones too.
    pub fn by_device(&self, device: DeviceId) -> impl Iterator<Item = &MountEntry> {
        self.iter().filter(move |entry| entry.device == device)
    }

    /// The mounts of FUSE filesystems, hidden ones too.
    pub fn fuse_mounts(&self) -> impl Iterator<Item = &MountEntry> {
        self.iter().filter(|entry| entry.is_fuse())
    }

    /// Follows `path` as the kernel does: after every component, up the mounts stacked there.
    fn walk(&self, path: &MountPath) -> Option<Walk> {
        let relative = path.as_bytes().strip_prefix(b"/")?;
        let tree = self.tree();
        let mut walk = Walk { crossed: tree.root.into_iter().collect(), arrived: 0 };
        let mut position = Vec::with_capacity(path.as_bytes().len());
        for component in relative.split(|&byte| byte == b'/') {
            if component.is_empty() || component == b"." {
                continue;
            }
            position.push(b'/');
            position.extend_from_slice(component);
            walk.arrived = walk.crossed.len();
            while let Some(next) =
                tree.mounted_at(&self.entries, walk.crossed.last().copied(), &position)
            {
                walk.crossed.push(next);
            }
        }
        Some(walk)
    }

    fn ids(&self) -> &HashMap<u64, usize> {
        self.ids.get_or_init(|| {
            self.entries.iter().enumerate().map(|(index, entry)| (entry.mount_id, index)).collect()
        })
    }

    fn tree(&self) -> &Tree {
        self.tree.get_or_init(|| Tree::new(&self.entries, self.ids()))
    }
}

/// The mounts crossed on the way to a path, as indexes, and how many of them before its last
/// component.
#[derive(Default)]
struct Walk {
    crossed: Vec<usize>,
    arrived: usize,
}

/// Which mount is mounted on which.
///
/// Every mount has one parent at most, so a walk that starts at a mount without a parent never
/// comes to a loop, whatever the table says.
#[derive(Clone)]
struct Tree {
    root: Option<usize>,
    /// Parent and child, sorted by parent, then by the child's mount point, then by its place in
    /// the table.
    pairs: Vec<(Option<usize>, usize)>,
}

impl Tree {
    fn new(entries: &[MountEntry], ids: &HashMap<u64, usize>) -> Self {
        let parent_in_view = |index: usize| {
            ids.get(&entries[index].parent_id).copied().filter(|&parent| parent != index)
        };
        let root = (0..entries.len()).find(|&index| {
            entries[index].mount_point.as_bytes() == b"/" && parent_in_view(index).is_none()
        });
        // A view without a root mount is that of a process whose root directory is not a mount
        // point: all of its topmost mounts have the same parent out of view. In a view with one, a
        // missing parent means that somebody left lines out, and the root is the best guess.
        let parent =
            |index| parent_in_view(index).or_else(|| root.filter(|&candidate| candidate != index));
        let mut pairs: Vec<_> = (0..entries.len()).map(|index| (parent(index), index)).collect();
        pairs.sort_unstable_by_key(|&(parent, index)| (parent, &entries[index].mount_point, index));
        Self { root, pairs }
    }

    fn children(&self, parent: usize) -> &[(Option<usize>, usize)] {
        let start = self.pairs.partition_point(|&(other, _)| other < Some(parent));
        let end = self.pairs.partition_point(|&(other, _)| other <= Some(parent));
        &self.pairs[start..end]
    }

    /// The mount on `parent` at `position`. Old kernels can show two; the later one counts.
    fn mounted_at(
        &self,
        entries: &[MountEntry],
        parent: Option<usize>,
        position: &[u8],
    ) -> Option<usize> {
        let key = |&(parent, index): &(Option<usize>, usize)| {
            (parent, entries[index].mount_point.as_bytes())
        };
        let end = self.pairs.partition_point(|pair| key(pair) <= (parent, position));
        let last = self.pairs[..end].last()?;
        (key(last) == (parent, position)).then_some(last.1)
    }
}

impl From<Vec<MountEntry>> for MountTable {
    fn from(entries: Vec<MountEntry>) -> Self {
        Self { entries, ..Self::default() }
    }
}

impl FromIterator<MountEntry> for MountTable {
    fn from_iter<I: IntoIterator<Item = MountEntry>>(entries: I) -> Self {
        Self::from(Vec::from_iter(entries))
    }
}

impl<'table> IntoIterator for &'table MountTable {
    type Item = &'table MountEntry;
    type IntoIter = std::slice::Iter<'table, MountEntry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for MountTable {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for MountTable {}

impl fmt::Debug for MountTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(&self.entries).finish()
    }
}

impl fmt::Display for MountTable {
    /// Writes the file again, every line with its newline.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|entry| writeln!(formatter, "{entry}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(mounts: &[(u64, u64, &str)]) -> MountTable {
        let line = |&(id, parent, at): &(u64, u64, &str)| {
            format!("{id} {parent} 0:{id} / {at} rw - tmpfs t rw\n")
        };
        MountTable::parse(mounts.iter().map(line).collect::<String>().as_bytes()).unwrap()
    }

    fn at(table: &MountTable, path: &str) -> Option<u64> {
        table.at(&path.into()).map(|entry| entry.mount_id)
    }

    fn covering(table: &MountTable, path: &str) -> Option<u64> {
        table.covering(&path.into()).map(|entry| entry.mount_id)
    }

    #[test]
    fn the_topmost_of_a_stack_is_found() {
        let table = table(&[(4, 3, "/a"), (1, 0, "/"), (3, 2, "/a"), (2, 1, "/a")]);
        let stack: Vec<u64> =
            table.stack_at(&"/a".into()).iter().map(|entry| entry.mount_id).collect();
        assert_eq!(stack, [2, 3, 4]);
        assert_eq!(at(&table, "/a"), Some(4));
        assert_eq!(covering(&table, "/a/b/c"), Some(4));
        assert_eq!(covering(&table, "/ab"), Some(1));
    }

    #[test]
    fn mounts_below_a_later_mount_are_hidden() {
        let table = table(&[(1, 0, "/"), (2, 1, "/a/b"), (3, 1, "/a")]);
        assert_eq!(at(&table, "/a/b"), None);
        assert!(table.stack_at(&"/a/b".into()).is_empty());
        assert_eq!(covering(&table, "/a/b/c"), Some(3));
        assert!(table.by_id(2).is_some());
    }

    #[test]
    fn a_mount_over_the_root_is_out_of_reach() {
        let table = table(&[(1, 0, "/"), (2, 1, "/"), (3, 1, "/a"), (4, 2, "/b")]);
        assert_eq!(at(&table, "/"), Some(1));
        assert_eq!(at(&table, "/a"), Some(3));
        assert_eq!(at(&table, "/b"), None);
    }

    #[test]
    fn the_root_may_be_its_own_parent() {
        let table = table(&[(1, 1, "/"), (2, 1, "/a")]);
        assert_eq!(at(&table, "/"), Some(1));
        assert_eq!(table.children(1).map(|entry| entry.mount_id).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_view_may_have_no_root_mount() {
        let table = table(&[(5, 9, "/proc"), (6, 5, "/proc/sys")]);
        assert_eq!(at(&table, "/"), None);
        assert_eq!(covering(&table, "/etc"), None);
        assert_eq!(at(&table, "/proc/sys"), Some(6));
    }

    #[test]
    fn a_parent_left_out_counts_as_the_root() {
        let table = table(&[(1, 0, "/"), (6, 5, "/proc/sys")]);
        assert_eq!(at(&table, "/proc/sys"), Some(6));
        assert_eq!(table.children(1).count(), 0);
    }

    #[test]
    fn loops_and_repeated_ids_end() {
        let table = table(&[(1, 0, "/"), (2, 3, "/a"), (3, 2, "/a"), (1, 3, "/a"), (4, 1, "/a")]);
        assert_eq!(at(&table, "/a"), None);
        assert_eq!(table.children(2).count(), 1);
    }

    #[test]
    fn paths_are_followed_component_by_component() {
        let table = table(&[(1, 0, "/"), (2, 1, "/a"), (3, 2, "/a/b")]);
        assert_eq!(at(&table, "//a/./b/"), Some(3));
        assert_eq!(at(&table, "a"), None);
        assert_eq!(covering(&table, ""), None);
    }

    #[test]
    fn superblocks_and_fuse_mounts_are_listed() {
        let table = MountTable::parse(
            b"1 0 8:1 / / rw - ext4 d rw\n\
              2 1 0:46 / /a rw - fuse.x s rw\n\
              3 1 0:46 /d /b rw - fuse.x s rw\n",
        )
        .unwrap();
        let device = DeviceId { major: 0, minor: 46 };
        assert_eq!(table.by_device(device).count(), 2);
        assert!(table.fuse_mounts().eq(table.by_device(device)));
    }

    #[test]
    fn json_is_the_list_of_entries() {
        let table = table(&[(1, 0, "/"), (2, 1, "/a")]);
        let json = serde_json::to_value(&table).unwrap();
        assert_eq!(json.as_array().map(Vec::len), Some(2));
        assert_eq!(serde_json::from_value::<MountTable>(json).unwrap(), table);
        assert_eq!(MountTable::parse(table.to_string().as_bytes()).unwrap(), table);
    }
}
