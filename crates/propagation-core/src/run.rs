//! The entry: [`Runner::run`] takes a plan and a backend to a report.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, refusal};
use crate::comparison::Transport;
use crate::context::{self, RunContext};
use crate::decide;
use crate::diagnosis;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, EventSink};
use crate::experiments::{self, Budget, Lab};
use crate::journal::Journal;
use crate::kernel::Version;
use crate::node::Node;
use crate::phase::Phase;
use crate::plan::{Plan, Role};
use crate::report::{Cleanup, Report, Status};
use crate::run_id::{Run, RunId};
use crate::step;
use crate::workload::Workload;

/// Runs a plan on a backend.
///
/// ```
/// # #[cfg(feature = "fake")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), propagation_core::Error> {
/// use propagation_core::{fake::FakeBackend, Plan, Runner};
///
/// let report = Runner::new(Plan::default())?.run(&FakeBackend::default()).await?;
/// assert_eq!(report.verdict.outcome().as_str(), "full_success");
/// # Ok(()) }
/// # #[cfg(not(feature = "fake"))] fn main() {}
/// ```
pub struct Runner {
    plan: Plan,
    phases: Vec<Box<dyn Phase>>,
    run_id: RunId,
    events: EventSink,
    cancellation: CancellationToken,
    hurry: CancellationToken,
    keep: bool,
    secrets: bool,
    files_by_handle: bool,
    /// Whether the plan's own steps are run.
    own_steps: bool,
    lab: Option<Lab>,
    /// Whether only observations matter: no causes are found, and the node is closed at once.
    bare: bool,
}

impl fmt::Debug for Runner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Runner").field("run_id", &self.run_id).finish_non_exhaustive()
    }
}

impl Runner {
    /// A runner of a plan's steps; they are the five phases by default.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the plan cannot be run.
    pub fn new(plan: Plan) -> Result<Self, Error> {
        plan.validate()?;
        Ok(Self {
            phases: step::phases(&plan),
            plan,
            run_id: RunId::generate()?,
            events: Arc::new(|_| {}),
            cancellation: CancellationToken::new(),
            hurry: CancellationToken::new(),
            keep: false,
            secrets: false,
            files_by_handle: false,
            own_steps: true,
            lab: None,
            bare: false,
        })
    }

    /// Runs these phases instead of the plan's steps, in this order.
    #[must_use]
    pub fn with_phases(mut self, phases: Vec<Box<dyn Phase>>) -> Self {
        self.phases = phases;
        self.own_steps = false;
        self
    }

    /// Uses a run id that the caller chose.
    #[must_use]
    pub fn with_run_id(mut self, run_id: RunId) -> Self {
        self.run_id = run_id;
        self
    }

    /// Sends the events to this sink.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use propagation_core::prelude::*;
    /// use propagation_core::Event;
    ///
    /// let runner = Runner::new(Plan::default())?.with_events(Arc::new(|event: &Event<'_>| {
    ///     if let Event::PhaseEnded(phase) = event {
    ///         println!("{}: {}", phase.id, phase.status.as_str());
    ///     }
    /// }));
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn with_events(mut self, events: EventSink) -> Self {
        self.events = events;
        self
    }

    /// Ends the run early when this token is cancelled: the running phase is given up, everything is
    /// cleaned up, and the verdict is `inconclusive`.
    #[must_use]
    pub fn with_cancellation(mut self, cancellation: CancellationToken) -> Self {
        self.cancellation = cancellation;
        self
    }

    /// Does not wait for the end of the clean-up any more when this token is cancelled: the report is there at
    /// once, and says that something may be left.
    #[must_use]
    pub fn with_hurry(mut self, hurry: CancellationToken) -> Self {
        self.hurry = hurry;
        self
    }

    /// Leaves everything standing at the end, for a person to look at; the report says how to
    /// remove it.
    #[must_use]
    pub fn with_keep(mut self, keep: bool) -> Self {
        self.keep = keep;
        self
    }

    /// Whether the plan in the report keeps the values of variables for FUSE programs, which may be
    /// secret; by default it keeps their names only.
    #[must_use]
    pub fn with_secrets(mut self, secrets: bool) -> Self {
        self.secrets = secrets;
        self
    }

    /// Allows servers of the plan's transports to open files by their handles, as nfs-ganesha has to: where containers have
    /// the machine's rights, these are all files of the machine. Without it a plan with a transport of NFS is
    /// not run.
    #[must_use]
    pub fn with_files_by_handle(mut self, allowed: bool) -> Self {
        self.files_by_handle = allowed;
        self
    }

