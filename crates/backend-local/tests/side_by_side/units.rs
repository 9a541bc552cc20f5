//! Tests of the pure parts, on tables written by hand.

use libtest_mimic::{Failed, Trial};
use propagation_core::mountinfo::MountTable;
use propagation_core::plan::{Covering, Propagation};

use super::case::{Case, Shape};
use super::expected::{Party, mounts, mounts_after_unmount, refusal, travels};
use super::graph::{Graph, Group, graph};
use super::roots::{Maker, Root, Version, rule};

const NODE: &str = "\
1 0 0:1 / / rw shared:1 - tmpfs t rw
2 1 0:2 / /tmp rw shared:2 - tmpfs t rw
3 2 0:3 / /tmp/b/dfs rw shared:3 - fuse.x f rw
4 1 0:4 / /run/image rw shared:4 - tmpfs i rw
5 1 0:5 / /data rw shared:5 master:9 - tmpfs d rw
6 1 0:5 / /again rw shared:5 - tmpfs d rw
";

type Test = (&'static str, fn() -> Result<(), Failed>);

const TESTS: [Test; 9] = [
    ("numbers become what they are on the node", numbers_become_names),
    ("a stack is ordered from the bottom", a_stack_is_ordered),
    ("groups off the node are told apart", groups_off_the_node),
    ("a bind of several places names them all", several_places),
    ("a container without the volume is an error", no_volume),
    ("versions are read from what runtimes print", versions),
    ("every version of a runtime has one rule", rules),
    ("a case whose source cannot propagate is refused", refusals),
    ("what is expected follows the kernel's rules", expectations),
];

/// All of them.
pub(super) fn trials() -> Vec<Trial> {
    TESTS.iter().map(|&(name, test)| Trial::test(format!("units: {name}"), test)).collect()
}

fn of(container: &str, destination: &str) -> Result<Graph, Failed> {
    let node = MountTable::parse(NODE.as_bytes())?;
    let container = MountTable::parse(container.as_bytes())?;
    Ok(graph(&node, &container, "/run/image", destination)?)
}

fn expect<T: PartialEq + std::fmt::Debug>(seen: T, expected: T) -> Result<(), Failed> {
    if seen == expected {
        return Ok(());
    }
    Err(format!("expected {expected:?}\n    seen {seen:?}").into())
}

fn numbers_become_names() -> Result<(), Failed> {
    let container = "\
        70 69 0:4 / / rw master:4 - tmpfs i rw\n\
        71 70 0:2 /b /mnt rw master:2 - tmpfs t rw\n\
        72 71 0:3 / /mnt/dfs rw shared:3 - fuse.x f rw\n\
        73 70 0:9 / /mnt2 rw - tmpfs t rw\n";
    let graph = of(container, "/mnt")?;
    expect(
        graph.root.to_string().as_str(),
        "/ on \"\": tmpfs of <rootfs>, in no group, slave of the group of the node's <rootfs>",
    )?;
    let volume: Vec<String> = graph.volume.iter().map(ToString::to_string).collect();
    expect(
        volume.join("\n").as_str(),
        "/mnt on \"/\": tmpfs of /tmp[/b], in no group, slave of the group of the node's /tmp\n\
         /mnt/dfs on \"/mnt\": fuse.x of /tmp/b/dfs, in the group of the node's /tmp/b/dfs, \
         slave of no group",
    )
}

fn a_stack_is_ordered() -> Result<(), Failed> {
    let container = "\
        70 69 0:4 / / rw - tmpfs i rw\n\
        73 72 0:8 / /mnt rw - tmpfs top rw\n\
        72 71 0:3 / /mnt rw - fuse.x f rw\n\
        71 70 0:2 /b /mnt rw - tmpfs t rw\n";
    let volume = of(container, "/mnt")?.volume;
    expect(
        volume.iter().map(|mount| mount.of.as_str()).collect(),
        vec!["/tmp[/b]", "/tmp/b/dfs", ""],
    )
}

fn groups_off_the_node() -> Result<(), Failed> {
    let container = "\
        70 69 0:4 / / rw shared:20 - tmpfs i rw\n\
        71 70 0:2 /b /mnt rw shared:21 master:22 - tmpfs t rw\n\
        72 71 0:3 / /mnt/dfs rw shared:21 master:20 - fuse.x f rw\n";
    let graph = of(container, "/mnt")?;
    expect(&graph.root.group, &Group::Own("/".into()))?;
    expect(&graph.volume[0].master, &Group::Elsewhere)?;
    expect(&graph.volume[1].group, &Group::Own("/mnt".into()))?;
    expect(&graph.volume[1].master, &Group::Own("/".into()))
}

fn several_places() -> Result<(), Failed> {
    let container = "\
        70 69 0:4 / / rw - tmpfs i rw\n\
        71 70 0:5 /x /mnt rw shared:5 master:9 - tmpfs d rw\n";
    let volume = of(container, "/mnt")?.volume;
    expect(volume[0].of.as_str(), "/again[/x] = /data[/x]")?;
    expect(&volume[0].group, &Group::Node("/again = /data".into()))
}

fn no_volume() -> Result<(), Failed> {
    let container = "70 69 0:4 / / rw - tmpfs i rw\n71 70 0:2 / /mnt/deep rw - tmpfs t rw\n";
    expect(of(container, "/mnt").is_err(), true)?;
    expect(of("71 70 0:2 / /mnt rw - tmpfs t rw\n", "/mnt").is_err(), true)
}

fn versions() -> Result<(), Failed> {
    for (text, version) in [
        ("1.1.5+ds1", Version(1, 1, 5)),
        ("1.14", Version(1, 14, 0)),
        ("1.3.0-rc.1", Version(1, 3, 0)),
        ("1.8.1", Version(1, 8, 1)),
    ] {
        expect(text.parse(), Ok(version))?;
    }
    expect("".parse::<Version>().is_err(), true)?;
    expect("unknown".parse::<Version>().is_err(), true)
}

fn rules() -> Result<(), Failed> {
    let root = |maker, version| rule(maker, version).map(|rule| rule.root(Propagation::None));
    expect(root(Maker::Runc, Version(1, 1, 5)), Some(Root::SlaveOfRootfs))?;
    for version in [Version(1, 1, 15), Version(1, 2, 9), Version(1, 3, 0), Version(1, 5, 1)] {
        expect(root(Maker::Runc, version), Some(Root::Private))?;
    }
    let shared = |version| rule(Maker::Runc, version).map(|r| r.root(Propagation::Bidirectional));
    for (version, expected) in [
        (Version(1, 2, 6), Root::Private),
        (Version(1, 2, 7), Root::OwnGroup),
        (Version(1, 3, 0), Root::Private),
        (Version(1, 3, 1), Root::OwnGroup),
    ] {
        expect(shared(version), Some(expected))?;
    }
    for maker in [Maker::Simulator, Maker::Crun] {
        expect(root(maker, Version(1, 0, 0)), Some(Root::Private))?;
    }
    Ok(())
}

fn refusals() -> Result<(), Failed> {
    let refused = |covering, shape, mode| refusal(Case { covering, shape, mode }).is_some();
    let (to, both) = (Propagation::HostToContainer, Propagation::Bidirectional);
    expect(refused(Covering::Slave, Shape::BridgeLate, to), false)?;
    expect(refused(Covering::Slave, Shape::BridgeLate, both), true)?;
    // The submount below a slave is private, and it is what covers the source.
    expect(refused(Covering::Slave, Shape::MountpointLate, to), true)?;
    expect(refused(Covering::Private, Shape::BridgeLate, to), true)?;
    expect(refused(Covering::Private, Shape::BridgeLate, Propagation::None), false)?;
    expect(Case::all().filter(|case| refusal(*case).is_some()).count(), 6 + 6 + 6 + 1)
}

fn expectations() -> Result<(), Failed> {
    // R3: an early consumer of the parent gets the mount, one behind a private volume does not.
    let early = |mode| Case { covering: Covering::Shared, shape: Shape::BridgeEarly, mode };
    expect(mounts(early(Propagation::HostToContainer)).len(), 2)?;
    expect(mounts(early(Propagation::None)).len(), 1)?;
    // None copies what is there at the start, and keeps it.
    let late = Case::plain(Propagation::None);
    expect((mounts(late).len(), mounts_after_unmount(late).len()), (2, 2))?;
    // R4: an unmount does not take the volume itself away.
    let itself = Case { shape: Shape::MountpointLate, ..Case::plain(Propagation::Bidirectional) };
    let left = mounts_after_unmount(itself);
    expect(left.iter().map(|mount| mount.of.as_str()).collect(), vec![""])?;
    // Only Bidirectional sends.
    let sends = |mode| travels(Case::plain(mode), Party::Container, Party::Node);
    expect([sends(Propagation::HostToContainer), sends(Propagation::Bidirectional)], [false, true])
}
