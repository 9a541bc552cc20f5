//! Comparisons of transports: starting one, and its result.

use propagation_compare::{Options, compare};
use propagation_core::comparison::{self as model, Transport, Workload};
use propagation_core::{Backend, Error, ErrorKind};
use propagation_report::comparison as render;
use propagation_report::text::Detail;
use pyo3::prelude::*;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::backend::{Chosen, Named};
use crate::error::{OrRaise, invalid, raise, to_plain};
use crate::job::{Job, Worker};

/// Starts a comparison.
#[pyfunction]
#[pyo3(signature = (*, backend, transports, workloads, quick, rounds, seed, producer_command))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments")]
pub(crate) fn compare_transports(
    py: Python<'_>,
    backend: Named<'_>,
    transports: Option<Vec<String>>,
    workloads: Option<Vec<String>>,
    quick: bool,
    rounds: Option<u32>,
    seed: u64,
    producer_command: Option<String>,
) -> PyResult<Job> {
    let start = || {
        let backend = backend.read()?;
        let default = if quick { Options::quick() } else { Options::default() };
        let default = match names::<Transport>(transports, "read transports")? {
            Some(named) => default.naming(named),
            None => default,
        };
        let options = Options {
            workloads: names(workloads, "read workloads")?.unwrap_or(default.workloads),
            rounds,
            seed,
            producer_command: producer_command.unwrap_or(default.producer_command),
            ..default
        };
        options.validate()?;
        let cancellation = CancellationToken::new();
        let (job, _feed, completion) = Job::new(cancellation.clone())?;
        let (abandon, abandoned) = oneshot::channel();
        let work = move || {
            let result = to_end(&options, backend, &cancellation, abandoned);
            completion.complete(result, |py, comparison| {
                Ok(Bound::new(py, Comparison { comparison })?.into_any())
            });
        };
        let thread = std::thread::Builder::new().name("propagation-compare".into()).spawn(work);
        let thread = thread.map_err(|error| {
            Error::new(ErrorKind::Environment, "start a thread", error.to_string())
                .with_fix("raise the limit of processes (ulimit -u)")
        })?;
        job.set_worker(Worker { abandon, thread });
        Ok(job)
    };
    start().or_raise(py)
}

fn names<T: std::str::FromStr<Err = String>>(
    names: Option<Vec<String>>,
    operation: &str,
) -> Result<Option<Vec<T>>, Error> {
    let parse = |name: &String| {
        name.parse().map_err(|reason: String| invalid(operation, reason, "use one of the names"))
    };
    names.map(|names| names.iter().map(parse).collect()).transpose()
}

fn to_end(
    options: &Options,
    backend: Chosen,
    cancellation: &CancellationToken,
    abandoned: oneshot::Receiver<()>,
) -> Result<model::Comparison, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Error::new(ErrorKind::Environment, "start an event loop", error.to_string())
    })?;
    let compared =
        async |backend: &dyn Backend| compare(options, backend, cancellation, &|_| {}).await;
    runtime.block_on(async {
        tokio::select! {
            result = backend.on(cancellation, compared) => {
                let cancelled = || Error::new(ErrorKind::Cancelled, "compare transports", "it was cancelled");
                result.and_then(|found| if found.cut_short { Err(cancelled()) } else { Ok(found) })
            }
            _ = abandoned => {
                Err(Error::new(ErrorKind::Cancelled, "compare transports", "it was given up"))
            }
        }
    })
}

/// A comparison of transports between containers.
///
/// `to_dict` has all of it; `to_dataframe` has a row for each transport, metric and round.
#[pyclass(frozen, module = "propagation")]
pub(crate) struct Comparison {
    comparison: model::Comparison,
}

#[pymethods]
impl Comparison {
    /// A saved comparison, as `to_json` and `propagation compare --report` write it.
    ///
    /// Raises `InvalidInputError` for anything else.
    #[staticmethod]
    fn from_json(py: Python<'_>, json: &str) -> PyResult<Self> {
        let read = serde_json::from_str(json).map_err(|error| {
            let fix = "use comparison.json of `propagation compare --report DIR`";
            invalid("read a comparison", error.to_string(), fix)
        });
        read.map(|comparison| Self { comparison }).or_raise(py)
    }