    /// Lets the runner try single changes on simulated nodes of `bench`, within the budget, when the run
    /// does not come out as it should. What they show is in [`Report::experiments`], decides the order of
    /// causes, and makes the [`Report::advice`].
    ///
    /// ```
    /// # #[cfg(feature = "fake")]
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), propagation_core::Error> {
    /// use std::sync::Arc;
    /// use propagation_core::experiments::Budget;
    /// use propagation_core::plan::{Role, Volume};
    /// use propagation_core::{fake::FakeBackend, Plan, Runner};
    ///
    /// let mut plan = Plan::default();
    /// for workload in plan.workloads.iter_mut().filter(|workload| workload.role == Role::Consumer) {
    ///     workload.volume = Volume::Mountpoint;
    /// }
    /// let bench = Arc::new(FakeBackend::default());
    /// let runner = Runner::new(plan)?.with_experiments(bench.clone(), Budget::all());
    /// let report = runner.run(&*bench).await?;
    /// assert!(report.advice.unwrap().head.starts_with("Change `volume` of consumer-early, consumer-late"));
    /// # Ok(()) }
    /// # #[cfg(not(feature = "fake"))] fn main() {}
    /// ```
    #[must_use]
    pub fn with_experiments(mut self, bench: Arc<dyn Backend>, budget: Budget) -> Self {
        self.lab = Some(Lab::On(bench, budget));
        self
    }

    /// Says in the report why nothing could be tried, when the run does not come out as it should.
    #[must_use]
    pub fn without_bench(mut self, reason: impl Into<String>) -> Self {
        self.lab = Some(Lab::Missing(reason.into()));
        self
    }

    /// Keeps only observations: no causes are found, and the node is closed at once.
    #[must_use]
    pub(crate) fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// The id of the run.
    pub fn run_id(&self) -> &RunId {
        &self.run_id
    }

    /// Opens a node, runs the phases in order, decides, cleans up.
    ///
    /// A phase whose prerequisites did not pass is skipped. The node is closed whatever happens;
    /// dropping the future instead leaves closing to the node's own best effort.
    ///
    /// # Errors
    /// When no node can be opened, or the run is cancelled before there is one. A phase that
    /// fails, errors or is cut short is part of the report.
    pub fn run(self, backend: &dyn Backend) -> BoxFuture<'_, Result<Report, Error>> {
        // Boxed: what it calls is compiled in this crate, and not again in each that polls it.
        Box::pin(self.carry_out(backend))
    }

    async fn carry_out(self, backend: &dyn Backend) -> Result<Report, Error> {
        let Self {
            mut plan,
            phases,
            run_id,
            events,
            cancellation,
            hurry,
            keep,
            secrets,
            files_by_handle,
            own_steps,
            lab,
            bare,
        } = self;
        let started = Instant::now();
        let run = Run { id: run_id.clone(), started, keep, files_by_handle };
        let started_at = jiff::Timestamp::now();
        let limit = Duration::from_millis(plan.deadlines.run_ms);
        if let Some(reason) = refusal(backend, &plan) {
            let operation = format!("run this plan on the backend {}", backend.name());
            return Err(Error::new(ErrorKind::Unsupported, operation, reason)
                .with_fix("use another backend, or leave out what is named"));
        }
        let by_handle = |spec| plan.fuse_of(spec).transport.filter(|one| one.is_nfs());
        let nfs = plan.with_role(Role::Producer).find_map(by_handle);
        if let Some(transport) = nfs.filter(|_| !files_by_handle) {
            let reason = format!(
                "the server of {transport} opens files by their handles, and so may reach every file of the machine; a \
                 file does not allow that"
            );
            let operation = format!("run this plan on the backend {}", backend.name());
            return Err(Error::new(ErrorKind::Unsupported, operation, reason)
                .with_fix(
                    "allow it where the run is started, with `Runner::with_files_by_handle`, which Python has not; or use \
                     another transport",
                ));
        }
        let node = tokio::select! {
            biased;
            () = cancellation.cancelled() => return Err(cancelled()),
            () = tokio::time::sleep(limit) => return Err(too_late(limit)),
            node = backend.open(&plan, &run) => node?,
        };
        let resolved = node.resolved();
        plan.resolve(&resolved);
        events(&Event::NodeReady { backend: backend.name(), node: node.name() });

        let kernel = match kernel_of(&plan, &*node).await {
            Ok(kernel) => kernel,
            Err(error) => return Err(with_what_is_left(error, node.close().await)),
        };
        let mut context = RunContext::new(&plan, &*node, started, events.clone());
        context.kernel = kernel;
        let cut_short = tokio::select! {
            biased;
            () = cancellation.cancelled() => Some("it was interrupted".to_owned()),
            () = tokio::time::sleep(limit.saturating_sub(started.elapsed())) => {
                Some(format!("it took longer than {} s", limit.as_secs_f64()))
            }
            () = run_phases(&phases, &mut context) => None,
        };
        if let Some(reason) = &cut_short {
            let ids: Vec<&str> = phases.iter().map(|phase| phase.id()).collect();
            context.cut_short(&ids, reason);
        }
        let mut done = context.finish().await;
        done.measurements.waits = node.take_waits();

        let answers = decide::asks_for_an_answer(phases.iter().map(|phase| phase.id()));
        let mut report = Report::new(plan, run_id.as_str(), backend.name(), node.name());
        report.cluster = node.cluster();
        report.resolved = resolved;
        report.started_at = started_at.to_string();
        report.phases = done.phases;
        report.measurements = done.measurements;
        report.timeline = done.timeline;
        report.acts = done.acts;
        report.captures = done.captures;
        report.environment = done.facts;
        report.failures = done.failures;
        report.logs = done.logs;
        report.cut_short = cut_short;
        if !bare {
            report.diagnosis = diagnosis::explain(&report);
        }
        report.verdict = decide::decide(&report, answers);
        report.duration_ms = started.elapsed().as_secs_f64() * 1e3;
        if let Some(lab) = lab.filter(|_| own_steps) {
            try_changes(&mut report, lab, &cancellation).await;
            report.verdict = decide::decide(&report, answers);
        }
        if !secrets {
            report.plan = report.plan.without_secrets();
        }
        events(&Event::Decided(&report));
        let served = report.plan.served_by();
        let servers_last = served.is_some_and(Transport::is_mounted_by_the_kernel);
        let cleaning = async {
            match keep || bare {
                true => node.close().await,
                false => clean_up(&*node, &done.workloads, done.journal, servers_last).await,
            }
        };
        report.cleanup = tokio::select! {
            biased;
            cleanup = cleaning => cleanup,
            () = hurry.cancelled() => not_waited_for(&run_id),
        };
        events(&Event::Cleaned(&report.cleanup));
        Ok(report)
    }
}

