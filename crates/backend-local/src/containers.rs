//! The containers of a node and what their programs have reported, on the clock of the run.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use propagation_core::observation::{Access, Actor, Observation, Outcome, Via};
use propagation_core::plan::VolumePaths;
use propagation_core::program::ProgramState;
use propagation_core::protocol::{ProgramEvent, Seen};
use tokio::sync::watch;

use crate::shared::lock;
use crate::workload::Reported;

/// From the agent's clock to microseconds of the run. Both are CLOCK_MONOTONIC of one kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    zero_ns: u64,
}

impl Clock {
    pub(crate) fn starting_at(started: Instant) -> Self {
        let since = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Self { zero_ns: Self::monotonic_ns().saturating_sub(since) }
    }

    fn monotonic_ns() -> u64 {
        clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map(Duration::from)
            .map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(crate) fn micros(self, at_ns: u64) -> u64 {
        at_ns.saturating_sub(self.zero_ns) / 1_000
    }

    pub(crate) fn now_us(self) -> u64 {
        self.micros(Self::monotonic_ns())
    }

    /// What an actor sees that has no such path.
    pub(crate) fn nothing_there(self, uid: u32) -> Seen {
        let reason = "the bridge is not in this workload's volume".into();
        Seen {
            uid,
            at_ns: Self::monotonic_ns(),
            took_ns: 0,
            outcome: Outcome::Skipped { reason },
            generation: None,
            mount: None,
        }
    }

    /// An observation from what the agent has seen.
    pub(crate) fn observation(self, actor: Actor, via: Via, step: &str, seen: Seen) -> Observation {
        Observation {
            actor,
            step: step.into(),
            at_us: self.micros(seen.at_ns),
            took_us: seen.took_ns / 1_000,
            uid: seen.uid,
            via,
            access: Access::Read,
            outcome: seen.outcome,
            generation: seen.generation,
            mount: seen.mount,
        }
    }
}

/// The containers that have been started, and what their programs have reported.
#[derive(Debug)]
pub(crate) struct Containers {
    pub(crate) clock: Clock,
    pub(crate) state: Mutex<ContainersState>,
}

#[derive(Debug, Default)]
pub(crate) struct ContainersState {
    pub(crate) by_workload: HashMap<String, (u32, VolumePaths)>,
    pub(crate) reported: HashMap<u32, (String, watch::Sender<Reported>)>,
    pub(crate) reports: Vec<Observation>,
    /// Names of workloads that have been stopped.
    pub(crate) stopped: HashSet<String>,
}

impl ContainersState {
    /// Whether a workload of this name runs. One whose program has ended gives its name free.
    pub(crate) fn runs(&self, name: &str) -> bool {
        let known = self.by_workload.get(name).and_then(|(id, _)| self.reported.get(id));
        known.is_some_and(|(_, sender)| sender.borrow().program == ProgramState::Running)
    }
}

impl Containers {
    pub(crate) fn lock(&self) -> MutexGuard<'_, ContainersState> {
        lock(&self.state)
    }

    /// The agent has ended, and every program with it.
    pub(crate) fn end_all(&self) {
        for (_, sender) in self.lock().reported.values() {
            sender.send_if_modified(|reported| {
                let runs = reported.program == ProgramState::Running;
                if runs {
                    reported.program = ProgramState::Signaled { signal: "SIGKILL".into() };
                }
                runs
            });
        }
    }

    /// Takes what a program reports. Runs in the task that reads from the agent.
    pub(crate) fn take(&self, id: u32, event: ProgramEvent) {
        let mut state = self.lock();
        let Some((name, sender)) = state.reported.get(&id) else { return };
        let actor = Actor::workload(name.clone());
        let held = Actor::HeldDescriptor { name: name.clone() };
        let clock = self.clock;
        let mut report = None;
        sender.send_modify(|reported| match event {
            ProgramEvent::Mounted { at_ns } => reported.mounted_at_us = Some(clock.micros(at_ns)),
            ProgramEvent::Failed { text } => reported.failure = Some(text),
            ProgramEvent::Saw { seen } => {
                let observation = clock.observation(actor, Via::Watch, "", seen);
                report = Some(observation.clone());
                reported.seen = Some(observation);
            }
            ProgramEvent::Held { seen } => {
                reported.held = Some(seen.outcome.clone());
                let made = clock.observation(held, Via::Watch, "", seen);
                report = Some(Observation { access: Access::Held, ..made });
            }
            ProgramEvent::DaemonEnded { .. } => reported.mounted_at_us = None,
            // These two are for the node alone.
            ProgramEvent::Obeyed { .. } | ProgramEvent::Kept { .. } => {}
            ProgramEvent::Log { line } => reported.log.push(line),
            ProgramEvent::Ended { state } => reported.program = state,
        });
        state.reports.extend(report);
    }
}
