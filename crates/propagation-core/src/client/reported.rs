//! Reports of a workload's programs, and waiting for them.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use super::{Clock, Lines};
use crate::error::{Error, ErrorKind};
use crate::observation::{Access, Actor, Observation, Via};
use crate::program::ProgramState;
use crate::protocol::{ProgramEvent, Seen};
use crate::workload::{Until, WorkloadStatus};

/// Reports of a workload's programs so far.
#[derive(Debug, Clone, Default)]
pub struct Reported {
    /// Status of the workload.
    pub status: WorkloadStatus,
    /// Replicas that have been told what to do, where they arrive one by one.
    pub arrived: BTreeMap<u32, Arrival>,
    /// Lines that its program has logged.
    pub log: Lines,
}

/// When the program of a container arrived, in microseconds since the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The container got a process.
    pub process_us: u64,
    /// Its program has announced itself.
    pub came_us: u64,
}

impl Reported {
    /// Forgets the reports: the program starts anew. Its log goes on.
    pub fn begin_again(&mut self) {
        let log = std::mem::take(&mut self.log);
        let program = self.status.program.clone();
        *self = Self { log, ..Self::default() };
        self.status.program = program;
    }

    /// Takes a report of the workload `name`; returns an observation where the program saw something.
    pub(super) fn take(
        &mut self,
        name: &str,
        event: ProgramEvent,
        clock: &Clock,
    ) -> Option<Observation> {
        let status = &mut self.status;
        match event {
            ProgramEvent::Mounted { at_ns } => status.mounted_at_us = Some(clock.micros(at_ns)),
            ProgramEvent::Failed { text } => status.failure = Some(text),
            ProgramEvent::Saw { seen } => {
                let made = observation(clock, Actor::workload(name), Via::Watch, seen);
                status.seen = Some(made.clone());
                return Some(made);
            }
            ProgramEvent::Held { seen } => {
                status.held = Some(seen.outcome.clone());
                let actor = Actor::HeldDescriptor { name: name.into() };
                let made = observation(clock, actor, Via::Watch, seen);
                return Some(Observation { access: Access::Held, ..made });
            }
            ProgramEvent::DaemonEnded { .. } => status.mounted_at_us = None,
            // These two are for the node alone.
            ProgramEvent::Obeyed { .. } | ProgramEvent::Kept { .. } => {}
            ProgramEvent::Log { line } => self.log.push(line),
            ProgramEvent::Ended { state } => status.program = state,
        }
        None
    }
}

/// An observation from what the agent read; it belongs to no step.
pub(super) fn observation(clock: &Clock, actor: Actor, via: Via, seen: Seen) -> Observation {
    Observation {
        actor,
        step: String::new(),
        at_us: clock.micros(seen.at_ns),
        took_us: seen.took_ns / 1_000,
        uid: seen.uid,
        via,
        access: Access::Read,
        outcome: seen.outcome,
        generation: seen.generation,
        mount: seen.mount,
    }
}

/// Waits as [`Workload::wait`](crate::Workload::wait) does, for the workload `name` whose reports come through
/// `events`. When no more reports can come, the last one stands.
///
/// # Errors
/// [`ErrorKind::Timeout`] after `deadline`, with what was seen last; [`ErrorKind::Environment`] when a program that
/// was to look could not go on.
pub async fn wait(
    mut events: watch::Receiver<Reported>,
    name: &str,
    until: Until,
    deadline: Duration,
) -> Result<WorkloadStatus, Error> {
    let met = events.wait_for(|Reported { status, .. }| {
        // Under a supervisor a program goes on that could not mount.
        let failed = until == Until::Mounted && status.failure.is_some();
        failed || until.is_met_by(status) || status.program != ProgramState::Running
    });
    let met = async { met.await.map(|reported| reported.status.clone()).ok() };
    let met = tokio::time::timeout(deadline, met).await;
    let last = events.borrow().status.clone();
    match met {
        Ok(met) => {
            let status = met.unwrap_or(last);
            let ended = matches!(status.program, ProgramState::Exited { .. });
            match &status.failure {
                // A program of this tool that could not do its work has seen nothing, which says nothing
                // about the mount.
                Some(text) if ended && until != Until::Mounted && !until.is_met_by(&status) => {
                    let operation = format!("wait for {until} of {name}");
                    let reason = format!("its program {}: {text}", status.program);
                    Err(Error::new(ErrorKind::Environment, operation, reason))
                }
                _ => Ok(status),
            }
        }
        Err(_) => {
            let seen = match last.seen {
                Some(seen) => format!("last seen {}", seen.outcome),
                None => "nothing seen".into(),
            };
            let reason = format!(
                "not in {} ms; {seen}; its program is {}",
                deadline.as_millis(),
                last.program
            );
            let operation = format!("wait for {until} of {name}");
            Err(Error::new(ErrorKind::Timeout, operation, reason))
        }
    }
}
