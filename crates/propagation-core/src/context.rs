//! What a phase works with: the plan, the node, and everything recorded so far.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::backend::Capabilities;
use crate::error::Error;
use crate::event::{Event, EventSink};
use crate::facts::HostFacts;
use crate::journal::{HostChange, Journal};
use crate::marker::Marker;
use crate::mountinfo::{MountGraph, MountPath, MountTable};
use crate::node::{Node, Probe, Target};
use crate::observation::{Access, Actor, Observation};
use crate::phase::Phase;
use crate::plan::{Plan, WorkloadSpec};
use crate::program::StartRefused;
use crate::report::{
    ActorTable, Capture, Check, Measurements, PhaseReport, Status, Usage, WorkloadLog,
};
use crate::run_id::random_hex;
use crate::workload::Workload;

/// The state of a run, handed from phase to phase.
pub struct RunContext<'a> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// Where.
    pub node: &'a dyn Node,
    /// Facts of the node, once `host_setup` has read them.
    pub facts: Option<HostFacts>,
    /// What has been measured.
    pub measurements: Measurements,
    /// The mount graph, once it has been captured.
    pub mount_graph: Option<MountGraph>,
    /// When the fault happened, in microseconds of the run.
    pub fault_at_us: Option<u64>,
    started: Instant,
    events: EventSink,
    journal: Journal,
    workloads: Vec<Arc<dyn Workload>>,
    marker: Option<Marker>,
    phases: Vec<PhaseReport>,
    open_phase: bool,
    timeline: Vec<Observation>,
    could_read: BTreeSet<Actor>,
    captures: Vec<Capture>,
    /// Why the last start of a workload was refused; none once it has started.
    refusals: BTreeMap<String, StartRefused>,
    /// Why a producer could not mount when it was started last.
    mount_failures: BTreeMap<String, String>,
    /// Workloads that could not start or mount since this was asked last, and why.
    failures: Vec<(String, String)>,
    /// Actors of which a held descriptor has been opened.
    holding: BTreeSet<Actor>,
    /// Why the rest of a scenario makes no sense.
    gave_up: Option<String>,
}

impl std::fmt::Debug for RunContext<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RunContext").field("phases", &self.phases).finish_non_exhaustive()
    }
}

/// What is left of a context when the phases are over.
pub(crate) struct Recorded {
    pub(crate) phases: Vec<PhaseReport>,
    pub(crate) measurements: Measurements,
    pub(crate) timeline: Vec<Observation>,
    pub(crate) mount_graph: Option<MountGraph>,
    pub(crate) captures: Vec<Capture>,
    pub(crate) facts: Option<HostFacts>,
    pub(crate) logs: Vec<WorkloadLog>,
    pub(crate) journal: Journal,
    pub(crate) workloads: Vec<Arc<dyn Workload>>,
}

