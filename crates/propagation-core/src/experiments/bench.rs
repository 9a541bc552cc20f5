//! The bench: the run itself, repeated on a simulated node with short deadlines, and changes of it.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Mutex, OnceCell};
use tokio_util::sync::CancellationToken;

use super::add;
use super::alter;
use super::apply;
use super::fared::Fared;
use super::judge;
use crate::Class;
use crate::backend::{Backend, refusal};
use crate::diagnosis::{self, Cause, CauseId};
use crate::like::shape;
use crate::observation::Actor;
use crate::plan::{Action, Deadlines, Expected, PhaseName, Plan, Repair, RuntimeNamespace};
use crate::report::{Added, Change, Deed, Report, Status, Trial, Tried, Working};
use crate::run::Runner;

/// How long an experiment waits for something that may never come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    /// For a mount, a notice, a recovery.
    wait_ms: u64,
    /// For one access.
    probe_ms: u64,
    /// For a pause of a scenario.
    pause_ms: u64,
    /// For the whole experiment.
    run_ms: u64,
}

impl Limits {
    /// A few times what the run itself needed for a start or a mount.
    fn short(report: &Report) -> Self {
        let starts = report.acts.iter().filter_map(|act| match act.deed {
            Deed::Start | Deed::Restart { .. } if act.refused.is_none() => {
                Some(act.until_us.saturating_sub(act.from_us) as f64 / 1e3)
            }
            _ => None,
        });
        let measured = &report.measurements;
        let mounts = measured.mount_to_visible_ms.iter().copied();
        let slowest =
            starts.chain(mounts).chain(measured.remount_to_fresh_read_ms).fold(0.0, f64::max);
        let wait_ms = (3.0 * slowest).clamp(25.0, 100.0) as u64;
        // Every wait has a limit of its own. This one is for all of them, also where one slow processor has many runs.
        let run_ms = (20.0 * report.duration_ms).clamp(5_000.0, 60_000.0) as u64;
        Self { wait_ms, probe_ms: wait_ms.max(60), pause_ms: wait_ms, run_ms }
    }

    /// For what did not come within the short ones.
    fn long(report: &Report) -> Self {
        let run_ms = 2 * Self::short(report).run_ms;
        Self { wait_ms: 1_000, probe_ms: 500, pause_ms: 2_000, run_ms }
    }

    /// For one run that nothing runs beside: each wait as long as the run itself took.
    fn patient(report: &Report) -> Self {
        let wait_ms = report.duration_ms.clamp(1_000.0, 10_000.0) as u64;
        let run_ms = Self::long(report).run_ms;
        Self { wait_ms, probe_ms: wait_ms, pause_ms: 2_000, run_ms }
    }

    /// Sets the deadlines of a plan.
    fn limit(self, plan: &mut Plan) {
        let Self { wait_ms, probe_ms, pause_ms, run_ms } = self;
        plan.deadlines = Deadlines {
            start_ms: plan.deadlines.start_ms.min(5_000),
            marker_ms: wait_ms,
            probe_ms: probe_ms.min(plan.deadlines.probe_ms),
            breakage_ms: wait_ms,
            recovery_ms: wait_ms,
            run_ms,
        };
        alter::each_step(&mut plan.steps, &mut |step| match &mut step.action {
            Action::Pause(ms) => *ms = pause_ms.min(*ms),
            Action::Wait(ms) => *ms = (2 * wait_ms).min(*ms),
            _ => {}
        });
    }
}

/// The plan of a report as it is run on a bench: on a node like the real one where the report is of another backend
/// than `bench`, with one replica of each workload, and without the ladder of repairs.
pub(super) fn shaped(report: &Report, bench: &str) -> Plan {
    let mut plan = report.plan.clone();
    plan.recovery = vec![Repair::Wait];
    for workload in &mut plan.workloads {
        workload.replicas = 1;
    }
    if let Some(facts) = report.environment.as_ref().filter(|_| report.backend != bench) {
        shape(&mut plan.node, facts, &[]);
        // What is known of the runtime's namespace is what the mounts have shown.
        if report.diagnosis.iter().any(|cause| cause.id == CauseId::RuntimeOwnNamespace) {
            plan.node.runtime.namespace = RuntimeNamespace::Private;
        }
    }
    plan
}

