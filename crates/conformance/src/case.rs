//! One case: its name, its needs, its function.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use propagation_core::observation::Access;
use propagation_core::plan::{FaultKind, Repair};
use propagation_core::{Capabilities, Feature};

use crate::cases::declared;
use crate::failure::Checked;
use crate::lab::Lab;

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

/// A case at work.
pub(crate) type Doing<'lab> = Pin<Box<dyn Future<Output = Checked> + Send + 'lab>>;

/// What a case does.
#[derive(Clone, Copy)]
pub(crate) enum Does {
    /// A case that is written as a function.
    Written(for<'lab> fn(&'lab Lab) -> Doing<'lab>),
    /// One fault that is declared.
    Fault(FaultKind),
    /// One repair that is declared.
    Repair(Repair),
    /// Looks by one access that is declared.
    Access(Access),
}

/// One case.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// The module that it stands in, and its name.
    pub(crate) name: (&'static str, &'static str),
    pub(crate) needs: &'static [Need],
    pub(crate) does: Does,
}

impl Case {
    /// A case that follows from what can be declared.
    pub(crate) fn made(does: Does) -> Self {
        let name = match does {
            Does::Written(_) => "",
            Does::Fault(fault) => fault.name(),
            Does::Repair(repair) => repair.name(),
            Does::Access(access) => access.as_str(),
        };
        Self { name: ("declared", name), needs: declared::needs(does), does }
    }

    /// `failure::a_killed_producer_…`, `declared::fault_kill`
    pub(crate) fn path(&self) -> String {
        let module = self.name.0.rsplit("::").next().unwrap_or_default();
        let of = match self.does {
            Does::Written(_) => "",
            Does::Fault(_) => "fault_",
            Does::Repair(_) => "repair_",
            Does::Access(_) => "access_",
        };
        format!("{module}::{of}{}", self.name.1)
    }

    /// Everything that it needs.
    pub(crate) fn needs(&self) -> impl Iterator<Item = Need> + use<> {
        let of = match self.does {
            Does::Written(_) => None,
            Does::Fault(fault) => Some(Need::Fault(fault)),
            Does::Repair(repair) => Some(Need::Repair(repair)),
            Does::Access(access) => Some(Need::Access(access)),
        };
        of.into_iter().chain(self.needs.iter().copied())
    }

    /// Does it.
    pub(crate) fn run<'lab>(&self, lab: &'lab Lab) -> Doing<'lab> {
        match self.does {
            Does::Written(run) => run(lab),
            Does::Fault(fault) => Box::pin(declared::fault(lab, fault)),
            Does::Repair(repair) => Box::pin(declared::repair(lab, repair)),
            Does::Access(access) => Box::pin(declared::access(lab, access)),
        }
    }
}

/// The cases of a module, each with what it needs. A case that is not listed is dead code, which
/// the compiler reports.
macro_rules! cases {
    ($($name:ident $(needs $($need:ident)+)?,)+) => {
        /// The cases of this module.
        pub(crate) const CASES: &[$crate::case::Case] = &[$(
            $crate::case::Case {
                name: (module_path!(), stringify!($name)),
                needs: &[$($($crate::case::Need::$need,)+)?],
                does: $crate::case::Does::Written(|lab| Box::pin($name(lab))),
            },
        )+];
    };
}

pub(crate) use cases;
