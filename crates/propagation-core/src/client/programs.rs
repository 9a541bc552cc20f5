//! The containers of a run, and the reports of their programs.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::{Clock, Reported, lock};
use crate::Signal;
use crate::error::{Error, ErrorKind};
use crate::observation::{Actor, Observation};
use crate::plan::WorkloadSpec;
use crate::program::ProgramState;
use crate::protocol::{Place, ProgramEvent};
use crate::report::time::{Wait, WaitedOn};

/// The containers of a run, and the reports of their programs.
#[derive(Debug)]
pub struct Programs {
    clock: Clock,
    containers_outlive_programs: bool,
    next: AtomicU32,
    state: Mutex<State>,
}

/// Where an actor looks from, and the specification of a workload.
pub type Found = (Place, Option<Arc<WorkloadSpec>>);

#[derive(Debug, Default)]
struct State {
    /// The current container of each workload.
    by_workload: HashMap<String, u32>,
    containers: HashMap<u32, Known>,
    /// Names of workloads that have been stopped.
    stopped: BTreeSet<String>,
    reports: Vec<Observation>,
    waits: Vec<Wait>,
}

#[derive(Debug)]
struct Known {
    spec: Arc<WorkloadSpec>,
    sender: watch::Sender<Reported>,
}

impl Known {
    fn runs(&self) -> bool {
        self.sender.borrow().status.program == ProgramState::Running
    }

    /// Its program has been ended from outside.
    fn end(&self) {
        self.sender.send_if_modified(|reported| {
            let program = &mut reported.status.program;
            let runs = *program == ProgramState::Running;
            if runs {
                *program = ProgramState::Signaled { signal: Signal::SIGKILL };
            }
            runs
        });
    }
}

impl State {
    fn of(&self, name: &str) -> Option<(u32, &Known)> {
        let container = *self.by_workload.get(name)?;
        Some((container, self.containers.get(&container)?))
    }
}

impl Programs {
    /// An empty set. `containers_outlive_programs` says whether a container can be looked from after
    /// its program has ended.
    pub fn new(clock: Clock, containers_outlive_programs: bool) -> Self {
        let next = AtomicU32::new(0);
        Self { clock, containers_outlive_programs, next, state: Mutex::default() }
    }

    /// Clock of the reports.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Registers a container that is to start: returns its number and the receiver of its program's
    /// reports. Its workload keeps its current container until this one [stands](Self::stands).
    pub fn add(&self, spec: &WorkloadSpec) -> (u32, watch::Receiver<Reported>) {
        let container = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = watch::channel(Reported::default());
        let known = Known { spec: Arc::new(spec.clone()), sender };
        lock(&self.state).containers.insert(container, known);
        (container, receiver)
    }

    /// Makes a container the current one of its workload.
    pub fn stands(&self, container: u32) {
        let mut state = lock(&self.state);
        if let Some(known) = state.containers.get(&container) {
            let name = known.spec.name.clone();
            state.by_workload.insert(name, container);
        }
    }

    /// Forgets a container that was refused or has been removed, and notifies those that wait for it.
    pub fn forget(&self, container: u32) {
        let mut state = lock(&self.state);
        let Some(known) = state.containers.remove(&container) else { return };
        let name = &known.spec.name;
        if state.by_workload.get(name) == Some(&container) {
            state.by_workload.remove(name);
            state.stopped.insert(name.clone());
        }
        known.end();
    }

    /// Marks every program as ended.
    pub fn end_all(&self) {
        lock(&self.state).containers.values().for_each(Known::end);
    }

    /// Changes the state of a container's program by other means than the program's own reports.
    pub fn update(&self, container: u32, change: impl FnOnce(&mut Reported)) {
        if let Some(known) = lock(&self.state).containers.get(&container) {
            known.sender.send_modify(change);
        }
    }

    /// Takes a report of a container's program. Does not block.
    pub fn take(&self, container: u32, event: ProgramEvent) {
        let mut state = lock(&self.state);
        let Some(known) = state.containers.get(&container) else { return };
        let mut report = None;
        known.sender.send_modify(|reported| {
            report = reported.take(&known.spec.name, event, &self.clock);
        });
        state.reports.extend(report);
    }

    /// As [`Node::take_reports`](crate::Node::take_reports).
    pub fn take_reports(&self) -> Vec<Observation> {
        let mut reports = std::mem::take(&mut lock(&self.state).reports);
        reports.sort_by_key(|observation| observation.at_us);
        reports
    }

    /// Remembers a time in which the run could only wait for another program, in microseconds of the
    /// run.
    pub fn waited(&self, on: WaitedOn, subject: &str, started_us: u64, ended_us: u64) {
        let subject = subject.to_owned();
        lock(&self.state).waits.push(Wait { on, subject, started_us, ended_us });
    }

    /// As [`Node::take_waits`](crate::Node::take_waits).
    pub fn take_waits(&self) -> Vec<Wait> {
        std::mem::take(&mut lock(&self.state).waits)
    }

    /// Whether the program of a container runs.
    pub fn runs(&self, container: u32) -> bool {
        lock(&self.state).containers.get(&container).is_some_and(Known::runs)
    }

    /// Checks that every name is free and occurs once: two workloads of one name could not be told apart. The name
    /// of a workload whose program has ended is free.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for the first name that is not.
    pub fn check_names(&self, specs: &[WorkloadSpec]) -> Result<(), Error> {
        let state = lock(&self.state);
        for (number, spec) in specs.iter().enumerate() {
            let again = specs[..number].iter().any(|before| before.name == spec.name);
            if again || state.of(&spec.name).is_some_and(|(_, known)| known.runs()) {
                let subject = format!("start the workload {:?}", spec.name);
                return Err(Error::new(ErrorKind::InvalidInput, subject, "its name is in use")
                    .with_fix("stop the other one first, or use another name"));
            }
        }
        Ok(())
    }

    /// Where an actor looks from; `None` for a workload that is gone.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the actor is unknown.
    pub fn find(&self, actor: &Actor) -> Result<Option<Found>, Error> {
        let (name, replica) = match actor {
            Actor::Node => return Ok(Some((Place::Node, None))),
            Actor::Runtime => return Ok(Some((Place::Runtime, None))),
            Actor::Workload { name, replica } => (name, *replica),
            Actor::HeldDescriptor { .. } => return Err(unknown(actor)),
        };
        let state = lock(&self.state);
        match state.of(name) {
            Some((_, known)) if !self.containers_outlive_programs && !known.runs() => Ok(None),
            Some((container, known)) if replica < known.spec.replicas => {
                let place = Place::Container(container, replica);
                Ok(Some((place, Some(Arc::clone(&known.spec)))))
            }
            None if state.stopped.contains(name) => Ok(None),
            _ => Err(unknown(actor)),
        }
    }

    /// Where an actor looks from, as [`find`](Self::find), for an actor that must be there.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when it is unknown or gone.
    pub fn place(&self, actor: &Actor) -> Result<Found, Error> {
        self.find(actor)?.ok_or_else(|| unknown(actor))
    }
}

fn unknown(actor: &Actor) -> Error {
    let operation = format!("look from {actor}");
    Error::new(ErrorKind::InvalidInput, operation, "unknown actor on this node")
}