/// What came of a change.
pub(super) enum Attempt {
    Done(Trial),
    /// It waited in vain for something that comes in its time without the change.
    TooShort(Tried),
}

/// A change for which there was no time.
fn too_short() -> Trial {
    let reason = "it ran out of time: something did not come within its deadline".to_owned();
    Trial::NotTried { reason }
}

/// A run with short limits that does not tell whether it would have come out otherwise with longer ones.
#[derive(Debug)]
struct Unsure;

/// How every actor fares with a plan that is run once; none where it cannot be run.
type Once = Arc<OnceCell<Result<Option<Fared>, Unsure>>>;

/// The run that experiments are compared with.
pub(super) struct Bench<'a> {
    backend: &'a dyn Backend,
    over: CancellationToken,
    limits: Limits,
    /// For what does not come within these.
    long: Limits,
    /// Whether these are as long as the run itself took, and nothing runs beside.
    patient: bool,
    /// What the rules say of the run.
    causes: &'a [Cause],
    /// The plan, with no change.
    plan: Plan,
    /// How every actor fared with it.
    baseline: Fared,
    /// The plan that repairs are appended to.
    to_repair: Plan,
    /// How every actor fared with that one; run when the first repair is tried.
    unrepaired: OnceCell<Result<Fared, String>>,
    /// How every actor fares with set-ups that work: several changes come to one of them.
    plain: Mutex<Vec<(Plan, Limits, Once)>>,
}

