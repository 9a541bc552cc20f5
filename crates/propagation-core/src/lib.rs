//! `propagation` answers with evidence: can a FUSE mount made in one container be used from
//! another, what happens when its producer dies, and what brings it back?
//!
//! This crate is the whole of it but for the places where it happens. Read it in this order:
//!
//! 1. [`plan`]: what is to be done. [`Plan::default`] is the experiment of five phases.
//! 2. [`run`]: [`Runner::run`] takes a plan and a [`Backend`] to a [`Report`].
//! 3. [`phase`]: the five phases, each a list of checks.
//! 4. [`verdict`]: what follows from them.
//! 5. [`report`]: the one data type of the result, and its renderings.
//! 6. [`diagnosis`]: why it came out so, and the smallest change that helps.
//!
//! A backend implements [`Backend`], [`Node`] and [`Workload`]; a phase of one's own implements
//! [`Phase`]. [`mountinfo`] parses what the kernel says of mounts and computes who hears of a new
//! one. [`protocol`] is how a backend talks to the agent, the program inside the containers, and
//! [`client`] what backends share that do.
//!
//! Without the default feature `run` the crate has only what the agent needs and no async runtime.

pub mod consumer_log;
pub mod error;
pub mod facts;
pub mod host;
pub mod journal;
pub mod marker;
pub mod mountinfo;
pub mod observation;
pub mod plan;
pub mod program;
pub mod protocol;
pub mod suggest;

#[cfg(feature = "run")]
pub mod backend;
#[cfg(feature = "run")]
pub mod client;
#[cfg(feature = "run")]
pub mod context;
#[cfg(feature = "run")]
pub mod diagnosis;
#[cfg(feature = "run")]
pub mod event;
#[cfg(feature = "fake")]
pub mod fake;
#[cfg(feature = "run")]
pub mod input;
#[cfg(feature = "run")]
pub mod matrix;
#[cfg(feature = "run")]
pub mod node;
#[cfg(feature = "run")]
pub mod phase;
#[cfg(feature = "run")]
pub mod report;
#[cfg(feature = "run")]
pub mod run;
#[cfg(feature = "run")]
pub mod run_id;
#[cfg(feature = "run")]
pub mod scenario;
#[cfg(feature = "run")]
pub mod step;
#[cfg(feature = "run")]
pub mod verdict;
#[cfg(feature = "run")]
pub mod workload;

pub use error::{Error, ErrorKind};
pub use plan::Plan;

#[cfg(feature = "run")]
pub use {
    backend::{Backend, Capabilities},
    context::RunContext,
    event::Event,
    node::{Node, NodeExt},
    phase::Phase,
    report::Report,
    run::Runner,
    run_id::{Run, RunId},
    verdict::{Verdict, VerdictOutcome},
    workload::Workload,
};
