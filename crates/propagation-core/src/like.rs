//! A simulated node like a real one.

use crate::diagnosis::Explanation;
use crate::facts::{HostFacts, PathState};
use crate::mountinfo::MountPropagation;
use crate::plan::{BridgeState, Covering, NodeSpec, RuntimeNamespace};

/// Shapes a simulated node by the facts of a real one: the mount that covers the bridge, fuse.conf, fusermount3, and
/// what lies at the bridge. What a plan says of fuse.conf stays.
pub fn shape(node: &mut NodeSpec, facts: &HostFacts) {
    if let Some(mount) = &facts.covering_mount {
        node.covering = match mount.propagation() {
            MountPropagation::Shared | MountPropagation::SlaveAndShared => {
                if mount.fs_type == "tmpfs" { Covering::Tmpfs } else { Covering::Shared }
            }
            MountPropagation::Slave => Covering::Slave,
            MountPropagation::Private | MountPropagation::Unbindable => Covering::Private,
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
