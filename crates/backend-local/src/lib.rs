//! The local backend: a simulated node on the real kernel.
//!
//! A node is a process with mount, pid and uts namespaces of its own (and a user namespace when an
//! ordinary user runs it), containers are mount namespaces made in the runtime's order, the
//! producer serves a real FUSE mount. Everything is made by the agent, which this crate carries
//! inside; the calling process enters no namespace, forks nothing and mounts nothing.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), propagation_core::Error> {
//! use propagation_backend_local::LocalBackend;
//! use propagation_core::prelude::*;
//!
//! let report = Runner::new(Plan::default())?.run(&LocalBackend::new()).await?;
//! println!("{}", report.verdict.summary());
//! # Ok(()) }
//! ```
#![cfg(target_os = "linux")]

mod agent;
mod clean;
mod containers;
mod facts;
mod filesystems;
mod mounts;
mod node;
mod programs;
mod runtime;
mod transports;
mod within;
mod workload;

use std::fs::OpenOptions;

use async_trait::async_trait;
use propagation_core::plan::{Action, Step};
use propagation_core::{Backend, Capabilities, Error, Node, Plan, Run};

pub use clean::{Leftover, Removed, leftovers, remove};
pub use facts::host_facts;
pub use mounts::{HostMounts, RuntimeMounts, host_mounts, own_mounts};
pub use node::LocalNode;

/// Makes simulated nodes on this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalBackend {
    _private: (),
}

impl LocalBackend {
    /// A backend; touches nothing.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Why no producer of a scenario can mount. The five phases say it themselves, with what to do.
fn device_missing(plan: &Plan) -> Option<String> {
    let phase = |step: &Step| matches!(step.action, Action::Phase(_));
    if plan.steps.iter().any(phase) || plan.producer().is_none() {
        return None;
    }
    let error = OpenOptions::new().read(true).write(true).open("/dev/fuse").err()?;
    Some(format!("open /dev/fuse: {error}; `propagation doctor` says what to do"))
}

#[async_trait]
impl Backend for LocalBackend {
    fn name(&self) -> &str {
        "local"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }

    fn missing(&self, plan: &Plan) -> Option<String> {
        if let Some(program) = programs::missing(plan) {
            return Some(format!("{program} is not installed on this machine"));
        }
        filesystems::missing(plan)
            .or_else(|| runtime::missing(plan))
            .or_else(|| transports::missing(plan))
            .or_else(|| device_missing(plan))
    }

    async fn open(&self, plan: &Plan, run: &Run) -> Result<Box<dyn Node>, Error> {
        Ok(Box::new(LocalNode::open(plan, run).await?))
    }
}
