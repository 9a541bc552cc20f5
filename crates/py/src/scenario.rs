//! What is to be run.

use std::time::Duration;

use propagation_core::Error;
use propagation_core::plan::{
    Bridge, Deadlines, NodeSpec, Plan, Propagation, StartOrder, Volume, WorkloadSpec,
};
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::calls::named;
use crate::error::{OrRaise, invalid, to_plain};
use crate::report::Text;

/// What is to be run: the node, the workloads on it, the fault, the recovery. Does not change.
///
/// Raises `InvalidInputError` when it cannot be run at all.
#[pyclass(frozen, eq, module = "propagation")]
#[derive(PartialEq)]
pub(crate) struct Scenario(pub(crate) Plan);

impl Scenario {
    fn checked(plan: Plan) -> Result<Self, Error> {
        plan.validate()?;
        Ok(Self(plan))
    }
}

#[pymethods]
impl Scenario {
    /// The experiment of five phases, with what is said otherwise by keyword.
    #[new]
    #[pyo3(signature = (*, bridge = "/tmp/fuse-test-bridge", fault = "kill", volume = "bridge",
        propagation = "HostToContainer", consumers = 2, producer_uid = 0, allow_other = true,
        covering = "shared", container_fuse_conf = None, timeout = 300.0))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn new(
        py: Python<'_>,
        bridge: &str,
        fault: &str,
        volume: &str,
        propagation: &str,
        consumers: u32,
        producer_uid: u32,
        allow_other: bool,
        covering: &str,
        container_fuse_conf: Option<String>,
        timeout: f64,
    ) -> PyResult<Self> {
        let plan = || {
            let volume = named("volume", volume)?;
            let propagation = named("propagation", propagation)?;
            Self::checked(Plan {
                bridge: Bridge { path: bridge.into(), ..Bridge::default() },
                node: NodeSpec {
                    covering: named("covering", covering)?,
                    // fusermount3 ignores a last line without an end.
                    container_fuse_conf: container_fuse_conf.map(|text| format!("{text}\n")),
                    ..NodeSpec::default()
                },
                workloads: workloads(consumers, volume, propagation, producer_uid),
                fault: named("fault", fault)?,
                allow_other,
                deadlines: Deadlines { run_ms: milliseconds(timeout)?, ..Deadlines::default() },
                ..Plan::default()
            })
        };
        plan().or_raise(py)
    }

    /// Reads a scenario from JSON, as text or bytes.
    #[classmethod]
    fn from_json(class: &Bound<'_, PyType>, json: Text) -> PyResult<Self> {
        let plan: Result<Plan, Error> = serde_json::from_slice(json.bytes()).map_err(|error| {
            let fix = "compare it with what `Scenario().to_dict()` gives";
            invalid("read the scenario", error.to_string(), fix)
        });
        plan.and_then(Self::checked).or_raise(class.py())
    }

    /// Reads a scenario from what `to_dict` gives.
    #[classmethod]
    fn from_dict(class: &Bound<'_, PyType>, mapping: &Bound<'_, PyAny>) -> PyResult<Self> {
        let json = class.py().import("json")?.call_method1("dumps", (mapping,))?;
        Self::from_json(class, json.extract()?)
    }

    /// The scenario as dicts, lists, strings and numbers.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_plain(py, &self.0)
    }

    fn __repr__(&self) -> String {
        let plan = &self.0;
        format!(
            "<Scenario on {:?}: {} workloads, {}>",
            plan.bridge.path,
            plan.workloads.len(),
            plan.fault
        )
    }
}

/// The producer, the consumers, half of them started before the mount, and the control.
fn workloads(
    consumers: u32,
    volume: Volume,
    propagation: Propagation,
    producer_uid: u32,
) -> Vec<WorkloadSpec> {
    let late = consumers.div_ceil(2);
    let groups = [
        ("consumer-early", StartOrder::BeforeMount, consumers - late),
        ("consumer-late", StartOrder::AfterMount, late),
    ];
    let consumers = groups.into_iter().filter(|(.., replicas)| *replicas > 0);
    let consumers = consumers.map(|(name, order, replicas)| WorkloadSpec {
        volume,
        propagation,
        replicas,
        ..WorkloadSpec::consumer(name, order)
    });
    std::iter::once(WorkloadSpec { uid: producer_uid, ..WorkloadSpec::producer() })
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
