//! What the model knows of a workload, its container and its program.

use tokio::sync::watch;

use super::kernel::Namespace;
use crate::Class;
use crate::client::Reported;
use crate::plan::{Stale, WorkloadSpec};
use crate::program::ProgramState;

/// State of a program.
#[derive(Debug, Default)]
pub(super) struct Program {
    /// A producer's connection.
    pub(super) serves: Option<u32>,
    /// The superblock of a consumer's held descriptor.
    pub(super) holds: Option<u32>,
    /// What a consumer saw last: class and generation.
    pub(super) last: Option<(Class, Option<u64>)>,
    /// Whether a consumer has found the marker.
    pub(super) ready: bool,
}

/// A workload that has been started at some time.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) spec: WorkloadSpec,
    pub(super) container: Option<Container>,
    /// The container of a daemon that has ended, whose connection a keeper holds.
    pub(super) kept: Option<Container>,
    pub(super) reported: watch::Sender<Reported>,
    /// What a producer does with dead mounts at this start; overrides its specification.
    pub(super) stale: Option<Stale>,
}

/// The current container of a workload.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) namespaces: Vec<Namespace>,
    pub(super) program: Program,
    /// Its processes have been stopped by a signal.
    pub(super) stopped: bool,
}

impl Record {
    pub(super) fn new(spec: WorkloadSpec) -> Self {
        let reported = watch::Sender::default();
        Self { spec, container: None, kept: None, reported, stale: None }
    }

    pub(super) fn spec(&self) -> &WorkloadSpec {
        &self.spec
    }

    pub(super) fn namespaces(&self) -> &[Namespace] {
        self.container.as_ref().map_or(&[], |container| &container.namespaces)
    }

    pub(super) fn runs(&self) -> bool {
        self.container.is_some() && self.reported.borrow().status.program == ProgramState::Running
    }
}
