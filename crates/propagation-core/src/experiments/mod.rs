//! Experiments: change one thing, run the same plan on a fresh simulated node, and see whether that thing is the
//! cause.
//!
//! `change` defines every change, `alter` and `text` its effect on a plan and the text to copy; `bench` makes plans
//! that end soon, `fared` and `deeds` say how a run went, `judge` compares two runs, `again` tries what was short of
//! time, `add` puts a cause into a set-up that works, and `advice` draws the conclusions.

mod add;
mod advice;
mod again;
mod alter;
mod apply;
mod bench;
mod change;
mod deeds;
mod fared;
mod judge;
#[cfg(all(test, feature = "fake"))]
mod tests;
mod text;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

pub use apply::apply;

use crate::backend::Backend;
use crate::diagnosis::Cause;
use crate::plan::Plan;
use crate::report::{Change, Experiment, Report, Trial};
pub(crate) use advice::conclude;
use bench::{Attempt, Bench};
use change::definition;
pub(crate) use judge::anybody_is_wrong;

/// Time for experiments, and for which runs they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The time for all of them, once the run itself has been repeated; none for as long as it takes. A change that
    /// would remove a cause and was short of time is tried once more afterwards where none heals, within the limit of
    /// the run.
    pub time: Option<Duration>,
    /// How many run side by side.
    pub jobs: usize,
    /// Whether they are made also for a run that came out as expected but leaves an actor wrong in the end.
    pub always: bool,
}

impl Default for Budget {
    /// 1 s, eight at a time, when something came out otherwise than it should. Experiments mostly wait for other
    /// processes, so more of them than processors run side by side.
    fn default() -> Self {
        Self { time: Some(Duration::from_secs(1)), jobs: 8, always: false }
    }
}

impl Budget {
    /// Every change is tried, however long it takes.
    pub fn all() -> Self {
        Self { time: None, always: true, ..Self::default() }
    }

    /// This time, for a run that came out as expected too.
    pub fn of(time: Duration) -> Self {
        Self { time: Some(time), always: true, ..Self::default() }
    }
}

/// The bench on which a runner makes its experiments.
#[derive(Clone)]
pub(crate) enum Lab {
    On(Arc<dyn Backend>, Budget),
    Missing(String),
}

impl fmt::Debug for Lab {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(bench, budget) => write!(formatter, "On({}, {budget:?})", bench.name()),
            Self::Missing(reason) => write!(formatter, "Missing({reason})"),
        }
    }
}

/// The single changes of a plan that are tried for a report: those for all workloads before those for one, then
/// those that would remove a cause it names, then the cheaper ones.
fn changes(report: &Report, plan: &Plan) -> Vec<Change> {
    let mut changes = apply::candidates(plan);
    if !judge::needs_help_now(report) {
        changes.retain(|change| apply::for_good(change.what));
    }
    let all: Vec<Change> = changes.clone();
    changes.sort_by_key(|change| {
        let for_more =
            |other: &Change| other.what == change.what && other.on.len() > change.on.len();
        let defined = definition(change.what);
        let removes = |cause: &Cause| defined.removes.contains(&cause.id);
        let named = report.diagnosis.iter().position(removes);
        (all.iter().any(for_more), named.unwrap_or(usize::MAX), !defined.for_good(), defined.cost)
    });
    changes
}

/// Runs the experiments for a report, each on a fresh node that `bench` makes.
///
/// The run itself is repeated there first: where it does not show the same trouble, nothing is proven, and every
/// change says so. Nothing is left behind; when the time is over or `cancellation` comes, running experiments are
/// ended and cleaned up, and the others say that they did not run. `bench` must make simulated nodes.
pub fn run<'a>(
    report: &'a Report,
    bench: &'a dyn Backend,
    budget: Budget,
    cancellation: &'a CancellationToken,
) -> Pin<Box<dyn Future<Output = Vec<Experiment>> + Send + 'a>> {
    Box::pin(experiments(report, bench, budget, cancellation))
}

