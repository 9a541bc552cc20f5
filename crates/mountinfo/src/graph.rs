//! Peer groups and master edges over several mount namespaces.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::entry::MountEntry;
use super::graph_data::{GraphData, GraphEdge, GraphNode, MountRef, Slave};
use super::path::MountPath;
use super::table::MountTable;

/// The graph of how mounts propagate between several namespaces.
///
/// Peer group ids are kernel-wide but reused, so all tables must have been captured on one kernel
/// while nothing was mounted or unmounted. A namespace is given once: two processes in it have the
/// same mounts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "GraphData", into = "GraphData")]
#[derive(schemars::JsonSchema)]
pub struct MountGraph {
    views: Vec<(String, MountTable)>,
    by_label: HashMap<String, usize>,
    pub(super) groups: BTreeMap<u64, Group>,
}

/// Where a mount is: the place of its namespace in the graph, and its own place in the table.
type Place = (usize, usize);

/// A peer group. A group that is only a master has no members.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    pub(super) members: Vec<Place>,
    /// Mounts that are slaves of this group and members of no group.
    pub(super) slaves: Vec<Place>,
    /// Groups that are slaves of this one, and whether each edge was seen.
    pub(super) slave_groups: BTreeMap<u64, bool>,
    /// Groups that this one is a slave of, and whether each edge was seen.
    pub(super) masters: BTreeMap<u64, bool>,
}

impl MountGraph {
    /// Joins the tables of several namespaces, each with a unique label.
    pub fn build(views: impl IntoIterator<Item = (String, MountTable)>) -> MountGraph {
        let mut graph = MountGraph::default();
        for (label, table) in views {
            let view = graph.views.len();
            for (index, entry) in table.iter().enumerate() {
                graph.add((view, index), entry);
            }
            graph.by_label.insert(label.clone(), view);
            graph.views.push((label, table));
        }
        graph
    }

    fn add(&mut self, place: Place, entry: &MountEntry) {
        if let Some(group) = entry.shared {
            self.groups.entry(group).or_default().members.push(place);
        }
        match (entry.shared, entry.master) {
            (Some(group), Some(master)) => self.connect(master, group, true),
            (None, Some(master)) => {
                self.groups.entry(master).or_default().slaves.push(place);
            }
            (_, None) => {}
        }
        if let (Some(master), Some(above)) = (entry.master, entry.propagate_from) {
            self.connect(above, master, false);
        }
    }

    fn connect(&mut self, master: u64, slave: u64, seen: bool) {
        *self.groups.entry(master).or_default().slave_groups.entry(slave).or_default() |= seen;
        *self.groups.entry(slave).or_default().masters.entry(master).or_default() |= seen;
    }

    /// The table of a namespace.
    pub fn table(&self, namespace: &str) -> Option<&MountTable> {
        self.by_label.get(namespace).map(|&view| &self.views[view].1)
    }

    /// The mount that a reference names.
    pub fn mount(&self, mount: &MountRef) -> Option<&MountEntry> {
        self.table(&mount.namespace)?.by_id(mount.mount_id)
    }

    /// The members of every peer group, by group id.
    pub fn peer_groups(&self) -> BTreeMap<u64, Vec<MountRef>> {
        let groups = self.groups.iter().filter(|(_, group)| !group.members.is_empty());
        let names = |group: &Group| group.members.iter().map(|&place| self.name(place)).collect();
        groups.map(|(&id, group)| (id, names(group))).collect()
    }

    /// The master group of every slave mount.
    pub fn masters(&self) -> BTreeMap<MountRef, u64> {
        let masters = self.mounts().filter_map(|(namespace, entry)| {
            Some((MountRef::new(namespace, entry.mount_id), entry.master?))
        });
        masters.collect()
    }

    /// The receivers of every group, by group id. A mount that is a member of a group and a slave makes
    /// its whole group a slave.
    pub fn edges(&self) -> Vec<GraphEdge> {
        let mut edges = Vec::new();
        for (&master, group) in &self.groups {
            edges.extend(group.slave_groups.iter().map(|(&slave, &seen)| GraphEdge {
                master,
                slave: Slave::Group(slave),
                seen,
            }));
            edges.extend(group.slaves.iter().map(|&place| GraphEdge {
                master,
                slave: Slave::Mount(self.name(place)),
                seen: true,
            }));
        }
        edges
    }

