//! The mounts of a container, with every number replaced by what it stands for on the node.
//!
//! Mount ids, device numbers and peer groups differ between any two containers. What is compared is
//! which mount of the node they belong to, by its mount point.

use std::fmt;

use propagation_core::mountinfo::{MountEntry, MountPath, MountTable};

/// What a container's root filesystem is called, wherever it is on the node.
pub(super) const ROOTFS: &str = "<rootfs>";

/// A peer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Group {
    /// None.
    None,
    /// That of mounts of the node, by mount point.
    Node(String),
    /// One without a mount on the node; named after its first mount in the container.
    Own(String),
    /// One with a mount neither on the node nor in the container.
    Elsewhere,
}

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where it is mounted.
    pub(super) at: String,
    /// The mount point of the mount it is mounted on; empty for the root.
    pub(super) on: String,
    /// The directory that is seen there, by the node's mounts of it; empty where it has none.
    pub(super) of: String,
    /// The filesystem.
    pub(super) fs_type: String,
    /// The group that it is in.
    pub(super) group: Group,
    /// The group that it receives from.
    pub(super) master: Group,
}

/// The part of a container's mount table that is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Graph {
    /// The mount at `/`.
    pub(super) root: Mount,
    /// The volume and everything below it, in the order of mount points, stacks bottom to top.
    pub(super) volume: Vec<Mount>,
}

/// Extracts the graph of the container whose root filesystem is at `rootfs` on the node and whose
/// volume is at `destination`. Both tables must have been read while nothing changed.
///
/// # Errors
/// When there is no root or no mount at `destination`.
pub(super) fn graph(
    node: &MountTable,
    container: &MountTable,
    rootfs: &str,
    destination: &str,
) -> Result<Graph, String> {
    let names = Names { node, container, rootfs };
    let root = container.at(&MountPath::from("/")).ok_or("the container has no root mount")?;
    let destination = MountPath::from(destination);
    let mut below: Vec<(&MountPath, usize, &MountEntry)> = container
        .iter()
        .filter(|entry| entry.mount_point.starts_with(&destination))
        .map(|entry| (&entry.mount_point, height(container, entry), entry))
        .collect();
    below.sort_by_key(|&(mount_point, height, _)| (mount_point, height));
    if below.first().is_none_or(|(mount_point, ..)| **mount_point != destination) {
        return Err(format!("nothing is mounted at {destination} in the container:\n{container}"));
    }
    let volume = below.into_iter().map(|(.., entry)| names.mount(entry)).collect();
    let root = Mount { on: String::new(), ..names.mount(root) };
    Ok(Graph { root, volume })
}

/// How many mounts lie between a mount and the root: orders a stack.
fn height(table: &MountTable, entry: &MountEntry) -> usize {
    let above = |entry: &&MountEntry| {
        table.by_id(entry.parent_id).filter(|parent| parent.mount_id != entry.mount_id)
    };
    // A table with a loop in it ends here too.
    std::iter::successors(Some(entry), above).take(table.entries().len()).count()
}

struct Names<'a> {
    node: &'a MountTable,
    container: &'a MountTable,
    rootfs: &'a str,
}

impl Names<'_> {
    fn mount(&self, entry: &MountEntry) -> Mount {
        let parent = self.container.by_id(entry.parent_id);
        Mount {
            at: entry.mount_point.to_string(),
            on: parent.map(|parent| parent.mount_point.to_string()).unwrap_or_default(),
            of: self.directory(entry),
            fs_type: entry.fs_type.clone(),
            group: self.group(entry.shared),
            master: self.group(entry.master),
        }
    }

    /// The directory that a mount shows, in findmnt's notation: `/tmp[/a]` is the directory `a` of
    /// what the node has mounted at `/tmp`.
    fn directory(&self, entry: &MountEntry) -> String {
        let same = self.node.by_device(entry.device);
        joined(same.filter_map(|mount| {
            let at = self.on_node(&mount.mount_point);
            match entry.root.strip_prefix(&mount.root)? {
                below if below.as_bytes().is_empty() => Some(at),
                below => Some(format!("{at}[/{below}]")),
            }
        }))
    }

    fn group(&self, id: Option<u64>) -> Group {
        let Some(id) = id else { return Group::None };
        let members = self.node.iter().filter(|mount| mount.shared == Some(id));
        let on_node = joined(members.map(|mount| self.on_node(&mount.mount_point)));
        if !on_node.is_empty() {
            return Group::Node(on_node);
        }
        let own = self.container.iter().find(|mount| mount.shared == Some(id));
        own.map_or(Group::Elsewhere, |mount| Group::Own(mount.mount_point.to_string()))
    }

    fn on_node(&self, path: &MountPath) -> String {
        match path.strip_prefix(&MountPath::from(self.rootfs)) {
            Some(below) => MountPath::from(ROOTFS).join(&below).to_string(),
            None => path.to_string(),
        }
    }
}

/// Names in one order, each once.
fn joined(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names.dedup();
    names.join(" = ")
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("no group"),
            Self::Node(at) => write!(formatter, "the group of the node's {at}"),
            Self::Own(at) => write!(formatter, "a group of its own ({at})"),
            Self::Elsewhere => formatter.write_str("a group of another namespace"),
        }
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, on, of, fs_type, group, master } = self;
        let of = if of.is_empty() { "something not on the node" } else { of };
        write!(formatter, "{at} on {on:?}: {fs_type} of {of}, in {group}, slave of {master}")
    }
}

/// One line for each mount.
pub(super) fn lines(mounts: &[Mount]) -> String {
    mounts.iter().map(|mount| format!("\n    {mount}")).collect()
}
