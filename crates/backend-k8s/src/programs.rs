//! The programs of a run and what they have reported, on the clock of the run.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use propagation_core::host::HostMessage;
use propagation_core::observation::{Access, Actor, Observation, Outcome, Via};
use propagation_core::plan::WorkloadSpec;
use propagation_core::program::ProgramState;
use propagation_core::protocol::{ProgramEvent, Seen};
use propagation_core::workload::WorkloadStatus;
use propagation_core::{Error, ErrorKind};
use tokio::sync::watch;

use crate::host::Clock;
use crate::shared::lock;

/// What the programs of a workload have reported so far.
#[derive(Debug, Clone)]
pub(crate) struct Reported {
    /// Replicas that have been told what to do.
    pub(crate) arrived: BTreeSet<u32>,
    pub(crate) program: ProgramState,
    mounted_at_us: Option<u64>,
    failure: Option<String>,
    seen: Option<Observation>,
    held: Option<Outcome>,
    pub(crate) log: Vec<String>,
}

impl Default for Reported {
    fn default() -> Self {
        Self {
            arrived: BTreeSet::new(),
            program: ProgramState::Running,
            mounted_at_us: None,
            failure: None,
            seen: None,
            held: None,
            log: Vec::new(),
        }
    }
}

impl Reported {
    pub(crate) fn status(&self) -> WorkloadStatus {
        WorkloadStatus {
            program: self.program.clone(),
            mounted_at_us: self.mounted_at_us,
            failure: self.failure.clone(),
            seen: self.seen.clone(),
            held: self.held.clone(),
        }
    }
}

#[derive(Debug)]
struct Known {
    spec: WorkloadSpec,
    sender: watch::Sender<Reported>,
}

#[derive(Debug, Default)]
struct State {
    /// The container that is a workload now.
    by_workload: HashMap<String, u32>,
    containers: HashMap<u32, Known>,
    /// Names of workloads that have been stopped.
    stopped: BTreeSet<String>,
    reports: Vec<Observation>,
}

/// All programs of a run.
#[derive(Debug)]
pub(crate) struct Programs {
    clock: Clock,
    next: AtomicU32,
    state: Mutex<State>,
}

