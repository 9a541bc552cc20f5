"""Whether a FUSE mount made in one container can be used from another.

What happens when its producer dies, and what brings it back? Answered with evidence::

    import propagation

    report = propagation.run()
    print(report)
    for cause in report.causes:
        print(cause.title, "->", cause.fix.command or cause.fix.words)
    report.raise_for_outcome()

No root and no cluster: the containers are real mount namespaces on this machine's kernel, and what
they run is inside this package. With ``backend="k8s"`` they are pods on a node of a cluster.

Times are in milliseconds or microseconds as their names say; timeouts are in seconds.
"""

from __future__ import annotations

from propagation._by_hand import AsyncK8sNode, AsyncLocalNode, K8sNode, LocalNode
from propagation._compare import compare, compare_async
from propagation._errors import (
    AgentVersionError,
    CancelledError,
    DeadlineError,
    DisconnectedError,
    Error,
    HostError,
    InternalError,
    InvalidInputError,
    OutcomeError,
    StartRefusedError,
    UnsupportedError,
)
from propagation._matrix import Cell, matrix, matrix_async
from propagation._native import VERSION as __version__
from propagation._native import (
    Act,
    Advice,
    Answer,
    Cause,
    Check,
    Checked,
    Cleaned,
    Cleanup,
    Comparison,
    Decided,
    Expectations,
    Experiment,
    Fix,
    K8sBackend,
    Measurements,
    NodeReady,
    Observation,
    Observed,
    PhaseEnded,
    PhaseReport,
    PhaseStarted,
    Report,
    Scenario,
    Verdict,
    WorkloadStatus,
)
from propagation._node import AsyncNode, AsyncWorkload, Node, Workload
from propagation._phase import FIVE_PHASES, AsyncPhase, Phase
from propagation._run import AsyncRun, Run, run, run_async, start, start_async
from propagation._types import Event, Observer, Outcome

__all__ = [
    "FIVE_PHASES",
    "Act",
    "Advice",
    "AgentVersionError",
    "Answer",
    "AsyncK8sNode",
    "AsyncLocalNode",
    "AsyncNode",
    "AsyncPhase",
    "AsyncRun",
    "AsyncWorkload",
    "CancelledError",
    "Cause",
    "Cell",
    "Check",
    "Checked",
    "Cleaned",
    "Cleanup",
    "Comparison",
    "DeadlineError",
    "Decided",
    "DisconnectedError",
    "Error",
    "Event",
    "Expectations",
    "Experiment",
    "Fix",
    "HostError",
    "InternalError",
    "InvalidInputError",
    "K8sBackend",
    "K8sNode",
    "LocalNode",
    "Measurements",
    "Node",
    "NodeReady",
    "Observation",
    "Observed",
    "Observer",
    "Outcome",
    "OutcomeError",
    "Phase",
    "PhaseEnded",
    "PhaseReport",
    "PhaseStarted",
    "Report",
    "Run",
    "Scenario",
    "StartRefusedError",
    "UnsupportedError",
    "Verdict",
    "Workload",
    "WorkloadStatus",
    "__version__",
    "compare",
    "compare_async",
    "matrix",
    "matrix_async",
    "run",
    "run_async",
    "start",
    "start_async",
]
