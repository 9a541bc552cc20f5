//! What every container must look like, from the kernel's rules and the runtimes' sources; data
//! only, nothing is looked at.
//!
//! Without it two containers that are wrong in the same way, or empty, would pass for equal.

use propagation_core::plan::{Covering, Propagation};

use super::case::Case;
use super::graph::{Group, Mount};

/// Where a simulated node has the mount that covers the bridge.
pub(super) const COVERING: &str = "/tmp";

/// Where a simulated node has the master of a covering mount that is a slave.
pub(super) const MASTER: &str = "/run/propagation/master";

/// The filesystem of the producer's mount.
const FUSE: &str = "fuse.propagation";

/// How a mount of the node is connected, with the mount point of the group concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Shared(String),
    Slave(String),
    Private,
}

/// The mount that covers the bridge.
fn covering(case: Case) -> Host {
    match case.covering {
        Covering::Shared | Covering::Tmpfs => Host::Shared(COVERING.into()),
        Covering::Slave => Host::Slave(MASTER.into()),
        Covering::Private => Host::Private,
    }
}

/// A submount: a mount made below a shared one is shared, below any other private.
fn submount(case: Case, at: &str) -> Host {
    match case.covering {
        Covering::Shared | Covering::Tmpfs => Host::Shared(at.into()),
        Covering::Slave | Covering::Private => Host::Private,
    }
}

/// What containerd says where it refuses the volume (`ensureShared`, `ensureSharedOrSlave`), which
/// the simulator must say too; the runtimes themselves do not look.
pub(super) fn refusal(case: Case) -> Option<&'static str> {
    let source =
        if case.is_mountpoint() && case.is_late() { submount(case, "") } else { covering(case) };
    match (source, case.mode) {
        (_, Propagation::None) | (Host::Shared(_), _) => None,
        (Host::Slave(_), Propagation::HostToContainer) => None,
        (_, Propagation::HostToContainer) => Some("but it is not a shared or slave mount"),
        (_, Propagation::Bidirectional) => Some("but it is not a shared mount"),
    }
}

/// The group and the master of a recursive bind of `host`, once `mode` has been set.
fn bound(host: &Host, mode: Propagation, at: &str) -> (Group, Group) {
    let node = |at: &String| Group::Node(at.clone());
    let own = || Group::Own(at.into());
    match (mode, host) {
        (Propagation::None, _) => (Group::None, Group::None),
        (Propagation::HostToContainer, Host::Shared(at) | Host::Slave(at)) => {
            (Group::None, node(at))
        }
        (Propagation::HostToContainer, Host::Private) => (Group::None, Group::None),
        (Propagation::Bidirectional, Host::Shared(at)) => (node(at), Group::None),
        (Propagation::Bidirectional, Host::Slave(at)) => (own(), node(at)),
        (Propagation::Bidirectional, Host::Private) => (own(), Group::None),
    }
}

/// Whether mounts and unmounts on the node reach the container.
fn receives(case: Case) -> bool {
    case.covering == Covering::Shared && case.mode != Propagation::None
}

/// The volume and what is below it, in the running container with all submounts made.
pub(super) fn mounts(case: Case) -> Vec<Mount> {
    let paths = case.paths();
    let submounts = case.submounts();
    let is_volume = |at: &str| case.is_mountpoint() && case.is_late() && at == paths.source;
    let mut mounts = Vec::new();
    if !submounts.iter().any(|at| is_volume(at)) {
        mounts.push(directory_of_covering(case));
    }
    let mut on = if case.is_mountpoint() && case.is_late() { "/" } else { &paths.destination };
    // A stacked mount lies on the volume at the same place.
    let inside: Vec<String> = submounts.iter().map(|at| case.in_container(at)).collect();
    for (host, at) in submounts.iter().zip(&inside) {
        if case.is_late() || receives(case) {
            let (group, master) = bound(&submount(case, host), case.mode, at);
            let fs_type = if case.is_fuse() { FUSE } else { "tmpfs" };
            mounts.push(Mount {
                at: at.clone(),
                on: on.into(),
                of: host.clone(),
                fs_type: fs_type.into(),
                group,
                master,
            });
            on = at;
        }
    }
    mounts
}

/// The volume where it is a directory of the covering mount.
fn directory_of_covering(case: Case) -> Mount {
    let paths = case.paths();
    let (group, master) = bound(&covering(case), case.mode, &paths.destination);
    let below = match paths.source.strip_prefix(COVERING) {
        None | Some("") => String::new(),
        Some(below) => format!("[{below}]"),
    };
    let of = match case.covering {
        // The covering mount and its master show the same filesystem.
        Covering::Slave => format!("{MASTER}{below} = {COVERING}{below}"),
        _ => format!("{COVERING}{below}"),
    };
    Mount { at: paths.destination, on: "/".into(), of, fs_type: "tmpfs".into(), group, master }
}

/// The same after the outermost submount has been unmounted on the node.
pub(super) fn mounts_after_unmount(case: Case) -> Vec<Mount> {
    let mut mounts = mounts(case);
    if receives(case) {
        // Unmounts travel on the parent. That of the volume is the container's root, so it stays.
        mounts.truncate(1);
    }
    let submounts = case.submounts();
    for mount in mounts.iter_mut().filter(|mount| submounts.contains(&mount.of)) {
        mount.of.clear();
        // A group goes on without the node's mount; a slave of it does not once it is empty.
        if matches!(mount.group, Group::Node(_)) {
            mount.group = Group::Own(mount.at.clone());
        }
        mount.master = Group::None;
    }
    mounts
}

/// Between whom mounts travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Party {
    /// The node, at the volume's source.
    Node,
    /// The node, below the master of a covering mount that is a slave.
    Master,
    /// A container.
    Container,
}

/// Whether a mount that `from` makes at the spot shows at the spot of another party `to`.
pub(super) fn travels(case: Case, from: Party, to: Party) -> bool {
    let shared = case.covering == Covering::Shared;
    match (from, to) {
        (Party::Node, Party::Container) => shared && case.mode != Propagation::None,
        (Party::Container, _) => shared && case.mode == Propagation::Bidirectional,
        (Party::Master, Party::Container) => case.mode != Propagation::None,
        (Party::Master, Party::Node) => true,
        (_, Party::Master) | (Party::Node, Party::Node) => false,
    }
}
