//! The names that most programs need.
//!
//! ```
//! # #[cfg(feature = "fake")]
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), propagation_core::Error> {
//! use propagation_core::fake::FakeBackend;
//! use propagation_core::prelude::*;
//!
//! // Consumers whose volume is the FUSE mountpoint itself keep the stale mount.
//! let mut plan = Plan::default();
//! let consumers = plan.workloads.iter_mut().filter(|workload| workload.role == Role::Consumer);
//! consumers.for_each(|consumer| consumer.volume = Volume::Mountpoint);
//!
//! let report = Runner::new(plan)?.run(&FakeBackend::default()).await?;
//! assert!(report.verdict.is(VerdictOutcome::PartialSuccess));
//! assert_eq!(report.measurements.smallest_intervention, Some(Repair::RebindConsumer));
//! # Ok(()) }
//! # #[cfg(not(feature = "fake"))] fn main() {}
//! ```

pub use crate::backend::{Backend, Capabilities};
pub use crate::context::RunContext;
pub use crate::node::{Look, Node};
pub use crate::phase::Phase;
pub use crate::run::Runner;
pub use crate::run_id::Run;
pub use crate::workload::Workload;
pub use propagation_model::cause::Cause;
pub use propagation_model::observation::{Actor, Observation};
pub use propagation_model::plan::{Fault, Propagation, Repair, Role, Step, Volume, WorkloadSpec};
pub use propagation_model::report::{Check, Status};
pub use propagation_model::{Class, Error, ErrorKind, Plan, Report, Verdict, VerdictOutcome};
