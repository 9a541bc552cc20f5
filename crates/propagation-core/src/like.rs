//! A simulated node like a real one.

use crate::diagnosis::Explanation;
use crate::facts::{HostFacts, PathState};
use crate::mountinfo::{MountEntry, MountPropagation};
use crate::plan::{BridgeState, Covering, NodeMount, NodeSpec, RuntimeNamespace};

/// Shapes a simulated node by the facts of a real one and its mounts on the way from `/` to the bridge
/// ([`chain`](crate::diagnosis::chain)): fuse.conf, fusermount3, and what lies at the bridge. What a plan says of
/// fuse.conf stays.
pub fn shape(node: &mut NodeSpec, facts: &HostFacts, chain: &[&MountEntry]) {
    node.mounts.clear();
    for mount in chain {
        let at = mount.mount_point.to_string_lossy().into_owned();
        // Of several at one place the last one counts.
        node.mounts.retain(|known| known.at != at);
        node.mounts.push(NodeMount { at, propagation: covering(mount) });
    }
    if let Some(mount) = &facts.covering_mount {
        node.covering = match covering(mount) {
            Covering::Shared if mount.fs_type == "tmpfs" => Covering::Tmpfs,
            other => other,
        };
    }
    if facts.fuse_conf.exists && node.fuse_conf.is_none() {
        let line = if facts.fuse_conf.user_allow_other { "user_allow_other\n" } else { "" };
        node.fuse_conf = Some(line.to_owned());
    }
    node.without_host_tools |= facts.fusermount3.is_none() && facts.fusermount.is_none();
    node.bridge = match facts.bridge {
        PathState::Directory => BridgeState::Directory,
        PathState::Missing | PathState::Error { .. } => BridgeState::Missing,
        PathState::Other { .. } => BridgeState::File,
    };
}

fn covering(mount: &MountEntry) -> Covering {
    match mount.propagation() {
        MountPropagation::Shared | MountPropagation::SlaveAndShared => Covering::Shared,
        MountPropagation::Slave => Covering::Slave,
        MountPropagation::Private | MountPropagation::Unbindable => Covering::Private,
    }
}

/// The namespace of a runtime that is apart, by whether mounts show on the other side: from the node to the runtime,
/// and from the runtime to the node.
pub fn runtime_namespace(down: &Explanation, up: &Explanation) -> RuntimeNamespace {
    match (down.broken.is_none(), up.broken.is_none()) {
        (true, true) => RuntimeNamespace::Shared,
        (true, false) if up.covering.shared.is_some() => RuntimeNamespace::SlaveShared,
        (true, false) => RuntimeNamespace::Slave,
        (false, _) => RuntimeNamespace::Private,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mountinfo::{MountGraph, MountPath, MountTable};

    #[test]
    fn the_mounts_on_the_way_are_those_of_the_host() {
        let table = MountTable::parse(
            b"1 0 8:1 / / rw shared:1 - ext4 d rw\n\
              2 1 0:46 / /srv rw master:1 - tmpfs t rw\n\
              3 2 0:47 / /srv/x rw - tmpfs t rw\n\
              4 1 0:48 / /var rw - tmpfs t rw\n",
        )
        .expect("mountinfo");
        let mut facts = crate::diagnosis::tests::stopped().environment.expect("facts");
        let chain = crate::diagnosis::chain(&table, &"/srv/x/bridge".into());
        facts.covering_mount = chain.last().map(|mount| (*mount).clone());
        let mut node = NodeSpec::default();
        shape(&mut node, &facts, &chain);
        let made: Vec<_> =
            node.mounts.iter().map(|mount| (mount.at.as_str(), mount.propagation)).collect();
        let private = Covering::Private;
        assert_eq!(made, [("/", Covering::Shared), ("/srv", Covering::Slave), ("/srv/x", private)]);
        assert_eq!(node.covering, private);
    }

    const NODE: &str = "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda rw\n";

    /// The namespace of a runtime with these mounts.
    fn of(runtime: &str) -> RuntimeNamespace {
        let table = |lines: &str| MountTable::parse(lines.as_bytes()).expect("mountinfo");
        let views = [("node", NODE), ("runtime", runtime)];
        let graph = MountGraph::build(views.map(|(name, lines)| (name.to_owned(), table(lines))));
        let path = MountPath::from("/srv/dfs");
        let way = |from, to| crate::diagnosis::visibility(&graph, from, &path, to);
        let (down, up) = (way("node", "runtime"), way("runtime", "node"));
        runtime_namespace(&down.expect("a covering mount"), &up.expect("a covering mount"))
    }

    #[test]
    fn a_runtime_is_apart_as_its_mounts_are() {
        let root = |propagation: &str| {
            format!("9 0 8:1 / / rw,relatime {propagation}- ext4 /dev/sda rw\n")
        };
        assert_eq!(of(&root("shared:1 ")), RuntimeNamespace::Shared);
        assert_eq!(of(&root("shared:2 master:1 ")), RuntimeNamespace::SlaveShared);
        assert_eq!(of(&root("master:1 ")), RuntimeNamespace::Slave);
        assert_eq!(of(&root("")), RuntimeNamespace::Private);
    }
}
