//! The calls of a phase in Python.

use std::time::Duration;

use propagation_core::node::Target;
use propagation_core::plan::{Fault, Plan, WorkloadSpec};
use propagation_core::program::Attach;
use propagation_core::report::{Check, CheckId, Finding, Status};
use propagation_core::workload::{Restart, RestartScope, Until};
use propagation_core::{Capabilities, Error, ErrorKind, scenario};
use pyo3::prelude::*;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::{OrRaise, invalid, other_process, to_plain};
use crate::job::{Completion, Job};
use crate::word::Word;

/// What Python sends to the phase that it carries out.
pub(crate) enum Request {
    Check(Check),
    End(Result<(), Error>),
    Call { call: Call, cancellation: CancellationToken, completion: Completion },
}

/// Something that has an answer.
pub(crate) enum Call {
    Start(Box<WorkloadSpec>),
    Observe { actors: Option<Vec<String>>, target: Target, uids: Vec<u32> },
    Mounts(Option<Vec<String>>),
    Facts,
    RebindHost { deduplicate: bool },
    Unmount { lazy: bool },
    Execute { actor: String, command: Vec<String>, deadline: Duration },
    Workloads,
    NowUs,
    Workload { name: String, call: WorkloadCall },
}

/// Something that concerns one workload.
#[derive(Clone)]
pub(crate) enum WorkloadCall {
    Status,
    Wait { until: Condition, deadline: Duration },
    Inject(Fault),
    Restart(Restart),
    HandOver,
    Attach(Attach),
    Log,
    Stop,
}

/// The awaited condition, before the current generation is known.
#[derive(Clone)]
pub(crate) enum Condition {
    Fresh,
    Until(Until),
}

impl Condition {
    fn parse(word: &str, generation: Option<u64>) -> Result<Self, Error> {
        Ok(match (word, generation) {
            ("fresh", None) => Self::Fresh,
            ("fresh", Some(generation)) => Self::Until(Until::SeesGeneration(generation)),
            ("mounted", _) => Self::Until(Until::Mounted),
            ("breakage", _) => Self::Until(Until::SeesBreakage),
            ("ended", _) => Self::Until(Until::Ended),
            _ => {
                return Err(invalid(
                    format!("wait until {word:?}"),
                    "unknown condition",
                    "use mounted, fresh, breakage or ended",
                ));
            }
        })
    }

    pub(crate) fn resolve(self, present: Result<u64, Error>) -> Result<Until, Error> {
        match self {
            Self::Fresh => Ok(Until::SeesGeneration(present?)),
            Self::Until(until) => Ok(until),
        }
    }
}

struct Inner {
    requests: mpsc::UnboundedSender<Request>,
    plan: Plan,
    capabilities: Capabilities,
}

/// What a phase in Python can do. Everything that has an answer gives a `Job`.
#[pyclass(frozen, module = "propagation._native")]
pub(crate) struct Calls {
    /// There until the drop.
    inner: Option<Inner>,
    process: u32,
}

impl Calls {
    pub(crate) fn new(
        requests: mpsc::UnboundedSender<Request>,
        plan: Plan,
        capabilities: Capabilities,
    ) -> Self {
        Self { inner: Some(Inner { requests, plan, capabilities }), process: std::process::id() }
    }

    fn inner(&self) -> Result<&Inner, Error> {
        let own = self.inner.as_ref().filter(|_| self.process == std::process::id());
        own.ok_or_else(|| other_process(self.process))
    }

    fn send(&self, request: Request) -> Result<(), Error> {
        self.inner()?.requests.send(request).map_err(|_| {
            Error::new(ErrorKind::Cancelled, "use the node", "its run has ended")
                .with_fix("use it inside the phase or the with block it belongs to")
        })
    }

    fn call(&self, py: Python<'_>, call: Call) -> PyResult<Job> {
        let cancellation = CancellationToken::new();
        let (job, _, completion) = Job::new(cancellation.clone()).or_raise(py)?;
        self.send(Request::Call { call, cancellation, completion }).or_raise(py)?;
        Ok(job)
    }

