//! The cases, by subject. Each is one sentence of the contract; the function's name abbreviates it.

mod changes;
mod cleanup;
mod declared;
mod failure;
mod lifecycle;
mod observation;
mod programs;
mod propagation;
mod recovery;
mod verdict;

use propagation_core::plan::{Propagation, StartOrder, Volume, WorkloadSpec};

use crate::case::{Case, Does, Doing};
use crate::lab::Lab;

/// All cases, in the order of a run.
pub(crate) fn all() -> impl Iterator<Item = Case> {
    [
        lifecycle::CASES,
        changes::CASES,
        programs::CASES,
        observation::CASES,
        propagation::CASES,
        failure::CASES,
        recovery::CASES,
        cleanup::CASES,
        verdict::CASES,
    ]
    .into_iter()
    .flatten()
    .copied()
    .chain(declared::cases())
}

/// Begins a case.
pub(crate) fn begin<'lab>(case: &Case, lab: &'lab Lab) -> Doing<'lab> {
    match case.does {
        Does::Written(run) => run(lab),
        Does::Fault(fault) => Box::pin(declared::fault(lab, fault)),
        Does::Repair(repair) => Box::pin(declared::repair(lab, repair)),
        Does::Access(access) => Box::pin(declared::access(lab, access)),
    }
}

/// A consumer with the bridge as its volume, started before the mount.
fn early() -> WorkloadSpec {
    WorkloadSpec::consumer("early", StartOrder::BeforeMount)
}

/// A consumer with the bridge as its volume, started after the mount.
fn late() -> WorkloadSpec {
    WorkloadSpec::consumer("late", StartOrder::AfterMount)
}

/// A consumer of another propagation or volume.
fn consumer(
    name: &str,
    order: StartOrder,
    propagation: Propagation,
    volume: Volume,
) -> WorkloadSpec {
    WorkloadSpec::consumer(name, order).with(|spec| {
        spec.propagation = propagation;
        spec.volume = volume;
    })
}
