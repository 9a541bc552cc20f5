//! A backend in memory: a model of mount propagation, for tests of whatever uses a [`Backend`].
//!
//! It carries out any plan the way the real kernel does, without a kernel: superblocks, peer groups,
//! slaves, the reach of mounts and unmounts, the outcomes of a dead daemon. A run takes a millisecond
//! or two and needs no privilege, on any operating system.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), propagation_core::Error> {
//! use propagation_core::fake::FakeBackend;
//! use propagation_core::prelude::*;
//!
//! // Everything in order: the consumers come back by themselves.
//! let report = Runner::new(Plan::default())?.run(&FakeBackend::default()).await?;
//! assert!(report.verdict.is(VerdictOutcome::FullSuccess));
//!
//! // Consumers whose volume is the mountpoint itself hold the dead mount.
//! let mut plan = Plan::default();
//! for workload in plan.workloads.iter_mut().filter(|workload| workload.role == Role::Consumer) {
//!     workload.volume = Volume::Mountpoint;
//! }
//! let report = Runner::new(plan)?.run(&FakeBackend::default()).await?;
//! assert!(report.verdict.is(VerdictOutcome::PartialSuccess));
//! assert_eq!(report.measurements.smallest_intervention, Some(Repair::RebindConsumer));
//! # Ok(()) }
//! ```
//!
//! What it does not model, and what it says instead:
//!
//! - Time. Everything happens at once; a look at a stopped daemon is answered at once with
//!   [`Outcome::Hang`](crate::observation::Outcome::Hang). Since nothing happens without a call, a
//!   [`wait`](crate::workload::Workload::wait) for what is not so yet gives other tasks a short
//!   while ([`FakeBackend::with_patience`]) and not the whole deadline.
//! - Permissions of ordinary files, beyond the owner of a directory; sizes of filesystems: a plan with
//!   [`disk_bytes`](crate::plan::NodeSpec::disk_bytes) is refused.
//!
//! To see whether a test notices a backend that breaks its contract, break one of its rules with
//! [`FakeBackend::with_sabotage`].
//!
//! Reading order: `kernel` and `kernel/travel`, `fuse`, `files`; `world`, `runtime`, `program`,
//! `producer`, `consumer`, `fault`; `look`; `node`; `sabotage`.

mod consumer;
mod fault;
mod files;
mod fuse;
mod kernel;
mod look;
mod node;
mod producer;
mod program;
mod record;
mod runtime;
mod sabotage;
#[cfg(test)]
mod tests;
mod world;

use std::time::Duration;

use async_trait::async_trait;

pub use sabotage::Sabotage;

use crate::backend::{Backend, Capabilities, Feature};
use crate::error::{Error, ErrorKind};
use crate::facts::FuseDevice;
use crate::node::Node;
use crate::plan::Plan;
use crate::run_id::Run;

/// Makes nodes in memory.
///
/// ```
/// use propagation_core::fake::FakeBackend;
/// use propagation_core::Backend;
/// use propagation_core::plan::Repair;
///
/// let backend = FakeBackend::default();
/// let without = FakeBackend::modelled().without_repairs(&[Repair::RebindHost]);
/// let backend = backend.with_capabilities(without).with_name("small");
/// assert_eq!(backend.name(), "small");
/// ```
#[derive(Debug, Clone)]
pub struct FakeBackend {
    name: String,
    settings: Settings,
    absence: Option<String>,
    sabotage: Option<Sabotage>,
}

/// Properties of a backend's nodes.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    capabilities: Capabilities,
    fuse_device: FuseDevice,
    user_namespaces: bool,
    patience: Duration,
}

impl Default for FakeBackend {
    /// A machine on which everything works, with all capabilities but a real kernel.
    fn default() -> Self {
        let settings = Settings {
            capabilities: Self::modelled(),
            fuse_device: FuseDevice::Usable,
            user_namespaces: false,
            patience: Self::PATIENCE,
        };
        Self { name: "fake".into(), settings, absence: None, sabotage: None }
    }
}

impl FakeBackend {
    /// Capabilities of [`FakeBackend::default`]: those that its model covers.
    pub fn modelled() -> Capabilities {
        Capabilities::all().without(&[
            Feature::DiskSize,
            Feature::OciRuntime,
            Feature::RuntimeNamespace,
            Feature::SecondRuntime,
            Feature::HostProcess,
            Feature::UserNamespace,
            Feature::Supervisor,
            Feature::SubPath,
            Feature::OtherVolume,
            Feature::FurtherVolumes,
            Feature::CheckedBind,
            Feature::SingleBind,
            Feature::Publishing,
            Feature::Reopening,
            Feature::Load,
            Feature::ExternalDaemon,
            Feature::Transport,
            Feature::Programs,
            Feature::NodePrograms,
            Feature::KernelFilesystems,
            Feature::RealKernel,
        ])
    }

    /// The patience of [`FakeBackend::default`]: long for another task, short for a person.
    pub const PATIENCE: Duration = Duration::from_millis(20);

    /// Sets another name in reports.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets other capabilities. What is left out is refused with [`ErrorKind::Unsupported`].
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.settings.capabilities = capabilities;
        self
    }

    /// Sets another state of `/dev/fuse`.
    #[must_use]
    pub fn with_fuse_device(mut self, device: FuseDevice) -> Self {
        self.settings.fuse_device = device;
        self
    }

    /// Sets whether every workload has its own user namespace (Kubernetes: `hostUsers: false`). Its
    /// mounts are then slaves of the host's, so that a producer's mount does not reach the host.
    #[must_use]
    pub fn with_user_namespaces(mut self, own: bool) -> Self {
        self.settings.user_namespaces = own;
        self
    }

    /// Sets how long a wait for a condition that is not met gives other tasks to meet it, where the
    /// deadline is not shorter. [`Duration::MAX`] waits to the deadline, as a real node does.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self
    }

    /// Makes a machine that cannot carry a node, for this reason.
    #[must_use]
    pub fn with_absence(mut self, reason: impl Into<String>) -> Self {
        self.absence = Some(reason.into());
        self
    }

    /// Makes nodes that break one rule of the contract, so that a test can show that it notices.
    #[must_use]
    pub fn with_sabotage(mut self, sabotage: Sabotage) -> Self {
        self.sabotage = Some(sabotage);
        self
    }
}

#[async_trait]
impl Backend for FakeBackend {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.settings.capabilities.clone()
    }

    fn missing(&self, _plan: &Plan) -> Option<String> {
        None
    }

    async fn open(&self, plan: &Plan, run: &Run) -> Result<Box<dyn Node>, Error> {
        if let Some(reason) = &self.absence {
            return Err(Error::new(ErrorKind::Environment, "open a fake node", reason.clone())
                .with_fix("leave out FakeBackend::with_absence"));
        }
        if let Some(reason) = self.settings.capabilities.lack(&plan.requires()) {
            return Err(Error::new(ErrorKind::Unsupported, "open a fake node", reason)
                .with_fix("leave it out of the plan"));
        }
        let node = node::FakeNode::new(plan, run, self.settings.clone());
        Ok(match self.sabotage {
            Some(sabotage) => sabotage::wrap(sabotage, Box::new(node)),
            None => Box::new(node),
        })
    }
}
