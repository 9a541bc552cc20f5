//! What is known to differ between the simulator, runc and crun: the mount at `/`, and only that.
//!
//! No volume can tell: a mount made in a volume travels on the volume's mount. The mount at `/`
//! decides only over mounts made in the container's own root filesystem, outside of all volumes, and
//! those never reach the node: in none of the rows is `/` in a group of the node's. It is pinned all
//! the same, so that a change in any of the three is noticed.

use std::fmt;
use std::str::FromStr;

use propagation_core::plan::Propagation;

use super::graph::{Group, ROOTFS};

/// Who made a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Maker {
    /// The simulated node.
    Simulator,
    /// opencontainers/runc.
    Runc,
    /// containers/crun.
    Crun,
}

/// The first numbers of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32, pub(super) u32);

/// How the mount at `/` is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    /// Not at all.
    Private,
    /// It receives what is mounted at the root filesystem's place on the node.
    SlaveOfRootfs,
    /// Shared, in a group without a mount on the node.
    OwnGroup,
}

/// The mount at `/` for a maker's versions.
#[derive(Debug)]
pub(super) struct Rule {
    maker: Maker,
    /// The versions, from the first to before the second.
    versions: (Version, Version),
    /// For None, HostToContainer, Bidirectional.
    roots: [Root; 3],
    /// Why, by the maker's source.
    pub(super) reason: &'static str,
}

const FIRST: Version = Version(0, 0, 0);
const NEVER: Version = Version(u32::MAX, 0, 0);

/// Run here: the simulator, runc 1.1.5, 1.3.6, 1.4.3 and 1.5.2, and crun 1.8.1. The other rows are read
/// from the tagged sources; a machine with such a version checks them.
const RULES: [Rule; 7] = [
    Rule {
        maker: Maker::Simulator,
        versions: (FIRST, NEVER),
        roots: [Root::Private, Root::Private, Root::Private],
        reason: "the rootfs' mount is made private before it is bound, and left so",
    },
    Rule {
        maker: Maker::Runc,
        versions: (FIRST, Version(1, 1, 15)),
        roots: [Root::SlaveOfRootfs, Root::SlaveOfRootfs, Root::Private],
        reason: "rootfsParentMountPrivate acts on a shared mount only; without rshared it is a slave",
    },
    Rule {
        maker: Maker::Runc,
        versions: (Version(1, 1, 15), Version(1, 2, 7)),
        roots: [Root::Private, Root::Private, Root::Private],
        reason: "rootfsParentMountPrivate acts on any mount",
    },
    Rule {
        maker: Maker::Runc,
        versions: (Version(1, 3, 0), Version(1, 3, 1)),
        roots: [Root::Private, Root::Private, Root::Private],
        reason: "rootfsParentMountPrivate acts on any mount",
    },
    Rule {
        maker: Maker::Runc,
        versions: (Version(1, 2, 7), Version(1, 5, 2)),
        roots: [Root::Private, Root::Private, Root::OwnGroup],
        reason: "rootfsPropagation is applied once more after pivot_root, and rshared shares",
    },
    Rule {
        maker: Maker::Runc,
        versions: (Version(1, 5, 2), NEVER),
        roots: [Root::Private, Root::SlaveOfRootfs, Root::OwnGroup],
        reason: "rootfsParentMountPropagation makes the rootfs' parent a slave for rslave",
    },
    Rule {
        maker: Maker::Crun,
        versions: (FIRST, NEVER),
        roots: [Root::Private, Root::Private, Root::OwnGroup],
        reason: "rootfsPropagation is applied once more after pivot_root, and rshared shares",
    },
];

/// The rule for a maker's version: the first that fits.
pub(super) fn rule(maker: Maker, version: Version) -> Option<&'static Rule> {
    RULES
        .iter()
        .find(|rule| rule.maker == maker && (rule.versions.0..rule.versions.1).contains(&version))
}

impl Rule {
    /// What is at `/` of a container whose only volume has this mode.
    pub(super) fn root(&self, mode: Propagation) -> Root {
        let [none, host_to_container, bidirectional] = self.roots;
        match mode {
            Propagation::None => none,
            Propagation::HostToContainer => host_to_container,
            Propagation::Bidirectional => bidirectional,
        }
    }
}

impl Root {
    /// The group and the master of the mount at `/`.
    pub(super) fn groups(self) -> (Group, Group) {
        match self {
            Self::Private => (Group::None, Group::None),
            Self::SlaveOfRootfs => (Group::None, Group::Node(ROOTFS.into())),
            Self::OwnGroup => (Group::Own("/".into()), Group::None),
        }
    }
}

impl FromStr for Version {
    type Err = String;

    /// Reads the numbers at the beginning, whatever follows: `1.1.5+ds1`, `1.14`, `1.3.0-rc.1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut numbers = text[..end].split('.').map(str::parse);
        let mut next = || numbers.next().unwrap_or(Ok(0));
        match (next(), next(), next()) {
            (Ok(major), Ok(minor), Ok(patch)) => Ok(Self(major, minor, patch)),
            _ => Err(format!("{text:?} does not begin with a version")),
        }
    }
}

impl fmt::Display for Maker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Simulator => "simulator",
            Self::Runc => "runc",
            Self::Crun => "crun",
        })
    }
}
