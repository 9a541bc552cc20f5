//! One set of cases that every backend of `propagation` has to pass.
//!
//! The cases know the traits [`Backend`](propagation_core::Backend),
//! [`Node`](propagation_core::Node) and [`Workload`](propagation_core::Workload) and nothing else:
//! a node declares its capabilities, and the cases that need more are skipped. Each case opens its own
//! nodes and has its own deadline, and its nodes are closed whatever happens.
//!
//! A backend runs the suite in a test without a harness:
//!
//! ```
//! use propagation_conformance::{Suite, run_suites};
//! use propagation_core::fake::FakeBackend;
//!
//! fn main() -> std::process::ExitCode {
//!     # let _ = || -> std::process::ExitCode {
//!     run_suites(vec![Suite::new(FakeBackend::default())])
//!     # }; std::process::ExitCode::SUCCESS
//! }
//! ```
//!
//! # Skips
//!
//! A skip has a type and a reason ([`Skip`]); it is printed with the case and counted. Where
//! nothing may be left out, name the backend in `PROPAGATION_REQUIRE` (`PROPAGATION_REQUIRE=local`,
//! `PROPAGATION_REQUIRE=fake,local`, `PROPAGATION_REQUIRE=all`): an absent environment is then a
//! failure, and so is every skip that the suite has not declared acceptable
//! ([`Suite::accepting_without`]). A suite in which no case runs although its environment is there
//! fails. Other tests give up by [`skip()`], so that one variable requires all there is.
//!
//! # Reading order
//!
//! `suite` (runs the cases on a backend), `skip`, `require`, `case` (one case and its needs), `lab` (the tools
//! of a case), `cases` (the cases, by subject).

mod case;
mod cases;
mod failure;
mod lab;
mod need;
mod require;
mod skip;
mod suite;
#[cfg(test)]
mod tests;
mod watchdog;

pub use need::Need;
pub use require::{KNOWN, REQUIRE, cluster_named, skip};
pub use skip::Skip;
pub use suite::{CaseOutcome, Suite, run_suites};
