//! What kernels wrote: `fixtures/README.md` says how each file was captured.

use super::super::*;

fn table(bytes: &[u8]) -> MountTable {
    MountTable::parse(bytes).expect("a captured file")
}

fn machine() -> MountTable {
    table(include_bytes!("../fixtures/machine.mountinfo"))
}

fn stacked() -> MountTable {
    table(include_bytes!("../fixtures/stacked.mountinfo"))
}

fn odd() -> MountTable {
    table(include_bytes!("../fixtures/odd.mountinfo"))
}

fn jail() -> MountTable {
    table(include_bytes!("../fixtures/jail.mountinfo"))
}

macro_rules! namespaces {
    ($stage:literal) => {
        namespaces!($stage: "node" "producer" "consumer" "consumer-of-sub" "control" "relay"
            "behind-relay" "other-user")
    };
    ($stage:literal: $($label:literal)*) => {
        [$((
            $label.to_owned(),
            table(include_bytes!(concat!("../fixtures/propagation/", $label, ".", $stage))),
        )),*]
    };
}

fn before() -> [(String, MountTable); 8] {
    namespaces!("before")
}

fn after() -> [(String, MountTable); 8] {
    namespaces!("after")
}

/// The mount that the fixture's new mount was made under, and where.
fn new_mount() -> (MountRef, MountPath) {
    (MountRef::new("producer", 91), "/dfs".into())
}

#[test]
fn every_line_survives_being_written_again() {
    for table in [machine(), stacked(), odd(), jail()] {
        assert!(!table.entries().is_empty());
        assert_eq!(MountTable::parse(table.to_string().as_bytes()).unwrap(), table);
        let json = serde_json::to_string(&table).unwrap();
        assert_eq!(serde_json::from_str::<MountTable>(&json).unwrap(), table);
    }
}

#[test]
fn lookups_agree_with_the_kernel() {
    let stacked = stacked();
    for line in include_str!("../fixtures/stacked.mount-ids").lines() {
        let (path, mount_id) = line.split_once(' ').expect("a path and an id");
        let path = MountPath::from(path);
        let covering = stacked.covering(&path).expect("the root covers all");
        assert_eq!(covering.mount_id.to_string(), mount_id, "{path}");
        let expected = (covering.mount_point == path).then_some(covering);
        assert_eq!(stacked.at(&path), expected, "{path}");
    }
}

#[test]
fn a_machine_has_a_root_and_stacked_mounts() {
    let machine = machine();
    let root = machine.at(&"/".into()).expect("a root");
    assert!(machine.by_id(root.parent_id).is_none());
    let stack = machine.stack_at(&"/dev/shm".into());
    assert_eq!(stack.len(), 2);
    assert_eq!(stack[1].parent_id, stack[0].mount_id);
}

#[test]
fn odd_names_are_read() {
    let odd = odd();
    let named = |source: &str| {
        let source = MountPath::from(source);
        odd.iter().find(move |entry| entry.source == source).expect("the mount")
    };
    assert_eq!(
        named("odd source#\tx\\y").mount_point.as_bytes(),
        b"/srv/fixture/space tab\tnewline\nback\\slash hash#bell\x07 latin1\xe9 utf8\xc3\xa9"
    );
    assert_eq!(named("").mount_point, "/srv/fixture/empty".into());
    assert_eq!(named("unbindable").propagation(), MountPropagation::Unbindable);
    let bound = odd.at(&"/srv/fixture/bound".into()).expect("the bound directory");
    assert_eq!((&bound.root, bound.root_deleted), (&"/deleted".into(), true));
    assert_eq!(odd.by_device(bound.device).count(), 2);
}

#[test]
fn fuse_mounts_share_one_superblock() {
    let odd = odd();
    let roots: Vec<_> = odd.fuse_mounts().map(|entry| entry.root.to_string()).collect();
    assert_eq!(roots, ["/", "/doc"]);
    let mount = odd.fuse_mounts().next().expect("the first");
    assert_eq!(mount.fs_type, r"fuse.x\043y");
    assert_eq!(odd.by_device(mount.device).count(), 2);
}

#[test]
fn a_jail_has_no_root_mount() {
    let jail = jail();
    assert_eq!(jail.covering(&"/etc".into()), None);
    let usr = jail.at(&"/usr".into()).expect("the bind mount");
    assert_eq!(jail.covering(&"/usr/bin".into()), Some(usr));
}

#[test]
fn the_graph_tells_who_gets_a_new_mount() {
    let (from, directory) = new_mount();
    let graph = MountGraph::build(before());
    let mut predicted = graph.reach(&from);
    predicted.retain(|to| graph.would_see(&from, &directory, to));
    predicted.push(from);
    predicted.sort();

    let mut seen = Vec::new();
    for ((label, before), (_, after)) in before().into_iter().zip(after()) {
        let changes = diff(&before, &after);
        assert!(changes.removed.is_empty() && changes.changed.is_empty());
        for mount in changes.added {
            let parent = before.by_id(mount.parent_id).expect("the parent was there before");
            assert_eq!(parent.path_of(&directory), Some(mount.mount_point));
            seen.push(MountRef::new(&label, mount.parent_id));
        }
    }
    seen.sort();
    assert_eq!(predicted, seen);
    assert_eq!(seen.len(), 10);
}

#[test]
fn a_consumer_of_another_directory_is_reached_but_sees_nothing() {
    let (from, directory) = new_mount();
    let graph = MountGraph::build(before());
    let consumer = MountRef::new("consumer-of-sub", 141);
    assert!(graph.receives(&from, &consumer));
    assert!(!graph.would_see(&from, &directory, &consumer));
    assert!(graph.would_see(&from, &"/sub/x".into(), &consumer));
}

#[test]
fn a_group_out_of_view_is_bridged_by_propagate_from() {
    let (from, directory) = new_mount();
    let unseen = GraphEdge { master: 1, slave: Slave::Group(2), seen: false };
    let behind = MountRef::new("behind-relay", 213);

    let graph = MountGraph::build(before().into_iter().filter(|(label, _)| label != "relay"));
    assert!(graph.edges().contains(&unseen));
    assert!(graph.would_see(&from, &directory, &behind));
    assert!(!graph.peer_groups().contains_key(&2));

    let whole = MountGraph::build(before());
    assert!(whole.edges().contains(&GraphEdge { seen: true, ..unseen }));
}

#[test]
fn the_graph_reads_as_a_tree() {
    let views = before().into_iter().filter(|(label, _)| label != "relay");
    let expected = "\
group 1
  peer node:66 at /srv/fixture/bridge (0:40 /)
  peer producer:90 at /srv/fixture/bridge (0:40 /)
  peer producer:91 at /srv/fixture/volume (0:40 /)
  peer behind-relay:214 at /srv/fixture/other (0:40 /)
  slave consumer:115 at /srv/fixture/bridge (0:40 /)
  slave consumer:116 at /srv/fixture/volume (0:40 /)
  slave consumer-of-sub:141 at /srv/fixture/volume (0:40 /sub)
  slave other-user:238 at /srv/fixture/bridge (0:40 /)
  group 2 (out of view), slave of 1 by propagate_from
    slave behind-relay:213 at /srv/fixture/bridge (0:40 /)
15 mounts in no group
";
    assert_eq!(MountGraph::build(views).to_string(), expected);
}
