//! The data of `propagation`: plans, observations, and the report of both.
//!
//! [`plan`] is the input of a run, and [`scenario`] reads one from a file. [`observation`], [`facts`] and
//! [`program`] are what was seen, [`cause`] explains it, [`verdict`] sums it up, and [`report`] holds all of it.
//! Nothing here runs anything.

pub mod capabilities;
pub mod cause;
pub mod class;
pub mod comparison;
pub mod confinement;
pub mod errno;
pub mod error;
pub mod facts;
pub mod input;
pub mod journal;
pub mod kernel;
pub mod marker;
pub mod observation;
pub mod plan;
pub mod program;
pub mod report;
mod runtimes;
pub mod scenario;
pub mod signal;
pub mod suggest;
pub mod verdict;

pub use mountinfo;

pub use capabilities::{Capabilities, Feature, Need, Requirement};
pub use class::Class;
pub use errno::Errno;
pub use error::{Error, ErrorKind};
pub use plan::Plan;
pub use report::Report;
#[doc(hidden)]
pub use runtimes::runtime_apart;
pub use signal::Signal;
pub use verdict::{Answer, Expectations, RunOutcome, ScenarioOutcome, Verdict, VerdictOutcome};