    /// The seed of the order of rounds and of all random positions.
    #[getter]
    fn seed(&self) -> u64 {
        self.comparison.seed
    }

    /// The number of rounds.
    #[getter]
    fn rounds(&self) -> u32 {
        self.comparison.rounds
    }

    /// How long it took, in milliseconds.
    #[getter]
    fn duration_ms(&self) -> f64 {
        self.comparison.duration_ms
    }

    /// The names of the transports that were measured, in order.
    #[getter]
    fn transports(&self) -> Vec<&'static str> {
        self.comparison.measured().map(|one| one.transport.as_str()).collect()
    }

    /// The reasons why transports were left out, by name.
    #[getter]
    fn skipped(&self) -> std::collections::BTreeMap<&'static str, String> {
        let skipped = self.comparison.transports.iter();
        skipped
            .filter_map(|one| Some((one.transport.as_str(), one.skipped.as_ref()?.reason.clone())))
            .collect()
    }

    /// The sentences that answer: `speed`, `death`, `cost`, `trade` and `noise`.
    #[getter]
    fn answer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let answer = render::Answer::of(&self.comparison);
        to_plain(
            py,
            &serde_json::json!({
                "speed": answer.speed, "death": answer.death, "cost": answer.cost,
                "trade": answer.trade, "noise": [answer.noise],
            }),
        )
    }

    /// The JSON Schema of a comparison.
    #[staticmethod]
    fn json_schema(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        to_plain(py, &model::Comparison::json_schema())
    }

    /// The comparison as JSON.
    fn to_json(&self, py: Python<'_>) -> PyResult<String> {
        serde_json::to_string(&self.comparison).map_err(|error| {
            raise(py, &Error::new(ErrorKind::Internal, "write a comparison", error.to_string()))
        })
    }

    /// The comparison as dicts, lists, strings and numbers.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_plain(py, &self.comparison)
    }

    /// The comparison as text of 80 columns.
    #[pyo3(signature = (*, evidence = false))]
    fn to_text(&self, evidence: bool) -> String {
        let detail = if evidence { Detail::Full } else { Detail::Normal };
        render::text(&self.comparison, detail)
    }

    /// The comparison as Markdown.
    fn to_markdown(&self) -> String {
        render::markdown(&self.comparison)
    }

    /// The comparison as one HTML page that needs nothing else, with its pictures.
    fn to_html(&self) -> String {
        render::html(&self.comparison)
    }

    /// The values of the rounds as a data frame of pandas, or of polars if pandas is not installed.
    ///
    /// Raises `ImportError` when neither is installed.
    #[pyo3(signature = (library = None))]
    fn to_dataframe<'py>(
        slf: &Bound<'py, Self>,
        library: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("propagation._dataframe")?.call_method1("comparison", (slf, library))
    }

    fn _repr_html_(&self) -> String {
        let page = self.to_html().replace('&', "&amp;").replace('"', "&quot;");
        format!(
            "<iframe sandbox=\"allow-same-origin\" title=\"comparison {}\" srcdoc=\"{page}\" \
             style=\"width: 100%; height: 40em; border: 0\"></iframe>",
            self.comparison.run_id
        )
    }

    fn __str__(&self) -> String {
        self.to_text(false)
    }

    fn __repr__(&self) -> String {
        let one = &self.comparison;
        format!(
            "<Comparison {} of {}, {} rounds>",
            one.run_id,
            self.transports().join(", "),
            one.rounds
        )
    }
}

/// The names of all transports and workloads, so that a test can compare them with their types.
#[pyfunction]
pub(crate) fn comparison_names() -> (Vec<&'static str>, Vec<&'static str>) {
    (
        Transport::ALL.iter().map(|one| one.as_str()).collect(),
        Workload::ALL.iter().map(|one| one.as_str()).collect(),
    )
}
