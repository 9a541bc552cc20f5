//! The kernel's part of the model: superblocks, mounts, peer groups, namespaces.
//!
//! The rules: a FUSE mount is one superblock, whatever it is bound to; the end of its connection
//! reaches every holder; mounts and unmounts propagate from the parent mount (see `travel`); a mount
//! stacked on another has that one as its parent; a bind joins the group of the mount on top; a
//! namespace of another user namespace holds slaves of the host's mounts only.

mod travel;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::files::{Files, below, join};
use super::fuse::Connection;
use crate::mountinfo::{DeviceId, MountEntry, MountTable};
use crate::plan::Propagation;

/// A mount namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Namespace(u32);

/// What a superblock holds.
#[derive(Debug)]
pub(super) enum Content {
    /// An ordinary filesystem.
    Lower(Files),
    /// A FUSE filesystem, by its connection.
    Fuse(Connection),
}

/// A filesystem. Its number is the minor of its device.
#[derive(Debug)]
pub(super) struct Superblock {
    pub(super) fs_type: &'static str,
    pub(super) source: String,
    pub(super) options: String,
    pub(super) content: Content,
}

/// How a mount is connected to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Groups {
    /// Its peer group: it sends to it and receives from it.
    pub(super) peer: Option<u64>,
    /// The group that it receives from.
    pub(super) master: Option<u64>,
}

#[derive(Debug, Clone)]
struct Mount {
    namespace: Namespace,
    parent: Option<u64>,
    /// The directory of the parent's filesystem that it is mounted on.
    at: String,
    superblock: u32,
    /// The directory of the mount's filesystem that it shows.
    root: String,
    groups: Groups,
}

/// Where a path leads: a directory of a mount's filesystem.
#[derive(Debug, Clone)]
pub(super) struct Place {
    mount: u64,
    pub(super) superblock: u32,
    pub(super) directory: String,
}

/// A mount that is nowhere yet.
#[derive(Debug)]
pub(super) struct Copy {
    superblock: u32,
    directory: String,
    groups: Groups,
}

/// All superblocks and mounts of the machine.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    superblocks: BTreeMap<u32, Superblock>,
    mounts: BTreeMap<u64, Mount>,
    namespaces: BTreeMap<Namespace, BTreeSet<u64>>,
    last_mount: u64,
    last_group: u64,
    last_namespace: u32,
}

/// The parent that mountinfo shows for the root of a view; no mount has this number.
const OUT_OF_VIEW: u64 = 1;

/// The device number of the first superblock; the numbers below are the host's own.
const FIRST_MINOR: u32 = 40;

impl Kernel {
    pub(super) fn add_superblock(&mut self, superblock: Superblock) -> u32 {
        let minor = self.superblocks.keys().next_back().map_or(FIRST_MINOR, |last| last + 1);
        self.superblocks.insert(minor, superblock);
        minor
    }

    pub(super) fn superblock(&self, minor: u32) -> Option<&Superblock> {
        self.superblocks.get(&minor)
    }

    pub(super) fn superblock_mut(&mut self, minor: u32) -> Option<&mut Superblock> {
        self.superblocks.get_mut(&minor)
    }

    /// Makes a namespace with a mount of `superblock` as its root.
    pub(super) fn add_namespace(&mut self, superblock: u32) -> Namespace {
        self.last_namespace += 1;
        let namespace = Namespace(self.last_namespace);
        self.insert(Mount {
            namespace,
            parent: None,
            at: "/".into(),
            superblock,
            root: "/".into(),
            groups: Groups::default(),
        });
        namespace
    }

    /// Ends a namespace. Its unmounts do not propagate.
    pub(super) fn end_namespace(&mut self, namespace: Namespace) {
        for mount in self.namespaces.remove(&namespace).unwrap_or_default() {
            self.mounts.remove(&mount);
        }
    }

