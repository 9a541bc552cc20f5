//! `propagation` answers with evidence: can a FUSE mount made in one container be used from
//! another, what happens when its producer dies, and what brings it back?
//!
//! This crate runs experiments; backends provide the nodes. Its data types are those of `propagation_model`, and
//! the modules of that crate are re-exported here. Read it in this order:
//!
//! 1. [`plan`]: the input of a run. [`Plan::default`] is the experiment of five phases.
//! 2. [`run`]: [`Runner::run`] takes a plan and a [`Backend`] to a [`Report`].
//! 3. [`phase`]: the five phases, each a list of checks.
//! 4. [`verdict`]: the answer that follows from the phases.
//! 5. [`report`]: the one data type of the result.
//! 6. [`diagnosis`]: why a run came out as it did; [`experiments`]: what single changes would do.
//!
//! [`prelude`] has the names that most programs need.
//!
//! A backend implements [`Backend`], [`Node`] and [`Workload`]; a custom phase implements [`Phase`]. [`mountinfo`]
//! parses the kernel's mount tables and computes where a new mount propagates. The hidden
//! module `client` is for the backends that talk to the agent, the program inside the containers.

mod act;
pub mod backend;
#[doc(hidden)]
pub mod client;
pub mod context;
mod decide;
pub mod diagnosis;
pub mod event;
pub mod experiments;
#[cfg(feature = "fake")]
pub mod fake;
pub mod like;
pub mod matrix;
pub mod node;
pub mod phase;
pub mod prelude;
pub mod run;
pub mod run_id;
pub mod step;
pub mod workload;

#[doc(hidden)]
pub use propagation_model::runtime_apart;
pub use propagation_model::{
    Answer, Class, Errno, Error, ErrorKind, Expectations, Plan, Report, RunOutcome,
    ScenarioOutcome, Signal, Verdict, VerdictOutcome, comparison, confinement, errno, error, facts,
    input, journal, kernel, marker, mountinfo, observation, plan, probed_consumer, program, report,
    scenario, suggest, verdict,
};
#[doc(hidden)]
pub use propagation_protocol::{self as protocol, consumer_log, host};

pub use {
    backend::{Backend, Capabilities, Feature},
    context::{OpenAct, RunContext},
    event::Event,
    node::Node,
    phase::Phase,
    run::Runner,
    run_id::{Run, RunId},
    workload::Workload,
};