impl Programs {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, next: AtomicU32::new(0), state: Mutex::default() }
    }

    /// A number for a workload that is to start, and where its programs' reports arrive.
    pub(crate) fn add(&self, spec: &WorkloadSpec) -> (u32, watch::Receiver<Reported>) {
        let container = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = watch::channel(Reported::default());
        let mut state = lock(&self.state);
        state.containers.insert(container, Known { spec: spec.clone(), sender });
        state.by_workload.insert(spec.name.clone(), container);
        (container, receiver)
    }

    /// Forgets a container that was refused or has been removed. Who waits for it learns it.
    pub(crate) fn forget(&self, container: u32) {
        let mut state = lock(&self.state);
        let Some(known) = state.containers.remove(&container) else { return };
        let name = known.spec.name.clone();
        if state.by_workload.get(&name) == Some(&container) {
            state.by_workload.remove(&name);
            state.stopped.insert(name);
        }
        end(&known.sender);
    }

    /// Forgets what the programs of a container reported: they start anew.
    pub(crate) fn begin_again(&self, container: u32) {
        if let Some(known) = lock(&self.state).containers.get(&container) {
            known.sender.send_modify(|reported| {
                let log = std::mem::take(&mut reported.log);
                *reported =
                    Reported { log, program: reported.program.clone(), ..Reported::default() };
            });
        }
    }

    /// Adds a line to the log of a workload that its program did not write.
    pub(crate) fn note(&self, container: u32, line: &str) {
        if let Some(known) = lock(&self.state).containers.get(&container) {
            known.sender.send_modify(|reported| reported.log.push(format!("[run] {line}")));
        }
    }

    /// Nothing runs any more.
    pub(crate) fn end_all(&self) {
        lock(&self.state).containers.values().for_each(|known| end(&known.sender));
    }

    /// The container of a workload whose program runs, or that has no program.
    pub(crate) fn running(&self, name: &str) -> Option<(u32, WorkloadSpec)> {
        let state = lock(&self.state);
        let container = *state.by_workload.get(name)?;
        let known = state.containers.get(&container)?;
        let runs = known.sender.borrow().program == ProgramState::Running;
        runs.then(|| (container, known.spec.clone()))
    }

    /// Whether the program of a container runs.
    pub(crate) fn runs(&self, container: u32) -> bool {
        let state = lock(&self.state);
        let known = state.containers.get(&container);
        known.is_some_and(|known| known.sender.borrow().program == ProgramState::Running)
    }

    /// Whether there is or was a workload of this name.
    pub(crate) fn knows(&self, name: &str) -> bool {
        let state = lock(&self.state);
        state.by_workload.contains_key(name) || state.stopped.contains(name)
    }

    /// Every name is free and there once: two workloads of one name could not be told apart.
    pub(crate) fn check_names(&self, specs: &[WorkloadSpec]) -> Result<(), Error> {
        for (number, spec) in specs.iter().enumerate() {
            let again = specs[..number].iter().any(|before| before.name == spec.name);
            if again || self.running(&spec.name).is_some() {
                let subject = format!("start the workload {:?}", spec.name);
                return Err(Error::new(ErrorKind::InvalidInput, subject, "its name is in use")
                    .with_fix("stop the other one first, or use another name"));
            }
        }
        Ok(())
    }

    /// What programs have reported since the last call.
    pub(crate) fn take_reports(&self) -> Vec<Observation> {
        let mut reports = std::mem::take(&mut lock(&self.state).reports);
        reports.sort_by_key(|observation| observation.at_us);
        reports
    }

    /// An observation from what the agent has seen.
    pub(crate) fn observation(
        &self,
        actor: Actor,
        via: Via,
        step: &str,
        seen: Seen,
    ) -> Observation {
        Observation {
            actor,
            step: step.into(),
            at_us: self.clock.micros(seen.at_ns),
            took_us: seen.took_ns / 1_000,
            uid: seen.uid,
            via,
            access: Access::Read,
            outcome: seen.outcome,
            generation: seen.generation,
            mount: seen.mount,
        }
    }

    /// Takes what the host agent tells. Runs in the task that reads from it.
    pub(crate) fn take(&self, message: HostMessage) {
        let mut state = lock(&self.state);
        match message {
            HostMessage::Answer { .. } => {}
            HostMessage::Arrived { program, .. } => {
                let Some(known) = state.containers.get(&program.container) else { return };
                known.sender.send_modify(|reported| {
                    reported.arrived.insert(program.replica);
                    reported.program = ProgramState::Running;
                });
            }
            HostMessage::Event { program, event } => {
                // Replicas but the first are mount views only.
                if program.replica > 0 {
                    return;
                }
                let Some(known) = state.containers.get(&program.container) else { return };
                let report = self.reported(known, event);
                state.reports.extend(report);
            }
        }
    }

    fn reported(&self, known: &Known, event: ProgramEvent) -> Option<Observation> {
        let name = &known.spec.name;
        let mut report = None;
        known.sender.send_modify(|reported| match event {
            ProgramEvent::Mounted { at_ns } => {
                reported.mounted_at_us = Some(self.clock.micros(at_ns));
            }
            ProgramEvent::Failed { text } => reported.failure = Some(text),
            ProgramEvent::Saw { seen } => {
                let actor = Actor::workload(name.clone());
                let observation = self.observation(actor, Via::Watch, "", seen);
                report = Some(observation.clone());
                reported.seen = Some(observation);
            }
            ProgramEvent::Held { seen } => {
                reported.held = Some(seen.outcome.clone());
                let actor = Actor::HeldDescriptor { name: name.clone() };
                report = Some(self.observation(actor, Via::Watch, "", seen));
            }
            ProgramEvent::Log { line } => reported.log.push(line),
            ProgramEvent::Ended { state } => reported.program = state,
            // Of supervisors and keepers, which pods do not have.
            ProgramEvent::DaemonEnded { .. }
            | ProgramEvent::Obeyed { .. }
            | ProgramEvent::Kept { .. } => {}
        });
        report
    }
}

/// A program that has been ended from outside.
fn end(sender: &watch::Sender<Reported>) {
    sender.send_if_modified(|reported| {
        let runs = reported.program == ProgramState::Running;
        if runs {
            reported.program = ProgramState::Signaled { signal: "SIGKILL".into() };
        }
        runs
    });
}