    /// Where a path of a namespace leads, up every mount on the way.
    pub(super) fn walk(&self, namespace: Namespace, path: &str) -> Option<Place> {
        let (mut mount, root) = self.of(namespace).find(|(_, mount)| mount.parent.is_none())?;
        let (mut directory, mut superblock) = (root.root.clone(), root.superblock);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            directory = join(&directory, name);
            while let Some((id, child)) = self.child_at(mount, &directory) {
                (mount, superblock) = (id, child.superblock);
                directory.clone_from(&child.root);
            }
        }
        Some(Place { mount, superblock, directory })
    }

    /// Binds a directory, with all mounts below it, into another namespace, as a volume of the
    /// given propagation. With `foreign` that namespace belongs to another user namespace.
    pub(super) fn bind_volume(
        &mut self,
        from: (Namespace, &str),
        to: (Namespace, &str),
        propagation: Propagation,
        foreign: bool,
    ) {
        let (Some(source), Some(target)) = (self.walk(from.0, from.1), self.walk(to.0, to.1))
        else {
            return;
        };
        let first = (source.mount, target.mount, target.directory, source.directory);
        let mut waiting = VecDeque::from([first]);
        while let Some((original, parent, at, root)) = waiting.pop_front() {
            let Some(mount) = self.mounts.get(&original).cloned() else { continue };
            let below_it: Vec<(u64, String, String)> = self
                .of(from.0)
                .filter(|(_, child)| child.parent == Some(original))
                .filter(|(_, child)| below(&child.at, &root).is_some())
                .map(|(id, child)| (id, child.at.clone(), child.root.clone()))
                .collect();
            let groups = self.volume_groups(mount.groups, propagation, foreign);
            let (namespace, superblock) = (to.0, mount.superblock);
            let copy = self.insert(Mount {
                namespace,
                parent: Some(parent),
                at,
                superblock,
                root,
                groups,
            });
            waiting.extend(below_it.into_iter().map(|(id, at, root)| (id, copy, at, root)));
        }
    }

    /// The groups that a volume's copy of a mount gets.
    fn volume_groups(
        &mut self,
        original: Groups,
        propagation: Propagation,
        foreign: bool,
    ) -> Groups {
        let slave = Groups { peer: None, master: original.peer.or(original.master) };
        match propagation {
            Propagation::None => Groups::default(),
            Propagation::HostToContainer => slave,
            // The namespace was copied with slaves; shared they are only among themselves.
            Propagation::Bidirectional if foreign => {
                Groups { peer: Some(self.new_group()), ..slave }
            }
            Propagation::Bidirectional => {
                let peer = original.peer.unwrap_or_else(|| self.new_group());
                Groups { peer: Some(peer), ..original }
            }
        }
    }

    /// A copy of the mount at a path, as a volume of a mode has it; it is mounted nowhere yet.
    pub(super) fn copy_of(
        &mut self,
        (namespace, path): (Namespace, &str),
        mode: Propagation,
    ) -> Option<Copy> {
        let place = self.walk(namespace, path)?;
        let original = self.mounts.get(&place.mount)?.groups;
        let groups = self.volume_groups(original, mode, false);
        Some(Copy { superblock: place.superblock, directory: place.directory, groups })
    }

    /// Makes the mount that a path lies on shared, a slave, or private.
    pub(super) fn connect(&mut self, namespace: Namespace, path: &str, shared: bool, slave: bool) {
        let Some(place) = self.walk(namespace, path) else { return };
        let peer = shared.then(|| self.new_group());
        let master = slave.then(|| self.new_group());
        if let Some(mount) = self.mounts.get_mut(&place.mount) {
            mount.groups = Groups { peer, master };
        }
    }

    /// Makes the mount that one path lies on a slave of the one that another lies on, and returns whether it could:
    /// the mount has to be private, of the same filesystem, and show no more of it.
    pub(super) fn join_as_slave(&mut self, from: (Namespace, &str), to: (Namespace, &str)) -> bool {
        let (Some(from), Some(to)) = (self.walk(from.0, from.1), self.walk(to.0, to.1)) else {
            return false;
        };
        let Some(master) = self.mounts.get(&from.mount).cloned() else { return false };
        let Some(slave) = self.mounts.get_mut(&to.mount) else { return false };
        let group = master.groups.peer.or(master.groups.master);
        let fits = slave.groups == Groups::default()
            && slave.superblock == master.superblock
            && below(&slave.root, &master.root).is_some();
        if fits {
            slave.groups.master = group;
        }
        fits && group.is_some()
    }

    /// Takes off the mounts that lie under the topmost one at a path: that one goes too, and is bound
    /// again.
    pub(super) fn keep_only_the_top(&mut self, namespace: Namespace, path: &str) {
        let Some(top) = self.walk(namespace, path) else { return };
        let layers = self.table(namespace).stack_at(&path.into()).len();
        for _ in 0..layers {
            self.unmount(namespace, path);
        }
        self.mount(namespace, path, top.superblock);
    }

    /// The mount table of a namespace.
    pub(super) fn table(&self, namespace: Namespace) -> MountTable {
        self.of(namespace).map(|(id, mount)| self.entry(id, mount)).collect()
    }

    fn entry(&self, id: u64, mount: &Mount) -> MountEntry {
        let superblock = self.superblock(mount.superblock);
        let text = |pick: fn(&Superblock) -> &str| superblock.map_or("none", pick);
        MountEntry {
            mount_id: id,
            parent_id: mount.parent.unwrap_or(OUT_OF_VIEW),
            device: DeviceId { major: 0, minor: mount.superblock },
            root: mount.root.as_str().into(),
            root_deleted: false,
            mount_point: self.mount_point(mount).as_str().into(),
            mount_options: "rw,relatime".into(),
            shared: mount.groups.peer,
            master: mount.groups.master,
            propagate_from: None,
            unbindable: false,
            fs_type: text(|superblock| superblock.fs_type).into(),
            source: text(|superblock| &superblock.source).into(),
            super_options: text(|superblock| &superblock.options).into(),
        }
    }

    fn mount_point(&self, mount: &Mount) -> String {
        let Some(parent) = mount.parent.and_then(|parent| self.mounts.get(&parent)) else {
            return "/".into();
        };
        join(&self.mount_point(parent), below(&mount.at, &parent.root).unwrap_or_default())
    }

    /// The mounts of a namespace, in the order in which they were made.
    fn of(&self, namespace: Namespace) -> impl Iterator<Item = (u64, &Mount)> {
        let ids = self.namespaces.get(&namespace).into_iter().flatten();
        ids.filter_map(|id| self.mounts.get(id).map(|mount| (*id, mount)))
    }

    fn child_at(&self, parent: u64, at: &str) -> Option<(u64, &Mount)> {
        let namespace = self.mounts.get(&parent)?.namespace;
        self.of(namespace).find(|(_, child)| child.parent == Some(parent) && child.at == at)
    }

    fn new_group(&mut self) -> u64 {
        self.last_group += 1;
        self.last_group
    }

    fn insert(&mut self, mount: Mount) -> u64 {
        self.last_mount = self.last_mount.max(OUT_OF_VIEW) + 1;
        self.namespaces.entry(mount.namespace).or_default().insert(self.last_mount);
        self.mounts.insert(self.last_mount, mount);
        self.last_mount
    }

    fn remove(&mut self, id: u64) {
        if let Some(mount) = self.mounts.remove(&id)
            && let Some(ids) = self.namespaces.get_mut(&mount.namespace)
        {
            ids.remove(&id);
        }
    }
}