/// The changes that would be tried, with the reason why they are not.
pub fn not_tried(report: &Report, reason: &str) -> Vec<Experiment> {
    let not_tried =
        |change| experiment(change, &report.plan, Trial::NotTried { reason: reason.to_owned() });
    changes(report, &report.plan).into_iter().map(not_tried).collect()
}

fn experiment(change: Change, plan: &Plan, trial: Trial) -> Experiment {
    let defined = definition(change.what);
    let changed = apply::apply(&change, plan);
    let (kind, text) = (defined.text)(&change, changed.as_ref().unwrap_or(plan));
    let words = apply::words(&change);
    let mut experiment = Experiment::new(change, words, defined.cost, trial);
    experiment.for_good = defined.for_good();
    (experiment.kind, experiment.text) = (kind, text);
    experiment
}

async fn experiments(
    report: &Report,
    bench: &dyn Backend,
    budget: Budget,
    cancellation: &CancellationToken,
) -> Vec<Experiment> {
    let begun = Instant::now();
    let over = cancellation.child_token();
    let changes = changes(report, &bench::shaped(report, bench.name()));
    let bench = match Bench::prepare(report, bench, over.clone()).await {
        Ok(bench) => bench,
        Err(reason) => return not_tried(report, &reason),
    };
    let limit = budget.time.map(|time| format!("{:.1} s", time.as_secs_f64()));
    let attempts = |changes: Vec<(usize, Change)>| {
        let (bench, limit) = (&bench, limit.as_deref());
        stream::iter(changes).map(move |(number, change)| async move {
            let attempt = match over_words(bench.over(), limit) {
                Some(reason) => Attempt::Done(Trial::NotTried { reason }),
                None => bench.try_change(&change, removes_a_cause(report, &change)).await,
            };
            (number, change, attempt)
        })
    };
    // Whoever waits for a daemon that does not answer needs no processor.
    let jobs = if bench.hangs() { 3 * budget.jobs } else { budget.jobs };
    // What the causes are judged by is tried before the rest, so that a busy machine gets that far.
    let judges = |change: &Change| apply::for_good(change.what) && removes_a_cause(report, change);
    let numbered = changes.into_iter().enumerate();
    let (mut ordered, rest): (Vec<_>, Vec<_>) = numbered.partition(|(_, change)| judges(change));
    ordered.extend(rest);
    let end = tokio::time::sleep(budget.time.unwrap_or(Duration::MAX));
    tokio::pin!(end);
    let mut tried = {
        let all = attempts(ordered).buffer_unordered(jobs.max(1)).collect::<Vec<_>>();
        tokio::pin!(all);
        tokio::select! {
            done = &mut all => done,
            () = &mut end => {
                over.cancel();
                all.await
            }
        }
    };
    tried.sort_by_key(|(number, ..)| *number);
    let mut trials = Vec::new();
    for (_, change, attempt) in tried {
        let trial = match attempt {
            Attempt::Done(trial) => trial,
            Attempt::TooShort(first) => {
                let removes = removes_a_cause(report, &change);
                let alone = bench.try_alone(&change, removes, first);
                tokio::pin!(alone);
                tokio::select! {
                    trial = &mut alone => trial,
                    () = &mut end, if !over.is_cancelled() => {
                        over.cancel();
                        alone.await
                    }
                }
            }
        };
        trials.push((change, trial));
    }
    let plan = bench.plan().clone();
    again::try_patiently(bench, report, &mut trials, begun, cancellation).await;
    trials.into_iter().map(|(change, trial)| experiment(change, &plan, trial)).collect()
}

fn removes_a_cause(report: &Report, change: &Change) -> bool {
    let removes = definition(change.what).removes;
    report.diagnosis.iter().any(|cause| removes.contains(&cause.id))
}

/// Why nothing more is tried.
fn over_words(over: &CancellationToken, limit: Option<&str>) -> Option<String> {
    over.is_cancelled().then(|| match limit {
        Some(limit) => format!("the time for experiments, {limit}, was over"),
        None => "the run was interrupted".to_owned(),
    })
}