    /// Whether a new mount made under `from`, at a directory that both show, is copied to `to`.
    ///
    /// It is when both are in one peer group, or when `to` or its group is a slave of that of
    /// `from`, over any number of groups in between. Nothing is copied to `from` itself. The copy
    /// may be hidden by other mounts. A chain of groups counts as far as the captures show it.
    pub fn receives(&self, from: &MountRef, to: &MountRef) -> bool {
        let (Some(source), Some(target)) = (self.mount(from), self.mount(to)) else {
            return false;
        };
        let Some(group) = source.shared else { return false };
        let upstream =
            self.closure(target.shared.into_iter().chain(target.master), |group| &group.masters);
        from != to && upstream.contains(&group)
    }

    /// All mounts that [receive](Self::receives) from `from`, in the order of the captures.
    pub fn reach(&self, from: &MountRef) -> Vec<MountRef> {
        let group = self.mount(from).and_then(|entry| entry.shared);
        let downstream = self.closure(group, |group| &group.slave_groups);
        let groups = downstream.iter().filter_map(|group| self.groups.get(group));
        let mut places: Vec<Place> =
            groups.flat_map(|group| group.members.iter().chain(&group.slaves).copied()).collect();
        places.sort_unstable();
        places.into_iter().map(|place| self.name(place)).filter(|to| to != from).collect()
    }

    /// Whether a new mount made under `from` at `directory` is copied to `to`: it
    /// [receives](Self::receives) and shows `directory`.
    ///
    /// `directory` is a directory of the filesystem, as in the field `root`;
    /// [`MountEntry::directory_of`] finds it.
    pub fn would_see(&self, from: &MountRef, directory: &MountPath, to: &MountRef) -> bool {
        let shows =
            |mount| self.mount(mount).is_some_and(|entry| directory.starts_with(&entry.root));
        shows(from) && shows(to) && self.receives(from, to)
    }

    /// The graph as plain data.
    pub fn data(&self) -> GraphData {
        let nodes = self.mounts().map(|(namespace, mount)| GraphNode {
            namespace: namespace.to_owned(),
            mount: mount.clone(),
        });
        GraphData { nodes: nodes.collect(), edges: self.edges() }
    }

    /// The groups within any number of steps from `start`, `start` included.
    fn closure(
        &self,
        start: impl IntoIterator<Item = u64>,
        step: impl Fn(&Group) -> &BTreeMap<u64, bool>,
    ) -> HashSet<u64> {
        let mut waiting: Vec<u64> = start.into_iter().collect();
        let mut found = HashSet::new();
        while let Some(id) = waiting.pop() {
            if found.insert(id)
                && let Some(group) = self.groups.get(&id)
            {
                waiting.extend(step(group).keys());
            }
        }
        found
    }

    /// Every mount with the label of its namespace.
    pub(super) fn mounts(&self) -> impl Iterator<Item = (&str, &MountEntry)> {
        self.views
            .iter()
            .flat_map(|(label, table)| table.iter().map(move |entry| (label.as_str(), entry)))
    }

    pub(super) fn look(&self, (view, index): Place) -> (&str, &MountEntry) {
        let (label, table) = &self.views[view];
        (label, &table.entries()[index])
    }

    fn name(&self, place: Place) -> MountRef {
        let (namespace, entry) = self.look(place);
        MountRef::new(namespace, entry.mount_id)
    }
}

impl From<GraphData> for MountGraph {
    fn from(data: GraphData) -> Self {
        let mut views: Vec<(String, Vec<MountEntry>)> = Vec::new();
        let mut by_label = HashMap::new();
        for GraphNode { namespace, mount } in data.nodes {
            let view = *by_label.entry(namespace).or_insert_with_key(|label: &String| {
                views.push((label.clone(), Vec::new()));
                views.len() - 1
            });
            views[view].1.push(mount);
        }
        Self::build(views.into_iter().map(|(label, entries)| (label, entries.into())))
    }
}