/// Adds what the node has left to the error of a plan that is not run: such a plan has no report.
fn with_what_is_left(error: Error, closed: Cleanup) -> Error {
    if closed.could_not.is_empty() && closed.kept.is_empty() {
        return error;
    }
    let kind = match closed.could_not.is_empty() {
        true => error.kind(),
        false => ErrorKind::Environment,
    };
    let could_not = closed.could_not.iter().map(|line| format!("could not {line}"));
    let left = could_not.chain(closed.kept.iter().map(|line| format!("kept: {line}")));
    let reason = format!("{}; {}", error.reason(), left.collect::<Vec<_>>().join("; "));
    Error::new(kind, "run this plan", reason)
}

/// A clean-up whose end nobody has waited for.
fn not_waited_for(run_id: &RunId) -> Cleanup {
    let words = format!(
        "wait for the end of the clean-up: it was interrupted; what it has left a later clean-up of run {run_id} \
         removes"
    );
    Cleanup::failed(words)
}

/// Tries single changes where a run did not come out as it should.
async fn try_changes(report: &mut Report, lab: Lab, cancellation: &CancellationToken) {
    let status = report.verdict.outcome().status();
    let always = matches!(&lab, Lab::On(_, budget) if budget.always);
    let wanted = match status {
        Status::Failed => true,
        // Of a run that came to no answer the set-up may be the reason; what was cut short shows nothing.
        Status::Errored => report.cut_short.is_none(),
        Status::Passed => always && experiments::anybody_is_wrong(report),
        Status::Skipped => false,
    };
    let errored = report.phases.iter().any(|phase| phase.status == Status::Errored);
    if !wanted || errored || cancellation.is_cancelled() {
        return;
    }
    let started = Instant::now();
    let lab = match report.plan.served_by() {
        Some(_) => Lab::Missing(
            "a client of a server takes longer to connect than experiments wait".into(),
        ),
        None => lab,
    };
    let tried = match &lab {
        Lab::On(bench, budget) => experiments::run(report, &**bench, *budget, cancellation).await,
        Lab::Missing(reason) => experiments::not_tried(report, reason),
    };
    experiments::conclude(report, tried, started.elapsed().as_secs_f64() * 1e3);
}