    fn on(&self, py: Python<'_>, name: String, call: WorkloadCall) -> PyResult<Job> {
        self.call(py, Call::Workload { name, call })
    }
}

#[pymethods]
impl Calls {
    /// The plan of the run.
    #[getter]
    fn plan<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_plain(py, &self.inner().or_raise(py)?.plan)
    }

    /// What can be asked of the node.
    #[getter]
    fn capabilities<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_plain(py, &self.inner().or_raise(py)?.capabilities)
    }

    /// Records a check of the phase; `ok` of none means that it was skipped.
    #[pyo3(signature = (id, ok, expected, observed, evidence, cause, fix))]
    #[expect(clippy::too_many_arguments, reason = "the fields of a check")]
    fn check(
        &self,
        py: Python<'_>,
        id: String,
        ok: Option<bool>,
        expected: String,
        observed: String,
        evidence: Vec<String>,
        cause: Option<String>,
        fix: Option<String>,
    ) -> PyResult<()> {
        let status = match ok {
            Some(true) => Status::Passed,
            Some(false) => Status::Failed,
            None => Status::Skipped,
        };
        let finding = match (cause, fix) {
            (None, None) => None,
            (cause, fix) => Some(Finding {
                cause: cause.unwrap_or_else(|| observed.clone()),
                fix: fix.unwrap_or_default(),
            }),
        };
        let id = CheckId::from(id.as_str());
        let mut check = Check::new(id, true, expected, observed).with_evidence(evidence);
        check.status = status;
        check.finding = finding;
        self.send(Request::Check(check)).or_raise(py)
    }

    /// Ends the phase; with the parts of an error when it could not be carried out.
    #[pyo3(signature = (error = None))]
    fn end(
        &self,
        py: Python<'_>,
        error: Option<(String, String, String, Option<String>)>,
    ) -> PyResult<()> {
        let result = match error {
            None => Ok(()),
            Some((kind, operation, reason, fix)) => {
                let kind = ErrorKind::from_name(&kind).unwrap_or(ErrorKind::Internal);
                let error = Error::new(kind, operation, reason);
                Err(match fix {
                    Some(fix) => error.with_fix(fix),
                    None => error,
                })
            }
        };
        match self.send(Request::End(result)) {
            // The run has ended the phase before: it was cancelled, or its time was up.
            Err(error) if error.kind() == ErrorKind::Cancelled => Ok(()),
            ended => ended.or_raise(py),
        }
    }

    /// Starts a workload, given as JSON.
    fn start(&self, py: Python<'_>, spec: &str) -> PyResult<Job> {
        let read = |error: serde_json::Error| {
            Error::from_source(ErrorKind::Internal, "read a workload", error)
        };
        let value = serde_json::from_str(spec).map_err(read).or_raise(py)?;
        let spec: WorkloadSpec = scenario::part("start a workload", value).or_raise(py)?;
        self.call(py, Call::Start(Box::new(spec)))
    }

    /// Looks from actors, or from all of them.
    fn observe(
        &self,
        py: Python<'_>,
        actors: Option<Vec<String>>,
        target: &str,
        uids: Vec<u32>,
    ) -> PyResult<Job> {
        let target = match target {
            "fuse" => Ok(Target::Fuse),
            "bridge" => Ok(Target::Bridge),
            _ => {
                Err(invalid(format!("look at {target:?}"), "unknown target", "use fuse or bridge"))
            }
        };
        self.call(py, Call::Observe { actors, target: target.or_raise(py)?, uids })
    }

    /// The mount tables of actors, or of all of them.
    fn mounts(&self, py: Python<'_>, actors: Option<Vec<String>>) -> PyResult<Job> {
        self.call(py, Call::Mounts(actors))
    }

    /// The facts of the node.
    fn facts(&self, py: Python<'_>) -> PyResult<Job> {
        self.call(py, Call::Facts)
    }

    /// Binds the fresh mount over the mountpoint on the node.
    fn rebind_host(&self, py: Python<'_>, deduplicate: bool) -> PyResult<Job> {
        self.call(py, Call::RebindHost { deduplicate })
    }

    /// Unmounts the topmost mount at the mountpoint on the node.
    fn unmount(&self, py: Python<'_>, lazy: bool) -> PyResult<Job> {
        self.call(py, Call::Unmount { lazy })
    }

    /// Runs a program in the mount namespace of an actor, to its end.
    fn execute(
        &self,
        py: Python<'_>,
        actor: String,
        command: Vec<String>,
        timeout: f64,
    ) -> PyResult<Job> {
        let deadline = crate::scenario::duration(timeout).or_raise(py)?;
        self.call(py, Call::Execute { actor, command, deadline })
    }

    /// The workloads that run.
    fn workloads(&self, py: Python<'_>) -> PyResult<Job> {
        self.call(py, Call::Workloads)
    }

    /// Microseconds since the start of the run.
    fn now_us(&self, py: Python<'_>) -> PyResult<Job> {
        self.call(py, Call::NowUs)
    }

    /// The reported state of a workload.
    fn status(&self, py: Python<'_>, name: String) -> PyResult<Job> {
        self.on(py, name, WorkloadCall::Status)
    }

    /// Waits for a condition of a workload.
    fn wait(
        &self,
        py: Python<'_>,
        name: String,
        until: &str,
        generation: Option<u64>,
        timeout: f64,
    ) -> PyResult<Job> {
        let until = Condition::parse(until, generation).or_raise(py)?;
        let deadline = crate::scenario::duration(timeout).or_raise(py)?;
        self.on(py, name, WorkloadCall::Wait { until, deadline })
    }

    /// Does a fault to a workload.
    fn inject(&self, py: Python<'_>, name: String, fault: Word<'_>) -> PyResult<Job> {
        let fault: Fault = fault.read(py, "fault")?;
        self.on(py, name, WorkloadCall::Inject(fault))
    }

    /// Starts a workload again: its daemon, its container or its pod.
    fn restart(
        &self,
        py: Python<'_>,
        name: String,
        scope: &str,
        stale: Option<Word<'_>>,
    ) -> PyResult<Job> {
        let scope = match scope {
            "daemon" => Ok(RestartScope::Daemon),
            "container" => Ok(RestartScope::Container),
            "pod" => Ok(RestartScope::Pod),
            _ => {
                let fix = "use daemon, container or pod";
                Err(invalid(format!("restart the {scope:?}"), "unknown scope", fix))
            }
        };
        let scope = scope.or_raise(py)?;
        let stale = stale.map(|word| word.read(py, "stale")).transpose()?;
        self.on(py, name, WorkloadCall::Restart(Restart { scope, stale }))
    }

    /// Lets a successor take over the descriptor that a keeper holds.
    fn hand_over(&self, py: Python<'_>, name: String) -> PyResult<Job> {
        self.on(py, name, WorkloadCall::HandOver)
    }

    /// Replaces the stale mount in a workload's mount namespace by the fresh one.
    fn rebind(&self, py: Python<'_>, name: String) -> PyResult<Job> {
        self.on(py, name, WorkloadCall::Attach(Attach::Rebind))
    }

    /// Makes a workload's private volume a slave of the node's mount.
    fn reconnect(&self, py: Python<'_>, name: String) -> PyResult<Job> {
        self.on(py, name, WorkloadCall::Attach(Attach::Reconnect))
    }

    /// What a workload's program has logged.
    fn log(&self, py: Python<'_>, name: String) -> PyResult<Job> {
        self.on(py, name, WorkloadCall::Log)
    }

    /// Ends a workload.
    fn stop(&self, py: Python<'_>, name: String) -> PyResult<Job> {
        self.on(py, name, WorkloadCall::Stop)
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let inner = self.inner.take();
        if self.process != std::process::id() {
            // A fork: what wakes the receiver is the parent's.
            std::mem::forget(inner);
        }
    }
}
