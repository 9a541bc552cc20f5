//! Whatever can be made up: generated tables, hostile bytes, and models to compare with.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::*;

prop_compose! {
    fn path()(bytes in vec(any::<u8>(), 1..12)) -> MountPath {
        MountPath::new(bytes)
    }
}

prop_compose! {
    fn entry()(
        ids in any::<(u64, u64)>(),
        device in any::<(u32, u32)>(),
        paths in (path(), path(), option::of(path())),
        groups in any::<(Option<u64>, Option<u64>, Option<u64>)>(),
        (unbindable, root_deleted) in any::<(bool, bool)>(),
        texts in (r"[!-~ż]{1,9}", r"[!-~ż]{1,9}", r"[ -~ż\t\r]{1,9}"),
    ) -> MountEntry {
        MountEntry {
            mount_id: ids.0,
            parent_id: ids.1,
            device: DeviceId { major: device.0, minor: device.1 },
            root: paths.0,
            root_deleted,
            mount_point: MountPath::from("/").join(&paths.1),
            source: paths.2.unwrap_or_else(|| "".into()),
            mount_options: texts.0,
            fs_type: texts.1,
            super_options: texts.2,
            shared: groups.0,
            master: groups.1,
            propagate_from: groups.2,
            unbindable,
        }
    }
}

/// Few ids, groups and paths, so that they meet: loops, repeated ids and stacks abound.
fn tangled_table() -> impl Strategy<Value = MountTable> {
    let group = || option::of(0..6_u64);
    let mount = (0..9_u64, 0..9_u64, "/([ab]/){0,2}[ab]?", group(), group(), group());
    let entry = mount.prop_map(|(mount_id, parent_id, path, shared, master, above)| MountEntry {
        shared,
        master,
        propagate_from: above.filter(|_| master.is_some()),
        ..plain_entry(mount_id, parent_id, &path.as_str().into())
    });
    vec(entry, 0..14).prop_map(MountTable::from)
}

/// A tangled table without repeated ids, as kernels write it.
fn table_of_unique_ids() -> impl Strategy<Value = MountTable> {
    tangled_table().prop_map(|table| {
        let mut ids = BTreeSet::new();
        table.into_entries().into_iter().filter(|entry| ids.insert(entry.mount_id)).collect()
    })
}

fn plain_entry(mount_id: u64, parent_id: u64, mount_point: &MountPath) -> MountEntry {
    let line = format!("{mount_id} {parent_id} 0:46 / {mount_point} rw - tmpfs t rw");
    line.parse().expect("a line")
}

fn hostile_byte() -> impl Strategy<Value = u8> {
    prop::sample::select(&b" \n\\-:/09a\xff"[..])
}

/// Calls everything; the answers do not matter.
fn use_all(table: MountTable) {
    for entry in &table {
        let path = &entry.mount_point;
        let top = table.at(path);
        assert_eq!(top, table.stack_at(path).pop());
        assert!(top.is_none() || top == table.covering(path));
        assert!(table.children(entry.mount_id).all(|child| child.parent_id == entry.mount_id));
        let directory = entry.directory_of(path).expect("the root of the mount");
        assert!(entry.path_of(&directory).is_some());
    }
    let refs: Vec<_> = table.iter().map(|entry| MountRef::new("here", entry.mount_id)).collect();
    let graph = MountGraph::build([("here".into(), table.clone()), ("there".into(), table)]);
    assert!(refs.iter().all(|mount| graph.mount(mount).is_some()));
    let nodes = graph.data().nodes.len();
    assert!(graph.masters().len() <= nodes);
    assert!(graph.to_string().lines().count() <= 5 * nodes + 1);
}

/// What a path leads to, for a process that mounts and never unmounts: a new mount hides whatever
/// was at and below its mount point.
struct Model {
    visible: BTreeMap<MountPath, u64>,
    entries: Vec<MountEntry>,
}

impl Model {
    fn new() -> Self {
        let root = MountPath::from("/");
        Self { entries: vec![plain_entry(1, 0, &root)], visible: BTreeMap::from([(root, 1)]) }
    }

    fn mount(&mut self, path: &MountPath) {
        let mount_id = self.entries.len() as u64 + 1;
        self.entries.push(plain_entry(mount_id, self.covering(path), path));
        self.visible.retain(|point, _| !point.starts_with(path));
        self.visible.insert(path.clone(), mount_id);
    }

    fn covering(&self, path: &MountPath) -> u64 {
        let above = self.visible.iter().filter(|(point, _)| path.starts_with(point));
        let nearest = above.max_by_key(|(point, _)| point.as_bytes().len());
        *nearest.expect("the root covers all").1
    }
}

