//! One case: what it is called, what it needs of a node, what it does.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use propagation_core::Capabilities;

use crate::failure::Checked;
use crate::lab::Lab;

/// What a case can need beyond the traits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Need {
    /// [`Capabilities::shape_node`].
    ShapeNode,
    /// [`Capabilities::rebind_host`].
    RebindHost,
    /// [`Capabilities::rebind_consumer`].
    RebindConsumer,
    /// [`Capabilities::other_uids`].
    OtherUids,
    /// [`Capabilities::stop_fault`].
    StopFault,
    /// [`Capabilities::replicas`].
    Replicas,
    /// By the node's facts: users who are not root can mount. fusermount3 is there, and the mode of
    /// `/dev/fuse` lets everybody open it.
    Fusermount3,
    /// The suite was told how to remove a node that is kept
    /// ([`Suite::with_remover`](crate::Suite::with_remover)).
    Remover,
}

/// What a suite and its nodes have for the cases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    pub(crate) capabilities: Capabilities,
    pub(crate) fusermount3: bool,
    pub(crate) remover: bool,
}

impl Need {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ShapeNode,
        Self::RebindHost,
        Self::RebindConsumer,
        Self::OtherUids,
        Self::StopFault,
        Self::Replicas,
        Self::Fusermount3,
        Self::Remover,
    ];

    pub(crate) fn is_met_by(self, offer: &Offer) -> bool {
        let capabilities = offer.capabilities;
        match self {
            Self::ShapeNode => capabilities.shape_node,
            Self::RebindHost => capabilities.rebind_host,
            Self::RebindConsumer => capabilities.rebind_consumer,
            Self::OtherUids => capabilities.other_uids,
            Self::StopFault => capabilities.stop_fault,
            Self::Replicas => capabilities.replicas,
            Self::Fusermount3 => offer.fusermount3,
            Self::Remover => offer.remover,
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ShapeNode => "capability shape_node",
            Self::RebindHost => "capability rebind_host",
            Self::RebindConsumer => "capability rebind_consumer",
            Self::OtherUids => "capability other_uids",
            Self::StopFault => "capability stop_fault",
            Self::Replicas => "capability replicas",
            Self::Fusermount3 => "fusermount3, and a /dev/fuse that every user can open",
            Self::Remover => "a way to remove what is kept",
        })
    }
}

/// A case at work.
pub(crate) type Doing<'lab> = Pin<Box<dyn Future<Output = Checked> + Send + 'lab>>;

/// One case.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// The module that it stands in, and its name.
    pub(crate) name: (&'static str, &'static str),
    pub(crate) needs: &'static [Need],
    pub(crate) run: for<'lab> fn(&'lab Lab) -> Doing<'lab>,
}

impl Case {
    /// `failure::a_killed_producer_…`
    pub(crate) fn path(&self) -> String {
        let module = self.name.0.rsplit("::").next().unwrap_or_default();
        format!("{module}::{}", self.name.1)
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
                run: |lab| Box::pin($name(lab)),
            },
        )+];
    };
}

pub(crate) use cases;