fn too_late(limit: Duration) -> Error {
    let reason = format!("not in {} s, the time for the whole run", limit.as_secs_f64());
    Error::new(ErrorKind::Timeout, "open a node", reason)
        .with_fix("give the run more time; look for a hung mount on this machine")
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "open a node", "the run was interrupted")
}

/// The name of the capture that is taken before the first step of a scenario.
const BEFORE: &str = "before";

/// The node's kernel, if the plan names one and its release is understood.
///
/// # Errors
/// `Unsupported` when the whole plan holds from a newer one on; the node's own.
async fn kernel_of(plan: &Plan, node: &dyn Node) -> Result<Option<Version>, Error> {
    if !plan.names_a_kernel() {
        return Ok(None);
    }
    let kernel = Version::of_release(&node.facts().await?.kernel_release);
    match context::too_old(kernel, plan.since) {
        None => Ok(kernel),
        Some(reason) => Err(Error::new(ErrorKind::Unsupported, "run this plan", reason)
            .with_fix("run it on a node with a newer kernel")),
    }
}

async fn run_phases(phases: &[Box<dyn Phase>], context: &mut RunContext<'_>) {
    if !context.plan.is_five_phases()
        && let Err(error) = context.capture_as(BEFORE).await
    {
        context.begin_phase(BEFORE);
        context.end_phase(Some(error));
        return;
    }
    for phase in phases {
        let missing = phase.requires().into_iter().find(|id| !context.has_passed(id));
        if let Some(missing) = missing {
            context.skip_phase(phase.id(), &format!("{missing} did not pass"));
            continue;
        }
        if let Some(reason) = context.gave_up().map(ToOwned::to_owned) {
            context.skip_phase(phase.id(), &reason);
            continue;
        }
        context.begin_phase(phase.id());
        let mut result = phase.run(context).await;
        if result.is_ok() && !context.has_captured() {
            result = context.capture().await.map(drop);
        }
        context.end_phase(result.err());
    }
}

/// Stops the workloads, undoes the journal, the last change first, and closes the node.
async fn clean_up(
    node: &dyn Node,
    workloads: &[Arc<dyn Workload>],
    mut journal: Journal,
    servers_last: bool,
) -> Cleanup {
    let started = Instant::now();
    let mut cleanup = Cleanup::default();
    // Producers first: a process that waits for a daemon which does not answer can end only when
    // the daemon has. One that waits for a server can end only while that is there.
    let (producers, others): (Vec<_>, Vec<_>) =
        workloads.iter().partition(|workload| workload.spec().role == Role::Producer);
    let groups = if servers_last { [others, producers] } else { [producers, others] };
    for group in groups {
        let stops = group.iter().map(|workload| workload.stop());
        for (workload, result) in group.iter().zip(join_all(stops).await) {
            if let Err(error) = result {
                cleanup.could_not.push(format!("stop {}: {error}", workload.spec().name));
            }
        }
    }
    let mut not_yet = Vec::new();
    let changes: Vec<_> = journal.to_undo().map(|(n, change)| (n, change.clone())).collect();
    for (number, change) in changes {
        match node.undo(&change).await {
            Ok(()) => {
                journal.undone(number);
                cleanup.undone.push(format!("undid: {change}"));
            }
            Err(error) => not_yet.push(format!("undo {change}: {error}")),
        }
    }
    let closed = node.close().await;
    // What stood in the way, as a start that was cut short does, goes with the node.
    if !(closed.could_not.is_empty() && closed.kept.is_empty()) {
        let said = |line: &String| closed.could_not.iter().any(|other| other.ends_with(line));
        cleanup.could_not.extend(not_yet.into_iter().filter(|line| !said(line)));
    }
    cleanup.undone.extend(closed.undone);
    cleanup.could_not.extend(closed.could_not);
    cleanup.kept.extend(closed.kept);
    cleanup.kubelet_ms = closed.kubelet_ms;
    cleanup.namespace_ms = closed.namespace_ms;
    cleanup.duration_ms = started.elapsed().as_secs_f64() * 1e3;
    cleanup
}