impl<'a> RunContext<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        node: &'a dyn Node,
        started: Instant,
        events: EventSink,
    ) -> Self {
        Self {
            plan,
            node,
            facts: None,
            measurements: Measurements::default(),
            mount_graph: None,
            fault_at_us: None,
            started,
            events,
            journal: Journal::default(),
            workloads: Vec::new(),
            marker: None,
            phases: Vec::new(),
            open_phase: false,
            timeline: Vec::new(),
            could_read: BTreeSet::new(),
            captures: Vec::new(),
            refusals: BTreeMap::new(),
            mount_failures: BTreeMap::new(),
            failures: Vec::new(),
            holding: BTreeSet::new(),
            gave_up: None,
        }
    }

    /// What the node can be asked to do.
    pub fn capabilities(&self) -> Capabilities {
        self.node.capabilities()
    }

    /// Records a check of the running phase.
    pub fn check(&mut self, check: Check) {
        if let Some(phase) = self.phases.last_mut() {
            (self.events)(&Event::Checked { phase: &phase.id, check: &check });
            phase.checks.push(check);
        }
    }

    /// The checks of the running phase so far.
    pub fn checks(&self) -> &[Check] {
        self.phases.last().map_or(&[], |phase| &phase.checks)
    }

    /// Makes a change to the host, written to the journal first, so that the end of the run takes
    /// it back. Call it only for what the facts say is not there.
    ///
    /// # Errors
    /// As [`Node::apply`].
    pub async fn change_host(&mut self, change: HostChange) -> Result<(), Error> {
        let entry = self.journal.intend(change.clone());
        let now = self.node.apply(&change).await?;
        self.journal.made(entry, now);
        Ok(())
    }

    /// Begins a new generation: a fresh nonce for the producer that starts next.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn next_generation(&mut self) -> Result<Marker, Error> {
        let generation = self.marker.as_ref().map_or(1, |marker| marker.generation + 1);
        let marker = Marker {
            started: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            generation,
            nonce: random_hex(16)?,
        };
        self.marker = Some(marker.clone());
        Ok(marker)
    }

    /// The marker that counts as fresh now.
    ///
    /// # Errors
    /// When no generation has begun: a phase that looks before any producer was started.
    pub fn marker(&self) -> Result<&Marker, Error> {
        self.marker.as_ref().ok_or_else(|| {
            Error::new(
                crate::ErrorKind::Internal,
                "look for the marker",
                "no producer has been started in this run",
            )
        })
    }

    /// Starts workloads and keeps those that started; returns the refusals.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start(
        &mut self,
        specs: &[WorkloadSpec],
    ) -> Result<Vec<(String, StartRefused)>, Error> {
        let marker = self.marker()?.clone();
        let results = self.node.start(specs, &marker).await?;
        let mut refusals = Vec::new();
        for (spec, result) in specs.iter().zip(results) {
            match result {
                Ok(workload) => {
                    self.note_start(&spec.name, None);
                    self.workloads.retain(|before| before.spec().name != spec.name);
                    self.workloads.push(workload);
                }
                Err(refusal) => {
                    self.note_start(&spec.name, Some(refusal.clone()));
                    refusals.push((spec.name.clone(), refusal));
                }
            }
        }
        Ok(refusals)
    }

    /// Notes how the last start of a workload came out.
    pub(crate) fn note_start(&mut self, name: &str, refused: Option<StartRefused>) {
        self.mount_failures.remove(name);
        self.holding.remove(&Actor::workload(name));
        if let Some(refusal) = &refused {
            self.failures.push((name.to_owned(), refusal.text.clone()));
        }
        match refused {
            Some(refusal) => self.refusals.insert(name.to_owned(), refusal),
            None => self.refusals.remove(name),
        };
    }

    /// Notes whether a producer that was started has mounted.
    pub(crate) fn note_mount(&mut self, name: &str, failure: Option<String>) {
        self.failures.extend(failure.clone().map(|words| (name.to_owned(), words)));
        match failure {
            Some(words) => self.mount_failures.insert(name.to_owned(), words),
            None => self.mount_failures.remove(name),
        };
    }

    /// Notes that a workload has been stopped: it can be started again under its name.
    pub(crate) fn note_stopped(&mut self, name: &str) {
        self.note_start(name, None);
        self.workloads.retain(|workload| workload.spec().name != name);
    }

    /// Takes what could not start or mount since this was asked last.
    pub(crate) fn take_failures(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.failures)
    }

    /// Why the last start of a workload was refused, if it was.
    pub fn refusal(&self, name: &str) -> Option<&StartRefused> {
        self.refusals.get(name)
    }

    /// Why a producer could not mount when it was started last, if it could not.
    pub fn mount_failure(&self, name: &str) -> Option<&str> {
        self.mount_failures.get(name).map(String::as_str)
    }

    /// Whether a workload has been started, and its last start was not refused.
    pub fn runs(&self, name: &str) -> bool {
        self.workload(name).is_some() && !self.refusals.contains_key(name)
    }

    /// Ends the scenario: the steps that follow are skipped, with this reason.
    pub(crate) fn give_up(&mut self, reason: String) {
        self.gave_up.get_or_insert(reason);
    }

    pub(crate) fn gave_up(&self) -> Option<&str> {
        self.gave_up.as_deref()
    }

    /// The started workload called `name`.
    pub fn workload(&self, name: &str) -> Option<Arc<dyn Workload>> {
        self.workloads.iter().find(|workload| workload.spec().name == name).cloned()
    }

    /// All started workloads.
    pub fn workloads(&self) -> &[Arc<dyn Workload>] {
        &self.workloads
    }

    /// All replicas of a started workload.
    pub fn actors_of(&self, spec: &WorkloadSpec) -> Vec<Actor> {
        (0..spec.replicas)
            .map(|replica| Actor::Workload { name: spec.name.clone(), replica })
            .collect()
    }

    /// Looks at the marker (or the plain file) from all actors, records what they saw, and returns
    /// it.
    ///
    /// # Errors
    /// As [`Node::observe`].
    pub async fn observe(
        &mut self,
        actors: &[Actor],
        target: Target,
        uids: &[u32],
    ) -> Result<Vec<Observation>, Error> {
        self.observe_by(Access::Read, actors, target, uids).await
    }

    /// As [`RunContext::observe`], by another access than reading.
    ///
    /// # Errors
    /// As [`Node::observe`].
    pub async fn observe_by(
        &mut self,
        access: Access,
        actors: &[Actor],
        target: Target,
        uids: &[u32],
    ) -> Result<Vec<Observation>, Error> {
        if actors.is_empty() {
            return Ok(Vec::new());
        }
        let probe = Probe {
            target,
            access,
            expect: self.marker()?.clone(),
            uids: uids.to_vec(),
            deadline: self.plan.probe_deadline(),
            step: self.phases.last().map_or_else(String::new, |phase| phase.id.clone()),
        };
        let seen = self.node.observe(actors, &probe).await?;
        for observation in &seen {
            if access == Access::Held && observation.outcome.is_ok() {
                self.holding.insert(observation.actor.clone());
            }
            self.record(observation.clone(), target);
        }
        Ok(seen)
    }

    /// Takes the mount tables of the node, of the runtime where it is apart, and of the first replica
    /// of every workload that runs; the runner does so at the end of every phase that has not.
    ///
    /// # Errors
    /// As [`Node::mount_tables`].
    pub async fn capture(&mut self) -> Result<&Capture, Error> {
        let step = self.phases.last().map_or_else(String::new, |phase| phase.id.clone());
        self.capture_as(step).await
    }

    /// As [`capture`](Self::capture), in the middle of a phase and under a name of its own.
    ///
    /// # Errors
    /// As [`Node::mount_tables`].
    pub async fn capture_as(&mut self, step: impl Into<String>) -> Result<&Capture, Error> {
        let mut actors = vec![Actor::Node];
        if self.plan.node.runtime.is_apart() {
            actors.push(Actor::Runtime);
        }
        actors.extend(self.workloads.iter().map(|w| Actor::workload(w.spec().name.clone())));
        let tables = self.node.mount_tables(&actors).await?;
        let tables = actors.into_iter().zip(tables);
        let tables =
            tables.filter_map(|(actor, table)| table.map(|table| ActorTable { actor, table }));
        let (at_us, usage) = (self.node.now_us(), Usage::default());
        let capture = Capture { step: step.into(), at_us, tables: tables.collect(), usage };
        // Of several of one name the last one counts.
        self.captures.retain(|before| before.step != capture.step);
        self.captures.push(capture);
        Ok(&self.captures[self.captures.len() - 1])
    }

    /// As [`RunContext::capture`], with what the node's processes are doing.
    pub(crate) async fn capture_with_usage(&mut self) -> Result<(), Error> {
        let usage = self.node.usage().await?;
        self.capture().await?;
        if let Some(capture) = self.captures.last_mut() {
            capture.usage = usage;
        }
        Ok(())
    }

    /// Whether the running phase has taken the mount tables already.
    pub(crate) fn has_captured(&self) -> bool {
        let step = self.phases.last().map(|phase| phase.id.as_str());
        self.captures.last().map(|capture| capture.step.as_str()) == step
    }

    /// Those whose mount tables were taken last.
    pub(crate) fn captured_actors(&self) -> Vec<Actor> {
        let tables = self.captures.last().map_or(&[][..], |capture| &capture.tables);
        tables.iter().map(|one| one.actor.clone()).collect()
    }

    /// The mount table of an actor as it was taken before the last time, and the last time.
    pub(crate) fn last_two_tables(
        &self,
        actor: &Actor,
    ) -> (Option<&MountTable>, Option<&MountTable>) {
        let mut newest_first = self.captures.iter().rev();
        let now = newest_first.next().and_then(|capture| capture.table(actor));
        (newest_first.next().and_then(|capture| capture.table(actor)), now)
    }

    /// The first mount table of an actor that was taken.
    pub(crate) fn first_table(&self, actor: &Actor) -> Option<&MountTable> {
        self.captures.iter().find_map(|capture| capture.table(actor))
    }

    /// Where the FUSE mount is or would be, as an actor has it.
    pub(crate) fn fuse_path_of(&self, actor: &Actor) -> MountPath {
        let bridge = &self.plan.bridge;
        let spec = match actor {
            Actor::Workload { name, .. } => self.plan.workload(name),
            _ => None,
        };
        spec.map_or_else(|| bridge.fuse_path(), |spec| spec.paths(bridge).fuse).as_str().into()
    }

    /// Whether the actor has read a fresh marker at some time: only then can it lose it.
    pub fn could_read(&self, actor: &Actor) -> bool {
        self.could_read.contains(actor)
    }

    /// Whether a descriptor has been opened from the actor and is kept.
    pub(crate) fn holds(&self, actor: &Actor) -> bool {
        self.holding.contains(actor)
    }

    /// Ends the run of a phase with what the node's workloads have reported by themselves.
    fn collect_reports(&mut self) {
        let step = self.phases.last().map_or_else(String::new, |phase| phase.id.clone());
        for mut observation in self.node.take_reports() {
            observation.step.clone_from(&step);
            self.record(observation, Target::Fuse);
        }
    }

    fn record(&mut self, observation: Observation, target: Target) {
        (self.events)(&Event::Observed(&observation));
        let reads = target == Target::Fuse && observation.access == Access::Read;
        if reads && observation.outcome.is_ok() && observation.uid == 0 {
            self.could_read.insert(observation.actor.clone());
        }
        self.timeline.push(observation);
    }

    pub(crate) fn has_passed(&self, id: &str) -> bool {
        self.phases.iter().any(|phase| phase.id == id && phase.status == Status::Passed)
    }

    pub(crate) fn skip_phase(&mut self, id: &str, reason: &str) {
        self.open(id, Status::Skipped, Some(reason.into()));
        self.close_phase(None);
    }

    pub(crate) fn begin_phase(&mut self, id: &str) {
        (self.events)(&Event::PhaseStarted { phase: id });
        self.open(id, Status::Passed, None);
    }

    fn open(&mut self, id: &str, status: Status, reason: Option<String>) {
        self.phases.push(PhaseReport {
            id: id.into(),
            status,
            started_ms: self.started.elapsed().as_secs_f64() * 1e3,
            duration_ms: 0.0,
            reason,
            checks: Vec::new(),
        });
        self.open_phase = true;
    }

    pub(crate) fn end_phase(&mut self, error: Option<Error>) {
        self.collect_reports();
        if let Some(phase) = self.phases.last_mut() {
            match error {
                Some(error) => {
                    phase.status = Status::Errored;
                    let fix = error.fix().map(|fix| format!(" ({fix})")).unwrap_or_default();
                    phase.reason = Some(format!("{error}{fix}"));
                }
                None => phase.status = Status::of(&phase.checks),
            }
        }
        self.close_phase(Some(self.started.elapsed().as_secs_f64() * 1e3));
    }

    /// Ends the phase that was given up in the middle, or else that of `phases` which would have
    /// come next: a run that was cut short has a phase that says so.
    pub(crate) fn cut_short(&mut self, phases: &[Box<dyn Phase>], reason: &str) {
        if !self.open_phase {
            let Some(next) = phases.get(self.phases.len()) else { return };
            self.begin_phase(next.id());
        }
        self.end_phase(Some(Error::new(crate::ErrorKind::Cancelled, "the phase", reason)));
    }

    fn close_phase(&mut self, now_ms: Option<f64>) {
        self.open_phase = false;
        if let Some(phase) = self.phases.last_mut() {
            phase.duration_ms = now_ms.map_or(0.0, |now| now - phase.started_ms);
            (self.events)(&Event::PhaseEnded(phase));
        }
    }

    pub(crate) async fn finish(mut self) -> Recorded {
        let mut logs = Vec::new();
        for workload in &self.workloads {
            // A log that cannot be read is not worth the run: the node's state says why.
            if let Ok(lines) = workload.log().await
                && !lines.is_empty()
            {
                logs.push(WorkloadLog { workload: workload.spec().name.clone(), lines });
            }
        }
        self.timeline.sort_by_key(|observation| observation.at_us);
        Recorded {
            phases: self.phases,
            measurements: self.measurements,
            timeline: self.timeline,
            mount_graph: self.mount_graph,
            captures: self.captures,
            facts: self.facts,
            logs,
            journal: self.journal,
            workloads: self.workloads,
        }
    }
}