/// Who receives from `from`, by the closure over single mounts: a mount feeds its peers and those
/// whose master is its group. A group out of view is stood for by a mount of its own.
fn reach_by_brute_force(nodes: &[GraphNode], from: usize) -> Vec<MountRef> {
    let seen = nodes.iter().map(|node| (node.mount.shared, node.mount.master));
    let out_of_view = nodes.iter().filter_map(|GraphNode { mount, .. }| {
        Some((Some(mount.master?), Some(mount.propagate_from?)))
    });
    let mounts: Vec<_> = seen.chain(out_of_view).collect();
    let feeds = |x: usize, y: usize| {
        let (shared, master) = mounts[y];
        mounts[x].0.is_some_and(|group| shared == Some(group) || master == Some(group))
    };
    let mut reached = BTreeSet::from([from]);
    while let Some(next) =
        (0..mounts.len()).find(|&y| !reached.contains(&y) && reached.iter().any(|&x| feeds(x, y)))
    {
        reached.insert(next);
    }
    reached.remove(&from);
    reached.into_iter().filter_map(|index| nodes.get(index)).map(name).collect()
}

fn name(node: &GraphNode) -> MountRef {
    MountRef::new(&node.namespace, node.mount.mount_id)
}

proptest! {
    #[test]
    fn paths_survive_being_written(bytes in vec(any::<u8>(), 0..40)) {
        let path = MountPath::new(bytes);
        let text = path.to_string();
        prop_assert!(text.chars().all(|character| !character.is_control() && character != ' '));
        prop_assert_eq!(MountPath::from_escaped(text.as_bytes()), Ok(path));
    }

    #[test]
    fn prefix_and_rest_join_again(first in path(), second in path()) {
        let joined = first.join(&second);
        prop_assert!(joined.starts_with(&first));
        let rest = joined.strip_prefix(&first).expect("it starts so");
        prop_assert_eq!(first.join(&rest), joined);
    }

    #[test]
    fn entries_survive_being_written(entries in vec(entry(), 0..6)) {
        let table = MountTable::from(entries);
        prop_assert_eq!(&MountTable::parse(table.to_string().as_bytes()).unwrap(), &table);
        let json = serde_json::to_string(&table).unwrap();
        prop_assert_eq!(&serde_json::from_str::<MountTable>(&json).unwrap(), &table);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = MountTable::parse(&bytes);
    }

    #[test]
    fn damaged_lines_never_panic(
        entries in vec(entry(), 1..3),
        damage in vec((any::<prop::sample::Index>(), hostile_byte()), 0..6),
    ) {
        let mut bytes = MountTable::from(entries).to_string().into_bytes();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(table) = MountTable::parse(&bytes) {
            prop_assert_eq!(&MountTable::parse(table.to_string().as_bytes()).unwrap(), &table);
            use_all(table);
        }
    }

    #[test]
    fn tangled_tables_never_panic(table in tangled_table()) {
        use_all(table);
    }

    #[test]
    fn lookups_agree_with_a_model_of_mounting(
        mounts in vec("(/[abc]){1,3}", 0..20),
        first_line in any::<prop::sample::Index>(),
        probe in "(/[abc]){0,4}",
    ) {
        let mut model = Model::new();
        for path in &mounts {
            model.mount(&path.as_str().into());
        }
        let mut entries = model.entries.clone();
        entries.rotate_left(first_line.index(model.entries.len()));
        let table = MountTable::from(entries);
        let probe = MountPath::from("/").join(&probe.as_str().into());
        let id = |entry: &MountEntry| entry.mount_id;
        prop_assert_eq!(table.at(&probe).map(id), model.visible.get(&probe).copied());
        prop_assert_eq!(table.covering(&probe).map(id), Some(model.covering(&probe)));
    }

    #[test]
    fn differences_lead_from_one_table_to_the_other(
        before in table_of_unique_ids(),
        after in table_of_unique_ids(),
    ) {
        let TableDiff { added, removed, changed } = diff(&before, &after);
        let unchanged = |entry: &&MountEntry| {
            !removed.contains(entry) && changed.iter().all(|change| change.before != **entry)
        };
        let kept = before.iter().filter(unchanged);
        let new = added.iter().chain(changed.iter().map(|change| &change.after));
        let patched: Vec<_> = kept.chain(new).collect();
        prop_assert!(after.iter().all(|entry| patched.contains(&entry)));
        prop_assert!(added.iter().all(|entry| after.entries().contains(entry)));
        prop_assert!(removed.iter().all(|entry| before.entries().contains(entry)));
        prop_assert!(diff(&after, &after.clone()).is_empty());
    }

    #[test]
    fn the_graph_agrees_with_brute_force(tables in vec(table_of_unique_ids(), 1..4)) {
        let labels = (0..tables.len()).map(|index| index.to_string());
        let graph = MountGraph::build(labels.zip(tables));
        let nodes = graph.data().nodes;
        for (index, node) in nodes.iter().enumerate() {
            let from = name(node);
            let expected = reach_by_brute_force(&nodes, index);
            prop_assert_eq!(&graph.reach(&from), &expected);
            for to in nodes.iter().map(name) {
                let received = graph.receives(&from, &to);
                prop_assert_eq!(received, expected.contains(&to));
                prop_assert_eq!(graph.would_see(&from, &"/x".into(), &to), received);
            }
        }
        let json = serde_json::to_string(&graph).unwrap();
        let read: MountGraph = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(read.data(), graph.data());
    }
}
