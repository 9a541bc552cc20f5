//! One case: its name, its needs, its function.

use std::future::Future;
use std::pin::Pin;

use propagation_core::observation::Access;
use propagation_core::plan::{FaultKind, Repair};

use crate::failure::Checked;
use crate::lab::Lab;
use crate::need::Need;

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
    pub(crate) fn made(does: Does, needs: &'static [Need]) -> Self {
        let name = match does {
            Does::Written(_) => "",
            Does::Fault(fault) => fault.name(),
            Does::Repair(repair) => repair.name(),
            Does::Access(access) => access.as_str(),
        };
        Self { name: ("declared", name), needs, does }
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
}

/// The cases of a module, each with what it needs. A case that is not listed is dead code, which
/// the compiler reports.
macro_rules! cases {
    ($($name:ident $(needs $($need:ident)+)?,)+) => {
        /// The cases of this module.
        pub(crate) const CASES: &[$crate::case::Case] = &[$(
            $crate::case::Case {
                name: (module_path!(), stringify!($name)),
                needs: &[$($($crate::need::Need::$need,)+)?],
                does: $crate::case::Does::Written(|lab| Box::pin($name(lab))),
            },
        )+];
    };
}

pub(crate) use cases;
