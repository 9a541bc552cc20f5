//! The report as Python sees it.

mod cause;
mod phase;
mod verdict;

use std::collections::BTreeMap;

use propagation_core::report as core;
use propagation_core::{Error, ErrorKind};
use propagation_report::text::{Colour, Detail, Style, render};
use propagation_report::{html, junit, markdown};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDateTime, PyTuple, PyType, PyTzInfo};

use crate::error::{OrRaise, invalid, to_plain};
use crate::observation::Observation;

pub(crate) use cause::{Advice, Cause, Experiment, Fix};
pub(crate) use phase::{Act, Check, Cleanup, PhaseReport};
pub(crate) use verdict::{Answer, Expectations, Measurements, Verdict};

/// The result of one run.
#[pyclass(frozen, module = "propagation")]
pub(crate) struct Report {
    report: core::Report,
    phases: PyOnceLock<Py<PyTuple>>,
    timeline: PyOnceLock<Py<PyTuple>>,
}

impl From<core::Report> for Report {
    fn from(report: core::Report) -> Self {
        Self { report, phases: PyOnceLock::new(), timeline: PyOnceLock::new() }
    }
}

#[pymethods]
impl Report {
    /// Reads a saved report, as text or bytes.
    ///
    /// Raises `InvalidInputError` when it is not a report, or has another schema version.
    #[staticmethod]
    fn from_json(py: Python<'_>, json: Text) -> PyResult<Self> {
        Ok(core::Report::from_json(json.bytes()).or_raise(py)?.into())
    }

    /// The JSON Schema of reports.
    #[staticmethod]
    fn json_schema(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        to_plain(py, &core::Report::json_schema())
    }

    /// Version of the report's shape.
    #[getter]
    fn schema_version(&self) -> u32 {
        self.report.schema_version
    }

    /// Version of the tool that wrote it.
    #[getter]
    fn tool_version(&self) -> &str {
        &self.report.tool_version
    }

    /// The run's name.
    #[getter]
    fn run_id(&self) -> &str {
        &self.report.run_id
    }

    /// `local`, `k8s`.
    #[getter]
    fn backend(&self) -> &str {
        &self.report.backend
    }

    /// The node.
    #[getter]
    fn node(&self) -> &str {
        &self.report.node
    }

    /// When it started (UTC).
    #[getter]
    fn started_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDateTime>> {
        let parsed: Result<jiff::Timestamp, _> = self.report.started_at.parse();
        let failed = |error: jiff::Error| {
            invalid("read the time of the report", error.to_string(), "write it again")
        };
        let since_epoch = parsed.map_err(failed).or_raise(py)?.as_duration().as_secs_f64();
        PyDateTime::from_timestamp(py, since_epoch, Some(&*PyTzInfo::utc(py)?))
    }

    /// From the start to the verdict, in milliseconds.
    #[getter]
    fn duration_ms(&self) -> f64 {
        self.report.duration_ms
    }

    /// How it came out.
    #[getter]
    fn verdict(&self) -> Verdict {
        (&self.report).into()
    }

    /// The answer of the five phases; none for other steps.
    #[getter]
    fn answer(&self) -> Option<Answer> {
        Answer::of(&self.report)
    }

    /// Whether it is a full success, or everything came out as expected.
    #[getter]
    fn ok(&self) -> bool {
        self.report.verdict.outcome().status() == core::Status::Passed
    }

    /// Raises `OutcomeError` unless it is `ok`, or unless its outcome is one of `accepted`; returns the
    /// report itself.
    #[pyo3(signature = (*accepted))]
    fn raise_for_outcome<'py>(
        slf: &Bound<'py, Self>,
        accepted: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, Self>> {
        let module = slf.py().import("propagation._errors")?;
        module.call_method1("_raise_for_outcome", (slf, accepted))?;
        Ok(slf.clone())
    }

