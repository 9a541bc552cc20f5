//! Starts a run on a thread of its own.

use std::sync::Arc;
use std::time::Duration;

use propagation_core::experiments::Budget;
use propagation_core::phase::{self, Phase};
use propagation_core::suggest::nearest;
use propagation_core::{Error, ErrorKind, RunId, Runner};
use pyo3::prelude::*;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt;

use crate::backend::{Chosen, Named, with_experiments};
use crate::error::{OrRaise, invalid};
use crate::event::Item;
use crate::job::{Feed, Job, Worker};
use crate::log::ToFeed;
use crate::phase::HandedOver;
use crate::report::Report;
use crate::scenario::Scenario;

/// Starts a run.
///
/// `phases` has a pair for each phase: its id, and its requirements if Python carries it out; None means the
/// phases of the scenario. `observations` says whether to emit events for observations, `log_level` is the
/// lowest level of `logging` to emit.
#[pyfunction]
#[pyo3(signature = (scenario, *, backend, phases, observations, log_level, keep, run_id, experiments))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments")]
pub(crate) fn run(
    py: Python<'_>,
    scenario: &Scenario,
    backend: Named<'_>,
    phases: Option<Vec<(String, Option<Vec<String>>)>>,
    observations: bool,
    log_level: u8,
    keep: bool,
    run_id: Option<&str>,
    experiments: Option<Experiments>,
) -> PyResult<Job> {
    let start = || {
        let backend = backend.read()?;
        let cancellation = CancellationToken::new();
        let (job, feed, completion) = Job::new(cancellation.clone())?;
        let mut runner = Runner::new(scenario.0.clone())?
            .with_cancellation(cancellation.clone())
            .with_keep(keep)
            .with_events(sink(feed.clone(), observations));
        if let Some(budget) = budget(experiments, &backend)? {
            runner = with_experiments(runner, budget);
        }
        if let Some(phases) = phases {
            runner = runner.with_phases(chosen(phases, &feed)?);
        }
        if let Some(run_id) = run_id {
            runner = runner.with_run_id(RunId::parse(run_id)?);
        }
        let (abandon, abandoned) = oneshot::channel();
        let work = move || {
            let subscriber = tracing_subscriber::registry().with(ToFeed::new(feed, log_level));
            let _logging = tracing::subscriber::set_default(subscriber);
            let result = to_end(backend.run(runner, &cancellation), abandoned);
            completion.complete(result, |py, report| {
                Ok(Bound::new(py, Report::from(report))?.into_any())
            });
        };
        let thread = std::thread::Builder::new().name("propagation-run".into()).spawn(work);
        let thread = thread.map_err(|error| {
            Error::from_source(ErrorKind::Environment, "start a thread", error)
                .with_fix("raise the limit of processes (ulimit -u)")
        })?;
        job.set_worker(Worker { abandon, thread });
        Ok(job)
    };
    start().or_raise(py)
}

/// How long experiments may take: seconds, `all` or `off`.
#[derive(FromPyObject)]
pub(crate) enum Experiments {
    #[pyo3(transparent, annotation = "float")]
    Seconds(f64),
    #[pyo3(transparent, annotation = "str")]
    Word(String),
}

/// The time for experiments; None makes none.
fn budget(wanted: Option<Experiments>, backend: &Chosen) -> Result<Option<Budget>, Error> {
    match wanted {
        None => Ok(backend.is_local().then(Budget::default)),
        Some(Experiments::Word(word)) if word == "off" => Ok(None),
        Some(Experiments::Word(word)) if word == "all" => Ok(Some(Budget::all())),
        Some(Experiments::Word(word)) => {
            let fix = "use a number of seconds, \"all\" or \"off\"";
            Err(invalid("read experiments", format!("{word:?} is not a time"), fix))
        }
        Some(Experiments::Seconds(seconds)) => {
            let time = Duration::try_from_secs_f64(seconds).map_err(|error| {
                invalid("read experiments", error.to_string(), "use a number of seconds above 0")
            })?;
            Ok(Some(Budget::of(time)))
        }
    }
}

/// Carries the run out. Given up, the node is left to its own best effort.
fn to_end(
    run: impl Future<Output = Result<propagation_core::Report, Error>>,
    abandoned: oneshot::Receiver<()>,
) -> Result<propagation_core::Report, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Error::from_source(ErrorKind::Environment, "start the async runtime", error)
    })?;
    runtime.block_on(async {
        tokio::select! {
            biased;
            _ = abandoned => Err(Error::new(ErrorKind::Cancelled, "run", "it was given up")),
            result = run => result,
        }
    })
}

fn sink(feed: Feed, observations: bool) -> propagation_core::event::EventSink {
    Arc::new(move |event| {
        if observations || !matches!(event, propagation_core::Event::Observed(_)) {
            Item::of(event).into_iter().for_each(|item| feed.push(item));
        }
    })
}

/// The phases with these ids, and those that Python carries out.
fn chosen(
    wanted: Vec<(String, Option<Vec<String>>)>,
    feed: &Feed,
) -> Result<Vec<Box<dyn Phase>>, Error> {
    let ids: Vec<String> = wanted.iter().map(|(id, _)| id.clone()).collect();
    let mut five = phase::five();
    let mut phases: Vec<Box<dyn Phase>> = Vec::new();
    for (number, (id, own)) in wanted.into_iter().enumerate() {
        if phases.iter().any(|phase| phase.id() == id) {
            let fix = "give every phase an id of its own";
            return Err(invalid(format!("phase {id:?}"), "duplicate id", fix));
        }
        if let Some(unknown) = own.iter().flatten().find(|one| !ids.contains(one)) {
            let known = ids.iter().map(String::as_str);
            let fix = match nearest(unknown, known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("require a phase of this run: {}", ids.join(", ")),
            };
            let reason = format!("it requires the unknown phase {unknown:?}");
            return Err(invalid(format!("phase {id:?}"), reason, fix));
        }
        phases.push(match own {
            Some(requires) => Box::new(HandedOver::new(id, requires, number, feed.clone())),
            None => {
                let place = five.iter().position(|phase| phase.id() == id).ok_or_else(|| {
                    let fix = "use one of FIVE_PHASES, or a Phase of your own";
                    invalid(format!("phase {id:?}"), "unknown phase", fix)
                })?;
                five.remove(place)
            }
        });
    }
    Ok(phases)
}