impl<'a> Bench<'a> {
    /// Repeats the run of a report.
    ///
    /// # Errors
    /// In words, where it cannot be repeated or does not show the same trouble.
    pub(super) async fn prepare(
        report: &'a Report,
        backend: &'a dyn Backend,
        over: CancellationToken,
    ) -> Result<Self, String> {
        let plan = shaped(report, backend.name());
        if let Some(reason) = refusal(backend, &plan) {
            return Err(format!("it cannot be simulated: {reason}"));
        }
        let mut differs = String::new();
        let long = Limits::long(report);
        for limits in [Limits::short(report), long] {
            let repeated = repeat(&plan, limits, backend, &over).await?;
            let Some(words) = judge::differs(report, &repeated) else {
                let baseline = Fared::of(&repeated, &plan);
                let to_repair = without_recovery(report, &plan);
                let unrepaired = match plan.is_five_phases() {
                    true => OnceCell::new(),
                    false => OnceCell::new_with(Some(Ok(baseline.clone()))),
                };
                let causes = &report.diagnosis;
                return Ok(Self {
                    backend,
                    over,
                    limits,
                    long,
                    patient: false,
                    causes,
                    plan,
                    baseline,
                    to_repair,
                    unrepaired,
                    plain: Mutex::default(),
                });
            };
            differs = words;
        }
        Err(format!(
            "the simulated node does not show the same trouble, so nothing is proven: {differs}"
        ))
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether somebody waits in the run for an answer that does not come.
    pub(super) fn hangs(&self) -> bool {
        self.baseline.hangs()
    }

    pub(super) fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// The same with the patience of a run that nothing runs beside, until another end.
    pub(super) fn patient(mut self, report: &Report, over: CancellationToken) -> Self {
        self.long = Limits::patient(report);
        self.limits = self.long;
        self.patient = true;
        self.over = over;
        // What did not work may have had no time.
        self.plain = Mutex::default();
        self
    }

    async fn without_repair(&self) -> Result<Fared, String> {
        let report = repeat(&self.to_repair, self.limits, self.backend, &self.over).await?;
        Ok(Fared::of(&report, &self.plan))
    }

    /// Runs the plan with a change, beside others. A result that may be due to short deadlines is run once more with
    /// longer ones. Where the change would remove a cause of the report, the cause is added to a set-up that works, too.
    pub(super) async fn try_change(&self, change: &Change, removes_a_cause: bool) -> Attempt {
        self.attempt(change, removes_a_cause, &[self.limits, self.long]).await
    }

    /// Runs the plan with a change for which the time beside others was too short. That was the `first` result, which
    /// stays where it says so.
    pub(super) async fn try_alone(
        &self,
        change: &Change,
        removes_a_cause: bool,
        first: Tried,
    ) -> Trial {
        match self.attempt(change, removes_a_cause, &[self.long]).await {
            Attempt::Done(Trial::Tried(tried)) => Trial::Tried(tried),
            _ if first.short_of_time => Trial::Tried(first),
            Attempt::Done(trial) if !self.over.is_cancelled() => trial,
            _ => too_short(),
        }
    }

    async fn attempt(&self, change: &Change, removes_a_cause: bool, all: &[Limits]) -> Attempt {
        match self.tried(change, removes_a_cause, all).await {
            Ok(attempt) => attempt,
            Err(reason) => Attempt::Done(Trial::NotTried { reason }),
        }
    }

    async fn tried(
        &self,
        change: &Change,
        removes_a_cause: bool,
        all: &[Limits],
    ) -> Result<Attempt, String> {
        let for_good = apply::for_good(change.what);
        let plan = if for_good { &self.plan } else { &self.to_repair };
        let mut changed = apply::apply(change, plan).ok_or("it changes nothing")?;
        if let Some(reason) = refusal(self.backend, &changed) {
            return Err(reason);
        }
        let before = match for_good {
            true => &self.baseline,
            false => self.unrepaired.get_or_init(|| self.without_repair()).await.as_ref()?,
        };
        if !for_good {
            changed = look_again(changed, before);
        }
        let started = Instant::now();
        let mut last = None;
        for limits in all {
            // What was undecided shows nothing by itself.
            let report = repeat(&changed, *limits, self.backend, &self.over).await?;
            let again = judge::undecided(&report, &changed, for_good, removes_a_cause);
            last = Some(report);
            if !again || *limits == self.long {
                break;
            }
        }
        let report = last.ok_or("it was not run")?;
        if let Some(reason) = not_possible(&report).filter(|_| !for_good) {
            return Err(reason);
        }
        let mut tried = judge::compare(before, &report, &changed, for_good, started.elapsed());
        tried.short_of_time =
            removes_a_cause && !self.patient && judge::may_need_longer(&report, &tried);
        if all.len() > 1 && judge::ran_out_of_time(before, &report, &changed, &tried) {
            return Ok(Attempt::TooShort(tried));
        }
        if removes_a_cause && tried.healed.is_empty() {
            self.note_other_causes(&report, &mut tried);
        }
        if removes_a_cause && !tried.healed.is_empty() && tried.worse.is_empty() {
            tried.added = match for_good {
                true => match self.add_again(&changed, &tried, all[0]).await {
                    // The time beside others was too short to tell.
                    Err(Unsure) if all.len() > 1 => return Ok(Attempt::TooShort(tried)),
                    added => added.ok().flatten(),
                },
                // What is done once removes what a fault did, and everything worked before that.
                false => Some(Added { to: Working::BeforeFault, breaks: before.worked_once() }),
            };
            tried.took_ms = judge::milliseconds(started.elapsed());
        }
        Ok(Attempt::Done(Trial::Tried(tried)))
    }

    /// Notes whom a change did not heal because a cause shows that the run itself does not have.
    fn note_other_causes(&self, report: &Report, tried: &mut Tried) {
        let known = |cause: &Cause| self.causes.iter().any(|one| one.id == cause.id);
        let is_named = |cause: &Cause| {
            !matches!(cause.id, CauseId::NothingWrong | CauseId::Unexplained) && !cause.is_over()
        };
        for cause in diagnosis::explain(report).iter().filter(|one| is_named(one) && !known(one)) {
            let left = tried.not_healed.iter().filter(|actor| cause.actors.contains(actor));
            let more: Vec<Actor> =
                left.filter(|actor| !tried.otherwise.contains(actor)).cloned().collect();
            tried.otherwise.extend(more);
        }
    }

    /// Adds what a change has removed to a set-up that works; none where that cannot be run.
    ///
    /// # Errors
    /// Where it was cut short, or is not broken while something did not come in its time.
    async fn add_again(
        &self,
        changed: &Plan,
        tried: &Tried,
        limits: Limits,
    ) -> Result<Option<Added>, Unsure> {
        let plain = add::plain(changed);
        let works = match plain == *changed {
            true => true,
            false => self.works(&plain, &tried.healed, limits).await?,
        };
        let (to, working) = match works {
            true => (Working::Defaults, &plain),
            false => (Working::Changed, changed),
        };
        let Some(plan) = add::add(working, &self.plan, changed) else { return Ok(None) };
        let Some(fared) = self.fared(&plan, limits).await? else { return Ok(None) };
        let breaks = fared.is_broken_as(&self.baseline, &tried.healed);
        match !breaks && fared.waits {
            true => Err(Unsure),
            false => Ok(Some(Added { to, breaks })),
        }
    }

    /// Whether these actors are right with another plan, which is run once with these limits.
    ///
    /// # Errors
    /// Where it was cut short, or they are wrong while something did not come in its time.
    async fn works(&self, plan: &Plan, actors: &[Actor], limits: Limits) -> Result<bool, Unsure> {
        let known = {
            let mut all = self.plain.lock().await;
            match all.iter().find(|(known, with, _)| (known, with) == (plan, &limits)) {
                Some((.., fared)) => Arc::clone(fared),
                None => {
                    let fared = Arc::default();
                    all.push((plan.clone(), limits, Arc::clone(&fared)));
                    fared
                }
            }
        };
        match known.get_or_init(|| self.fared(plan, limits)).await {
            Ok(None) => Ok(false),
            Ok(Some(fared)) if fared.works_for(actors) => Ok(true),
            Ok(Some(fared)) if !fared.waits || limits == self.long => Ok(false),
            Ok(Some(_)) | Err(Unsure) => Err(Unsure),
        }
    }

    /// How everybody fares with another plan; none where it cannot be run.
    ///
    /// # Errors
    /// Where it was cut short.
    async fn fared(&self, plan: &Plan, limits: Limits) -> Result<Option<Fared>, Unsure> {
        if refusal(self.backend, plan).is_some() {
            return Ok(None);
        }
        let report = repeat(plan, limits, self.backend, &self.over).await.map_err(|_| Unsure)?;
        Ok(Some(Fared::beside(&report, plan, &self.baseline, None)))
    }
}

/// A repair's plan, whose last step makes every look that was made without the repair: what was seen before it says
/// nothing of it.
fn look_again(mut plan: Plan, before: &Fared) -> Plan {
    let without = plan.clone();
    if let Some(step) = plan.steps.last_mut() {
        let ok = || Expected { outcome: vec![Class::Ok], ..Expected::default() };
        step.expect.extend(before.looks().map(|key| (key, ok())));
    }
    if plan.problems().is_empty() { plan } else { without }
}

/// Why the last step of a repaired run was not done.
fn not_possible(report: &Report) -> Option<String> {
    let last = report.phases.last().filter(|phase| phase.status == Status::Skipped)?;
    let check = last.checks.iter().find(|check| check.status == Status::Skipped);
    let words = check.map(|check| check.observed.clone()).or_else(|| last.reason.clone());
    Some(words.unwrap_or_else(|| "it cannot be done on a simulated node".to_owned()))
}

/// The plan that repairs are appended to: it does not wait for a recovery first, and leaves the phase `recovery`
/// out where that has nothing left to repair.
fn without_recovery(report: &Report, plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    plan.recovery.clear();
    let recovered = report
        .phase(PhaseName::Recovery.as_str())
        .is_some_and(|phase| phase.status == Status::Passed);
    if recovered {
        plan.steps.retain(|step| step.action != Action::Phase(PhaseName::Recovery));
    }
    plan
}

/// Runs a plan to its end.
///
/// # Errors
/// In words, when it could not be run or not to its end.
async fn repeat(
    plan: &Plan,
    limits: Limits,
    backend: &dyn Backend,
    over: &CancellationToken,
) -> Result<Report, String> {
    let mut plan = plan.clone();
    limits.limit(&mut plan);
    let runner = Runner::new(plan).map_err(|error| error.to_string())?;
    let report = runner.bare().with_cancellation(over.clone()).run(backend).await;
    if over.is_cancelled() {
        return Err("the time for experiments was over".to_owned());
    }
    let report = report.map_err(|error| error.to_string())?;
    match &report.cut_short {
        Some(reason) => Err(format!("it was cut short: {reason}")),
        None => Ok(report),
    }
}
