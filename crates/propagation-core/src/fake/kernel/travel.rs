//! How mounts and unmounts propagate: from the parent mount to its peers, to its slaves, and on to
//! theirs, wherever the root of the receiving mount contains the directory.

use std::collections::BTreeMap;

use super::{Copy, Groups, Kernel, Mount, Namespace, Place};
use crate::fake::files::below;

impl Kernel {
    /// Mounts a superblock at a path.
    pub(in crate::fake) fn mount(&mut self, namespace: Namespace, path: &str, superblock: u32) {
        if let Some(place) = self.walk(namespace, path) {
            self.attach(&place, superblock, "/", Groups::default());
        }
    }

    /// Puts a copy of what is at a path of one namespace at a path of another, or over itself.
    pub(in crate::fake) fn bind(&mut self, from: (Namespace, &str), to: (Namespace, &str)) {
        let (Some(source), Some(target)) = (self.walk(from.0, from.1), self.walk(to.0, to.1))
        else {
            return;
        };
        let Some(mount) = self.mounts.get(&source.mount) else { return };
        let groups = mount.groups;
        self.attach(&target, source.superblock, &source.directory, groups);
    }

    /// Mounts a copy on top of what is at a path.
    pub(in crate::fake) fn mount_copy(&mut self, namespace: Namespace, path: &str, copy: Copy) {
        if let Some(place) = self.walk(namespace, path) {
            self.attach(&place, copy.superblock, &copy.directory, copy.groups);
        }
    }

    /// Takes the topmost mount at a path off, whether it is in use or not.
    pub(in crate::fake) fn unmount(&mut self, namespace: Namespace, path: &str) {
        let Some(place) = self.walk(namespace, path) else { return };
        let Some(top) = self.mounts.get(&place.mount).cloned() else { return };
        let Some(parent) = top.parent.filter(|_| place.directory == top.root) else { return };
        let copies: Vec<u64> = self
            .hearers(parent)
            .into_iter()
            .filter_map(|(_, hearer)| self.child_at(hearer, &top.at).map(|(id, _)| id))
            .collect();
        self.detach(place.mount);
        for copy in copies {
            self.pull_out(copy);
        }
    }

    /// Adds a mount, and its copies on every mount that receives it.
    fn attach(&mut self, place: &Place, superblock: u32, root: &str, groups: Groups) {
        let Some(parent) = self.mounts.get(&place.mount).cloned() else { return };
        // What is mounted on a shared mount becomes shared.
        let peer = match parent.groups.peer {
            Some(_) => Some(groups.peer.unwrap_or_else(|| self.new_group())),
            None => groups.peer,
        };
        let groups = Groups { peer, ..groups };
        let mount = Mount {
            namespace: parent.namespace,
            parent: Some(place.mount),
            at: place.directory.clone(),
            superblock,
            root: root.into(),
            groups,
        };
        // Who hears of it is settled before it is there: a bind over itself joins its own group.
        let hearers = self.hearers(place.mount);
        self.insert(mount.clone());
        let mut of_copies: BTreeMap<u64, Groups> = BTreeMap::new();
        for (group, via) in self.groups_reached(parent.groups.peer) {
            let own = match via {
                None => groups,
                Some(via) => Groups {
                    peer: Some(self.new_group()),
                    master: of_copies.get(&via).and_then(|groups| groups.peer),
                },
            };
            of_copies.insert(group, own);
        }
        for (group, hearer) in hearers {
            let Some(receiver) = self.mounts.get(&hearer).cloned() else { continue };
            if below(&mount.at, &receiver.root).is_none() {
                continue;
            }
            let source = of_copies.get(&group).copied().unwrap_or_default();
            let groups = match receiver.groups.peer {
                Some(_) => source,
                None => Groups { peer: None, master: source.peer },
            };
            let namespace = receiver.namespace;
            self.slide_in(Mount { namespace, parent: Some(hearer), groups, ..mount.clone() });
        }
    }

    /// Adds a propagated copy: below what is mounted at the same place already.
    fn slide_in(&mut self, copy: Mount) {
        let above =
            copy.parent.and_then(|parent| self.child_at(parent, &copy.at)).map(|(id, _)| id);
        let root = copy.root.clone();
        let id = self.insert(copy);
        if let Some(above) = above.and_then(|above| self.mounts.get_mut(&above)) {
            (above.parent, above.at) = (Some(id), root);
        }
    }

    /// Removes a mount that an unmount has propagated to; what is stacked on it comes down.
    fn pull_out(&mut self, id: u64) {
        let Some(mount) = self.mounts.get(&id).cloned() else { return };
        let above = self.child_at(id, &mount.root).map(|(above, _)| above);
        if let Some(above) = above.and_then(|above| self.mounts.get_mut(&above)) {
            (above.parent, above.at) = (mount.parent, mount.at);
        }
        self.detach(id);
    }

    /// Removes a mount with everything below it.
    fn detach(&mut self, id: u64) {
        let Some(mount) = self.mounts.get(&id) else { return };
        let children: Vec<u64> = self
            .of(mount.namespace)
            .filter(|(_, child)| child.parent == Some(id))
            .map(|(child, _)| child)
            .collect();
        self.remove(id);
        for child in children {
            self.detach(child);
        }
    }

    /// The groups that receive a mount on a member of `group`: the group itself, then its slaves'
    /// groups, each with the group that it receives from.
    fn groups_reached(&self, group: Option<u64>) -> Vec<(u64, Option<u64>)> {
        let mut reached: Vec<(u64, Option<u64>)> =
            group.into_iter().map(|group| (group, None)).collect();
        let mut next = 0;
        while let Some(&(group, _)) = reached.get(next) {
            next += 1;
            let slaves = self.mounts.values().filter(|mount| mount.groups.master == Some(group));
            for peer in slaves.filter_map(|mount| mount.groups.peer) {
                if !reached.iter().any(|(known, _)| *known == peer) {
                    reached.push((peer, Some(group)));
                }
            }
        }
        reached
    }

    /// The mounts that receive what happens on `parent`, each with the group that it receives from: its
    /// own, or its master.
    fn hearers(&self, parent: u64) -> Vec<(u64, u64)> {
        let group = self.mounts.get(&parent).and_then(|mount| mount.groups.peer);
        let reached = self.groups_reached(group);
        let hears = |mount: &Mount| {
            let told_by = mount.groups.peer.or(mount.groups.master)?;
            reached.iter().any(|(group, _)| *group == told_by).then_some(told_by)
        };
        self.mounts
            .iter()
            .filter(|(id, _)| **id != parent)
            .filter_map(|(id, mount)| hears(mount).map(|group| (group, *id)))
            .collect()
    }
}
