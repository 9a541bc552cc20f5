//! The phases: what is done and checked, in order.

mod consumer;
mod host_setup;
mod producer;
mod recovery;
mod stale_mount;

use async_trait::async_trait;

pub use consumer::Consumer;
pub use host_setup::{HostSetup, check_host};
pub use producer::Producer;
pub use recovery::Recovery;
pub use stale_mount::StaleMount;

use crate::context::RunContext;
use crate::error::{Error, ErrorKind};
use crate::observation::Observation;
use crate::plan::PhaseName;
use crate::program::{RefusalKind, StartRefused};
use crate::{Class, Errno};

/// One phase of a run.
///
/// A phase acts through the [`RunContext`] only and records a [`Check`](crate::report::Check) for
/// everything it finds; it calls no other phase. It fails when one of its checks failed.
#[async_trait]
pub trait Phase: Send + Sync {
    /// Its name in reports, unique in the run: `host_setup`, …
    fn id(&self) -> &str;

    /// The phases that must have passed before this one makes sense. Otherwise it is skipped.
    fn requires(&self) -> Vec<&str>;

    /// Carries it out.
    ///
    /// Precondition: every phase it requires has passed in this run. Afterwards its findings are in
    /// the context. Not idempotent: a phase is run once. The future may be dropped at any await
    /// when the run is cut short; what it started is then cleaned up by the runner.
    ///
    /// # Errors
    /// When the tool could not do its work, so that nothing can be said. A finding is not an error.
    async fn run(&self, context: &mut RunContext<'_>) -> Result<(), Error>;
}

/// The five phases, in order.
pub fn five() -> Vec<Box<dyn Phase>> {
    PhaseName::ALL.map(named).into()
}

/// One of the five phases.
pub fn named(name: PhaseName) -> Box<dyn Phase> {
    match name {
        PhaseName::HostSetup => Box::new(HostSetup),
        PhaseName::Producer => Box::new(Producer),
        PhaseName::Consumer => Box::new(Consumer),
        PhaseName::StaleMount => Box::new(StaleMount),
        PhaseName::Recovery => Box::new(Recovery),
    }
}

/// Why nothing can be read as a second user.
const NO_SECOND_USER: &str = "there is no second user in this node's user namespace: newuidmap and \
                              a range in /etc/subuid would give one";

/// What another user than the mounting one gets with allow_other, and without.
fn allow_other_gives(allow_other: bool) -> Class {
    if allow_other { Class::Ok } else { Class::Errno(Errno::EACCES) }
}

/// A limit of the machine says nothing about propagation.
///
/// # Errors
/// [`ErrorKind::Environment`] with the limit, when a start was refused for one.
fn no_limit(refusals: &[(String, StartRefused)]) -> Result<(), Error> {
    let limited = refusals.iter().find(|(_, refusal)| refusal.kind == RefusalKind::NoRoom);
    limited.map_or(Ok(()), |(name, refusal)| {
        let operation = format!("start {name}");
        Err(Error::new(ErrorKind::Environment, operation, refusal.text.clone()).with_fix(
            "raise the limit (user.max_mnt_namespaces and fs.mount-max of sysctl, ulimit -u, \
             ulimit -n), or use fewer consumers",
        ))
    })
}

/// Who saw what, as `node, consumer-early: ok; consumer-late: ENOTCONN`; names them while they are
/// few.
fn tally(observations: &[&Observation]) -> String {
    let mut classes: Vec<(Class, Vec<String>)> = Vec::new();
    for observation in observations {
        let class = observation.outcome.class();
        let name = observation.actor.to_string();
        match classes.iter_mut().find(|(known, _)| *known == class) {
            Some((_, names)) => names.push(name),
            None => classes.push((class, vec![name])),
        }
    }
    let words: Vec<String> = classes
        .iter()
        .map(|(class, names)| match names.len() {
            1..=4 => format!("{}: {class}", names.join(", ")),
            count => format!("{count} actors: {class}"),
        })
        .collect();
    if words.is_empty() { "nobody looked".into() } else { words.join("; ") }
}

/// The first few observations as evidence lines.
fn evidence(observations: &[&Observation]) -> Vec<String> {
    const SHOWN: usize = 8;
    let mut lines: Vec<String> = observations.iter().take(SHOWN).map(ToString::to_string).collect();
    if observations.len() > SHOWN {
        lines.push(format!("… and {} more in the timeline", observations.len() - SHOWN));
    }
    lines
}
