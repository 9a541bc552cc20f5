//! Scenarios as Python sees them.

use std::path::PathBuf;
use std::time::Duration;

use propagation_core::plan::{Plan, Propagation, Role, StartOrder, Volume, WorkloadSpec};
use propagation_core::{Error, scenario};
use pyo3::prelude::*;

use crate::error::{OrRaise, from_plain, invalid, to_plain};
use crate::word::Word;

/// A scenario: the node, its workloads, the fault, the recovery. Immutable.
///
/// Raises `InvalidInputError` when it is invalid.
#[pyclass(frozen, eq, module = "propagation")]
#[derive(PartialEq)]
pub(crate) struct Scenario(pub(crate) Plan);

#[pymethods]
impl Scenario {
    /// The experiment of five phases, changed by keywords.
    #[new]
    #[pyo3(signature = (*, bridge = "/tmp/fuse-test-bridge", fault = Word::Text("kill".into()),
        volume = Word::Text("bridge".into()), propagation = Word::Text("HostToContainer".into()),
        consumers = 2, producer_uid = 0, allow_other = true,
        covering = Word::Text("shared".into()), container_fuse_conf = None, timeout = 300.0))]
    #[pyo3(text_signature = "(*, bridge='/tmp/fuse-test-bridge', fault='kill', volume='bridge', \
        propagation='HostToContainer', consumers=2, producer_uid=0, allow_other=True, \
        covering='shared', container_fuse_conf=None, timeout=300.0)")]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn new(
        py: Python<'_>,
        bridge: &str,
        fault: Word<'_>,
        volume: Word<'_>,
        propagation: Word<'_>,
        consumers: u32,
        producer_uid: u32,
        allow_other: bool,
        covering: Word<'_>,
        container_fuse_conf: Option<String>,
        timeout: f64,
    ) -> PyResult<Self> {
        let volume: Volume = volume.read(py, "volume")?;
        let propagation = propagation.read(py, "propagation")?;
        let mut plan = Plan::default();
        plan.bridge.path = bridge.into();
        plan.node.covering = covering.read(py, "covering")?;
        // fusermount3 ignores a last line without an end.
        plan.node.container_fuse_conf = container_fuse_conf.map(|text| format!("{text}\n"));
        plan.fuse.allow_other = allow_other;
        plan.workloads = workloads(consumers, &volume, propagation, producer_uid);
        plan.fault = fault.read(py, "fault")?;
        plan.deadlines.run_ms = milliseconds(timeout).or_raise(py)?;
        plan.validate().or_raise(py)?;
        Ok(Self(plan))
    }

    /// Reads a scenario from what `to_dict` gives, or from what a scenario file holds.
    #[staticmethod]
    fn from_dict(mapping: &Bound<'_, PyAny>) -> PyResult<Self> {
        scenario::from_value(from_plain(mapping)?).map(Self).or_raise(mapping.py())
    }

    /// Reads a scenario from YAML, or JSON, which is YAML too; `file` is its name in errors.
    #[staticmethod]
    #[pyo3(signature = (text, file = "scenario.yaml"))]
    fn from_yaml(py: Python<'_>, text: &str, file: &str) -> PyResult<Self> {
        scenario::parse(file, text).map(Self).or_raise(py)
    }

    /// Reads a scenario file.
    #[staticmethod]
    fn from_file(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        scenario::read(&path).map(Self).or_raise(py)
    }

    /// The scenario files of a directory, by name.
    #[staticmethod]
    fn files(py: Python<'_>, directory: PathBuf) -> PyResult<Vec<PathBuf>> {
        scenario::files(&directory).or_raise(py)
    }

    /// The JSON Schema of scenario files.
    #[staticmethod]
    fn json_schema(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        to_plain(py, &scenario::json_schema())
    }

    /// Its name, if any.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// The scenario as dicts, lists, strings and numbers.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_plain(py, &self.0)
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyAny>,))> {
        let py = slf.py();
        let plain = slf.get().to_dict(py)?;
        Ok((py.get_type::<Self>().getattr("from_dict")?, (plain,)))
    }

    fn __repr__(&self) -> String {
        let plan = &self.0;
        let mut words = vec![format!("{} workloads", plan.workloads.len())];
        if plan.is_five_phases() {
            words.push(format!("fault={}", word_of(&plan.fault)));
            if let Some(consumer) = plan.with_role(Role::Consumer).next() {
                words.push(format!("volume={}", word_of(&consumer.volume)));
                words.push(format!("propagation={}", consumer.propagation));
            }
            words.push(format!("covering={}", word_of(&plan.node.covering)));
        } else {
            words.push(format!("{} steps", plan.steps.len()));
        }
        let name = plan.name.as_deref().unwrap_or("of five phases");
        format!("<Scenario {name}: {}>", words.join(", "))
    }
}

/// A value as scenario files write it.
fn word_of(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(value) => value.to_string(),
        Err(error) => error.to_string(),
    }
}

/// The producer, the consumers, half of them started before the mount, and the control.
fn workloads(
    consumers: u32,
    volume: &Volume,
    propagation: Propagation,
    producer_uid: u32,
) -> Vec<WorkloadSpec> {
    let late = consumers.div_ceil(2);
    let groups = [
        ("consumer-early", StartOrder::BeforeMount, consumers - late),
        ("consumer-late", StartOrder::AfterMount, late),
    ];
    let consumers = groups.into_iter().filter(|(.., replicas)| *replicas > 0);
    let consumers = consumers.map(|(name, order, replicas)| {
        WorkloadSpec::consumer(name, order).with(|spec| {
            spec.volume = volume.clone();
            spec.propagation = propagation;
            spec.replicas = replicas;
        })
    });
    std::iter::once(WorkloadSpec::producer().with(|spec| spec.uid = producer_uid))
        .chain(consumers)
        .chain([WorkloadSpec::control()])
        .collect()
}

/// A time in seconds, longer than 0.
pub(crate) fn duration(seconds: f64) -> Result<Duration, Error> {
    let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero());
    time.ok_or_else(|| {
        invalid(
            format!("timeout {seconds}"),
            "it is not a number of seconds above 0",
            "write seconds, such as 30 or 0.5",
        )
    })
}

fn milliseconds(seconds: f64) -> Result<u64, Error> {
    Ok(u64::try_from(duration(seconds)?.as_millis()).unwrap_or(u64::MAX))
}
