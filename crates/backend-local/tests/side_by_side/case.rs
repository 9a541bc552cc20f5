//! What is compared: every covering mount × every shape × every propagation mode.

use std::fmt;

use propagation_core::plan::{
    Bridge, BridgeState, Covering, NodeSpec, Plan, Propagation, Role, StartOrder, Volume,
    VolumePaths, WorkloadSpec,
};

/// Name of the simulated container.
pub(super) const SUBJECT: &str = "subject";

/// How many mount views it has. The second is a copy of the first's, not one made from the
/// beginning, and must not differ.
pub(super) const REPLICAS: u32 = 2;

/// Name of the directory in the submount that a second submount lies on.
const INNER: &str = "inner";

/// Which directory is the volume, and what is mounted in it when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The volume is the bridge; the submount is there before the container.
    BridgeLate,
    /// The volume is the bridge; the submount is made when the container runs.
    BridgeEarly,
    /// The volume is the submount itself.
    MountpointLate,
    /// The volume is the directory that the submount is made on afterwards.
    MountpointEarly,
    /// The volume is the bridge; in it lies a submount, and in that another one.
    Nested,
    /// The volume is the bridge's parent directory, here the covering mount itself.
    Ancestor,
}

/// One thing to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) covering: Covering,
    pub(super) shape: Shape,
    pub(super) mode: Propagation,
}

/// The modes, in the order of the tables in `expected`.
pub(super) const MODES: [Propagation; 3] =
    [Propagation::None, Propagation::HostToContainer, Propagation::Bidirectional];

const COVERINGS: [Covering; 3] = [Covering::Shared, Covering::Slave, Covering::Private];

const SHAPES: [Shape; 6] = [
    Shape::BridgeLate,
    Shape::BridgeEarly,
    Shape::MountpointLate,
    Shape::MountpointEarly,
    Shape::Nested,
    Shape::Ancestor,
];

impl Case {
    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        COVERINGS.into_iter().flat_map(|covering| {
            SHAPES.into_iter().flat_map(move |shape| {
                MODES.into_iter().map(move |mode| Self { covering, shape, mode })
            })
        })
    }

    /// The simplest one with this mode.
    pub(super) fn plain(mode: Propagation) -> Self {
        Self { covering: Covering::Shared, shape: Shape::BridgeLate, mode }
    }

    /// Whether the submount is there before the container is.
    pub(super) fn is_late(self) -> bool {
        !matches!(self.shape, Shape::BridgeEarly | Shape::MountpointEarly)
    }

    /// Whether the volume is the place of the submount.
    pub(super) fn is_mountpoint(self) -> bool {
        matches!(self.shape, Shape::MountpointLate | Shape::MountpointEarly)
    }

    /// Whether the submount is the producer's FUSE mount. Its marker filesystem has no directory to
    /// mount on, and a producer, being Bidirectional, starts below a shared mount only; elsewhere a
    /// tmpfs stands in its place, for both containers alike.
    pub(super) fn is_fuse(self) -> bool {
        self.covering == Covering::Shared && self.shape != Shape::Nested
    }

    /// The node and the workloads.
    pub(super) fn plan(self) -> Plan {
        let node = NodeSpec {
            covering: self.covering,
            bridge: BridgeState::Directory,
            ..NodeSpec::default()
        };
        Plan::default().with(|plan| {
            plan.node = node;
            plan.workloads = vec![WorkloadSpec::producer(), self.subject()];
        })
    }

    /// The container that is compared.
    pub(super) fn subject(self) -> WorkloadSpec {
        WorkloadSpec::new(SUBJECT, Role::Consumer).with(|spec| {
            spec.propagation = self.mode;
            spec.volume = match self.shape {
                Shape::MountpointLate | Shape::MountpointEarly => Volume::Mountpoint,
                Shape::Ancestor => Volume::Ancestor,
                Shape::BridgeLate | Shape::BridgeEarly | Shape::Nested => Volume::Bridge,
            };
            spec.order =
                if self.is_late() { StartOrder::AfterMount } else { StartOrder::BeforeMount };
            spec.replicas = REPLICAS;
        })
    }

    /// Where the volume is.
    pub(super) fn paths(self) -> VolumePaths {
        self.subject().paths(&Bridge::default())
    }

    /// Where the submounts are on the node, outermost first.
    pub(super) fn submounts(self) -> Vec<String> {
        let outer = Bridge::default().fuse_path();
        let inner = format!("{outer}/{INNER}");
        if self.shape == Shape::Nested { vec![outer, inner] } else { vec![outer] }
    }

    /// The directory on the node where mounts are made to see how they travel: one of its own, or,
    /// where the volume has none, the volume itself.
    pub(super) fn spot(self) -> String {
        let bridge = Bridge::default();
        if self.is_mountpoint() { bridge.fuse_path() } else { format!("{}/spot", bridge.path) }
    }

    /// Where a directory of the volume is in the container.
    pub(super) fn in_container(self, on_node: &str) -> String {
        let paths = self.paths();
        let below = on_node.strip_prefix(&paths.source).unwrap_or_default();
        format!("{}{below}", paths.destination)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = match self.shape {
            Shape::BridgeLate => "bridge, submount before",
            Shape::BridgeEarly => "bridge, submount after",
            Shape::MountpointLate => "mountpoint, mounted before",
            Shape::MountpointEarly => "mountpoint, mounted after",
            Shape::Nested => "bridge, nested submounts",
            Shape::Ancestor => "parent of the bridge",
        };
        let covering = match self.covering {
            Covering::Shared => "shared",
            Covering::Slave => "slave",
            Covering::Private => "private",
            Covering::Tmpfs => "tmpfs",
        };
        write!(formatter, "{covering} host: {shape}: {}", self.mode)
    }
}
