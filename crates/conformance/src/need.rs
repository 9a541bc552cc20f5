//! What a case needs beyond the traits, and what there is of it.

use std::fmt;

use propagation_core::observation::Access;
use propagation_core::plan::{FaultKind, Repair};
use propagation_core::{Capabilities, Feature};

/// What a case can need beyond the traits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Need {
    /// A feature is declared.
    Feature(Feature),
    /// A fault is declared.
    Fault(FaultKind),
    /// A repair is declared.
    Repair(Repair),
    /// An access is declared.
    Access(Access),
    /// By the node's facts: ordinary users can mount. fusermount3 is there, and the mode of `/dev/fuse` lets
    /// every user open it.
    Fusermount3,
    /// The suite was told how to remove a node that is kept
    /// ([`Suite::with_remover`](crate::Suite::with_remover)).
    Remover,
}

/// What a suite and its nodes have for the cases.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub(crate) capabilities: Capabilities,
    pub(crate) fusermount3: bool,
    pub(crate) remover: bool,
}

impl Need {
    pub(crate) const SHAPED_NODE: Self = Self::Feature(Feature::ShapedNode);
    pub(crate) const OTHER_UIDS: Self = Self::Feature(Feature::OtherUids);
    pub(crate) const REPLICAS: Self = Self::Feature(Feature::Replicas);
    pub(crate) const KEEPER: Self = Self::Feature(Feature::Keeper);
    pub(crate) const STOP_FAULT: Self = Self::Fault(FaultKind::Stop);
    pub(crate) const REBIND_HOST: Self = Self::Repair(Repair::RebindHost);
    pub(crate) const REBIND_CONSUMER: Self = Self::Repair(Repair::RebindConsumer);
    pub(crate) const RECONNECT_CONSUMER: Self = Self::Repair(Repair::ReconnectConsumer);
    pub(crate) const FUSERMOUNT3: Self = Self::Fusermount3;
    pub(crate) const REMOVER: Self = Self::Remover;

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let features = Feature::ALL.iter().copied().map(Self::Feature);
        let faults = FaultKind::ALL.iter().copied().map(Self::Fault);
        let repairs = Repair::ALL.into_iter().map(Self::Repair);
        let accesses = Access::ALL.into_iter().map(Self::Access);
        let others = [Self::Fusermount3, Self::Remover];
        features.chain(faults).chain(repairs).chain(accesses).chain(others)
    }

    pub(crate) fn is_met_by(self, offer: &Offer) -> bool {
        let can = &offer.capabilities;
        match self {
            Self::Feature(feature) => can.has(feature),
            Self::Fault(fault) => can.faults.contains(&fault),
            Self::Repair(repair) => can.repairs.contains(&repair),
            Self::Access(access) => can.accesses.contains(&access),
            Self::Fusermount3 => offer.fusermount3,
            Self::Remover => offer.remover,
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feature(feature) => write!(formatter, "the feature {feature}"),
            Self::Fault(fault) => write!(formatter, "the fault {}", fault.name()),
            Self::Repair(repair) => write!(formatter, "the repair {}", repair.name()),
            Self::Access(access) => write!(formatter, "the access {}", access.as_str()),
            Self::Fusermount3 => {
                formatter.write_str("fusermount3, and a /dev/fuse that every user can open")
            }
            Self::Remover => formatter.write_str("a way to remove what is kept"),
        }
    }
}