    /// The verdict's outcome, in a word.
    #[getter]
    fn outcome(&self) -> &'static str {
        self.report.verdict.outcome().as_str()
    }

    /// The phases, in order.
    #[getter]
    fn phases<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyTuple>> {
        let make = || {
            let phases = self.report.phases.iter();
            let phases = phases.map(|phase| PhaseReport::new(py, phase));
            PyResult::Ok(PyTuple::new(py, phases.collect::<PyResult<Vec<_>>>()?)?.unbind())
        };
        Ok(self.phases.get_or_try_init(py, make)?.bind(py))
    }

    /// The phase with the id `id`; raises `KeyError` when it is unknown.
    fn phase<'py>(&self, py: Python<'py>, id: &str) -> PyResult<Bound<'py, PyAny>> {
        for phase in self.phases(py)? {
            if phase.cast::<PhaseReport>()?.get().id == id {
                return Ok(phase);
            }
        }
        Err(pyo3::exceptions::PyKeyError::new_err(id.to_owned()))
    }

    /// What was measured.
    #[getter]
    fn measurements(&self) -> Measurements {
        Measurements::of(&self.report)
    }

    /// The numbers of met and unmet expectations.
    #[getter]
    fn expectations(&self) -> Expectations {
        Expectations::of(&self.report)
    }

    /// All observations, in order of time.
    #[getter]
    fn timeline<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyTuple>> {
        let make = || {
            let timeline = self.report.timeline.iter().cloned().map(Observation::from);
            let timeline = timeline.map(|seen| Py::new(py, seen));
            PyResult::Ok(PyTuple::new(py, timeline.collect::<PyResult<Vec<_>>>()?)?.unbind())
        };
        Ok(self.timeline.get_or_try_init(py, make)?.bind(py))
    }

    /// The causes, the most likely and most severe one first.
    #[getter]
    fn causes(&self) -> Vec<Cause> {
        self.report.diagnosis.iter().map(Cause::from).collect()
    }

    /// Single changes of the scenario, each tried on a simulated node of its own.
    #[getter]
    fn experiments(&self) -> Vec<Experiment> {
        self.report.experiments.iter().map(Experiment::from).collect()
    }

    /// What to do, by the experiments; none where there were none.
    #[getter]
    fn advice(&self) -> Option<Advice> {
        Advice::of(&self.report)
    }

    /// What was done, in order of time.
    #[getter]
    fn acts(&self) -> Vec<Act> {
        self.report.acts.iter().map(Act::from).collect()
    }

    /// The mount tables of all actors at the end of every phase.
    #[getter]
    fn captures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_plain(py, &self.report.captures)
    }

    /// Facts of the node.
    #[getter]
    fn environment<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.report.environment.as_ref().map(|facts| to_plain(py, facts)).transpose()
    }

    /// The plan of the run.
    #[getter]
    fn plan<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_plain(py, &self.report.plan)
    }

    /// What the workloads logged: lines by the workload's name.
    #[getter]
    fn logs(&self) -> BTreeMap<&str, &[String]> {
        let logs = self.report.logs.iter();
        logs.map(|log| (log.workload.as_str(), log.lines.as_slice())).collect()
    }

    /// What was removed at the end.
    #[getter]
    fn cleanup(&self) -> Cleanup {
        (&self.report.cleanup).into()
    }

    /// The report as JSON, indented; `from_json` reads it back.
    fn to_json(&self, py: Python<'_>) -> PyResult<String> {
        let failed =
            |e: serde_json::Error| Error::from_source(ErrorKind::Internal, "write the report", e);
        py.detach(|| self.report.to_json().map_err(failed)).or_raise(py)
    }

    /// The report as dicts, lists, strings and numbers.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_plain(py, &self.report)
    }

    /// The report as a terminal shows it; with `evidence` every check with its evidence, not only those
    /// that did not pass. Lines are wrapped at `width` columns where it is given.
    #[pyo3(signature = (*, evidence = false, colour = false, width = None))]
    fn to_text(&self, evidence: bool, colour: bool, width: Option<usize>) -> String {
        let colour = if colour { Colour::Ansi } else { Colour::Plain };
        let detail = if evidence { Detail::Full } else { Detail::Normal };
        render(&self.report, Style { colour, detail, width })
    }

    /// The report as Markdown, to keep beside the decision that follows from it.
    fn to_markdown(&self) -> String {
        markdown::render(&self.report)
    }

    /// The report as one HTML page that needs nothing else, with its timeline and mount graph.
    fn to_html(&self) -> String {
        html::render(&self.report)
    }

    /// The report as JUnit XML, for CI.
    fn to_junit(&self) -> String {
        junit::render(&self.report)
    }

    /// What a notebook shows: the HTML page in its own frame, so that the styles of page and notebook do not
    /// affect each other.
    fn _repr_html_(&self) -> String {
        let page = self.to_html().replace('&', "&amp;").replace('"', "&quot;");
        format!(
            "<iframe sandbox=\"allow-same-origin\" title=\"report of run {}\" srcdoc=\"{page}\" \
             style=\"width: 100%; height: 40em; border: 0\"></iframe>",
            self.report.run_id
        )
    }

    /// The timeline as a data frame of pandas, or of polars if pandas is not installed.
    ///
    /// Raises `ImportError` when neither is installed.
    #[pyo3(signature = (library = None))]
    fn to_dataframe<'py>(
        slf: &Bound<'py, Self>,
        library: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("propagation._dataframe")?.call_method1("timeline", (slf, library))
    }

    fn __str__(&self) -> String {
        self.to_text(false, false, None)
    }

    fn __repr__(&self) -> String {
        let report = &self.report;
        format!(
            "<Report {} of run {} on {} node {} in {:.1} ms>",
            report.verdict.outcome().as_str(),
            report.run_id,
            report.backend,
            report.node,
            report.duration_ms
        )
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.report == other.report
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(&self.report.run_id, &mut hasher);
        std::hash::Hasher::finish(&hasher)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        let py = slf.py();
        let class: Bound<'py, PyType> = py.get_type::<Self>();
        Ok((class.getattr("from_json")?, (slf.get().to_json(py)?,)))
    }
}

/// `str` or `bytes`.
#[derive(FromPyObject)]
pub(crate) enum Text {
    #[pyo3(transparent, annotation = "str")]
    Text(PyBackedStr),
    #[pyo3(transparent, annotation = "bytes")]
    Bytes(PyBackedBytes),
}

impl Text {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}
