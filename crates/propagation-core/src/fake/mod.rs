//! A backend in memory: a model of mount propagation, for tests of whatever uses a [`Backend`].
//!
//! It carries out any plan the way the real kernel does, without a kernel: superblocks, peer
//! groups, slaves, what a mount and an unmount reach, what a dead daemon gives to whom. A run takes
//! a millisecond or two and needs no privilege, on any operating system.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), propagation_core::Error> {
//! use propagation_core::fake::FakeBackend;
//! use propagation_core::plan::{Repair, Role, Volume};
//! use propagation_core::{Plan, Runner, VerdictOutcome};
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
//! - Permissions of ordinary files, beyond who owns a directory; sizes of filesystems: a plan with
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
mod runtime;
mod sabotage;
#[cfg(test)]
mod tests;
mod world;

use std::time::Duration;

use async_trait::async_trait;

pub use sabotage::Sabotage;

use crate::backend::{Backend, Capabilities};
use crate::error::{Error, ErrorKind};
use crate::facts::FuseDevice;
use crate::node::Node;
use crate::plan::{Action, NodeSpec, Plan, Step, Volume, WorkloadSpec};
use crate::run_id::Run;

/// Makes nodes in memory.
///
/// ```
/// use propagation_core::fake::FakeBackend;
/// use propagation_core::{Backend, Capabilities};
///
/// let backend = FakeBackend::default();
/// let without = Capabilities { rebind_host: false, ..FakeBackend::CAPABILITIES };
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

/// What the nodes of a backend are like.
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
            capabilities: Self::CAPABILITIES,
            fuse_device: FuseDevice::Usable,
            user_namespaces: false,
            patience: Self::PATIENCE,
        };
        Self { name: "fake".into(), settings, absence: None, sabotage: None }
    }
}

impl FakeBackend {
    /// The capabilities of [`FakeBackend::default`].
    pub const CAPABILITIES: Capabilities = Capabilities {
        shape_node: true,
        rebind_host: true,
        rebind_consumer: true,
        other_uids: true,
        stop_fault: true,
        replicas: true,
        real_kernel: false,
    };

    /// The patience of [`FakeBackend::default`]: long for another task, short for a person.
    pub const PATIENCE: Duration = Duration::from_millis(20);

    /// Another name in reports.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Other capabilities. What is left out is refused with
    /// [`ErrorKind::Unsupported`].
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.settings.capabilities = capabilities;
        self
    }

    /// Another state of `/dev/fuse`.
    #[must_use]
    pub fn with_fuse_device(mut self, device: FuseDevice) -> Self {
        self.settings.fuse_device = device;
        self
    }

    /// Whether every workload has a user namespace of its own (Kubernetes: `hostUsers: false`). Its
    /// mounts are then slaves of the host's, so that a producer's mount stays with it.
    #[must_use]
    pub fn with_user_namespaces(mut self, own: bool) -> Self {
        self.settings.user_namespaces = own;
        self
    }

    /// How long a wait for what is not so yet waits for other tasks to make it so, where the
    /// deadline is not shorter. [`Duration::MAX`] waits to the deadline, as a real node does.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self
    }

    /// A machine that cannot carry a node, for this reason.
    #[must_use]
    pub fn with_absence(mut self, reason: impl Into<String>) -> Self {
        self.absence = Some(reason.into());
        self
    }

    /// Nodes that break one rule of the contract, so that a test can show that it notices.
    #[must_use]
    pub fn with_sabotage(mut self, sabotage: Sabotage) -> Self {
        self.sabotage = Some(sabotage);
        self
    }
}

/// What of a plan the model does not know.
fn not_modelled(plan: &Plan) -> Option<&'static str> {
    let any = |fits: fn(&WorkloadSpec) -> bool| plan.workloads.iter().any(fits);
    let runtime = &plan.node.runtime;
    [
        (!runtime.is_builtin(), "other container runtimes"),
        (runtime.is_apart(), "runtime with a namespace of its own"),
        (any(|w| w.host), "processes of the node itself"),
        (any(|w| w.user_namespace), "user namespace of a single workload"),
        (any(|w| w.outside_runtime), "second runtime"),
        (any(|w| w.supervised), "supervisors"),
        (any(|w| w.sub_path.is_some()), "subPath"),
        (any(|w| !w.volumes.is_empty()), "further volumes"),
        (any(|w| w.readers + w.writers > 0), "load"),
        (
            any(|w| !matches!(w.volume, Volume::Bridge | Volume::Mountpoint | Volume::Ancestor)),
            "volumes that are files or other directories",
        ),
        (plan.workloads.iter().any(|w| !plan.fuse_of(w).is_builtin()), "external daemons"),
        (plan.workloads.iter().any(|w| plan.fuse_of(w).keeper), "kept descriptors"),
        (any(|w| !w.bind.is_default()), "kubelet's checks of volumes, and other binds"),
        (uses(&plan.steps, |action| matches!(action, Action::Execute { .. })), "programs"),
        (
            uses(&plan.steps, |a| matches!(a, Action::Publish(_) | Action::Unpublish(_))),
            "published volumes",
        ),
        (
            uses(&plan.steps, |a| matches!(a, Action::Reopen(_))),
            "descriptors that are opened again",
        ),
    ]
    .into_iter()
    .find_map(|(there, what)| there.then_some(what))
}

fn uses(steps: &[Step], what: fn(&Action) -> bool) -> bool {
    steps.iter().any(|step| match &step.action {
        Action::Repeat { steps, .. } => uses(steps, what),
        action => what(action),
    })
}

#[async_trait]
impl Backend for FakeBackend {
    fn name(&self) -> &str {
        &self.name
    }

    fn refuses(&self, plan: &Plan) -> Option<String> {
        not_modelled(plan).map(|what| format!("the model has no {what}"))
    }

    async fn open(&self, plan: &Plan, run: &Run) -> Result<Box<dyn Node>, Error> {
        if let Some(reason) = &self.absence {
            return Err(Error::new(ErrorKind::Environment, "open a fake node", reason.clone())
                .with_fix("leave out FakeBackend::with_absence"));
        }
        let refuse = |reason: &str| {
            Err(Error::new(ErrorKind::Unsupported, "shape a fake node", reason)
                .with_fix("leave it out of the plan"))
        };
        if plan.node.disk_bytes > 0 {
            return refuse("the size of its filesystem (disk_bytes) is not modelled");
        }
        if !self.settings.capabilities.shape_node && plan.node != NodeSpec::default() {
            return refuse("it has not the capability `shape_node`");
        }
        let node = node::FakeNode::new(plan, run, self.settings.clone());
        Ok(match self.sabotage {
            Some(sabotage) => sabotage::wrap(sabotage, Box::new(node)),
            None => Box::new(node),
        })
    }
}