impl From<MountGraph> for GraphData {
    fn from(graph: MountGraph) -> Self {
        graph.data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(label: &str, lines: &str) -> (String, MountTable) {
        (label.to_owned(), MountTable::parse(lines.as_bytes()).unwrap())
    }

    /// Group 1 on the node, a slave of it, a relay that makes group 2 of it, and a slave of group 2.
    fn chain() -> MountGraph {
        MountGraph::build([
            view(
                "node",
                "1 0 0:46 / / rw shared:1 - tmpfs t rw\n2 1 0:46 /d /d rw shared:1 - tmpfs t rw\n",
            ),
            view("slave", "3 0 0:46 / / rw master:1 - tmpfs t rw\n"),
            view("relay", "4 0 0:46 / / rw shared:2 master:1 - tmpfs t rw\n"),
            view("behind", "5 0 0:46 / / rw master:2 - tmpfs t rw\n"),
            view("private", "6 0 0:46 / / rw - tmpfs t rw\n"),
        ])
    }

    fn reach(namespace: &str, mount_id: u64) -> Vec<u64> {
        let reached = chain().reach(&MountRef::new(namespace, mount_id));
        reached.into_iter().map(|mount| mount.mount_id).collect()
    }

    #[test]
    fn mounts_travel_to_peers_and_down_to_slaves() {
        assert_eq!(reach("node", 1), [2, 3, 4, 5]);
        assert_eq!(reach("relay", 4), [5]);
        for (namespace, mount_id) in [("slave", 3), ("private", 6), ("nowhere", 1), ("node", 9)] {
            assert!(reach(namespace, mount_id).is_empty());
        }
    }

    #[test]
    fn nothing_travels_up_or_to_itself() {
        let graph = chain();
        let (node, behind) = (MountRef::new("node", 1), MountRef::new("behind", 5));
        assert!(graph.receives(&node, &behind));
        assert!(!graph.receives(&behind, &node));
        assert!(!graph.receives(&node, &node));
    }

    #[test]
    fn both_roots_must_contain_the_directory() {
        let graph = chain();
        let (whole, part) = (MountRef::new("node", 1), MountRef::new("node", 2));
        assert!(graph.would_see(&whole, &"/d/x".into(), &part));
        assert!(graph.would_see(&part, &"/d/x".into(), &whole));
        assert!(!graph.would_see(&whole, &"/x".into(), &part));
        assert!(!graph.would_see(&part, &"/x".into(), &whole));
    }

    #[test]
    fn groups_and_masters_are_listed() {
        let graph = chain();
        let groups = graph.peer_groups();
        assert_eq!(groups[&1], [MountRef::new("node", 1), MountRef::new("node", 2)]);
        assert_eq!(groups[&2], [MountRef::new("relay", 4)]);
        let masters: Vec<_> =
            graph.masters().into_iter().map(|(mount, group)| (mount.to_string(), group)).collect();
        let expected = [("behind:5", 2), ("relay:4", 1), ("slave:3", 1)];
        assert_eq!(masters, expected.map(|(mount, group)| (mount.to_owned(), group)));
        assert_eq!(graph.table("relay").map(|table| table.entries().len()), Some(1));
    }

    #[test]
    fn plain_data_has_nodes_and_edges() {
        let json = serde_json::to_value(chain()).unwrap();
        assert_eq!(json["nodes"][3]["namespace"], "relay");
        assert_eq!(json["nodes"][3]["shared"], 2);
        let slave = serde_json::json!({ "namespace": "slave", "mount_id": 3 });
        let behind = serde_json::json!({ "namespace": "behind", "mount_id": 5 });
        let edges = serde_json::json!([
            { "master": 1, "slave": { "group": 2 }, "seen": true },
            { "master": 1, "slave": { "mount": slave }, "seen": true },
            { "master": 2, "slave": { "mount": behind }, "seen": true },
        ]);
        assert_eq!(json["edges"], edges);
        let read: MountGraph = serde_json::from_value(json).unwrap();
        assert_eq!(read.data(), chain().data());
    }
}
