"""The words of the vocabulary, as types."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Literal, TypedDict, Union

from propagation import _native

Event = Union[
    _native.NodeReady,
    _native.PhaseStarted,
    _native.Checked,
    _native.Observed,
    _native.PhaseEnded,
    _native.Decided,
    _native.Cleaned,
]
"""An event of a run."""

Observer = Callable[[Event], object]
"""Takes the events of a run. An exception in it cancels the run and is raised from there."""

Outcome = Literal[
    "full_success",
    "partial_success",
    "fundamental_failure",
    "as_expected",
    "otherwise",
    "skipped",
    "inconclusive",
]
"""The first three belong to the five phases, the next three to other steps."""
Status = Literal["passed", "failed", "skipped", "errored"]
FaultName = Literal[
    "kill",
    "terminate",
    "delete",
    "force_delete",
    "exit",
    "kill_parent",
    "stop",
    "continue",
    "abort",
    "unmount",
    "lazy_unmount",
    "oom",
]
Fault = Union[FaultName, dict[str, Any]]
"""A fault; `{"slow": 250}` (milliseconds) and `{"errors": "EIO"}` carry a value."""
Propagation = Literal["None", "HostToContainer", "Bidirectional"]
Role = Literal["producer", "consumer", "control"]
VolumeName = Literal["bridge", "mountpoint", "ancestor", "file"]
Volume = Union[VolumeName, dict[str, Any]]
"""A volume; `{"path": "/srv"}` is any directory of the node."""
Covering = Literal["shared", "slave", "private"]
Until = Literal["mounted", "fresh", "breakage", "ended"]
Target = Literal["fuse", "bridge"]
TransportName = Literal[
    "native",
    "fuse",
    "fuse-passthrough",
    "daemon",
    "smb-rclone",
    "smb-smbnetfs",
    "smb-cifs",
    "nfs",
    "fuse-smb-rclone",
    "fuse-smb-cifs",
    "fuse-nfs",
]
TransportWorkload = Literal["sequential", "play", "seek", "scan", "open", "write", "many", "die"]
Scope = Literal["daemon", "container", "pod"]
Stale = Literal["unmount", "stack", "fail"]
Access = Literal["found", "ssh", "pod"]
Experiments = Union[float, Literal["all", "off"]]
AnyBackend = Union[Literal["local", "k8s"], _native.K8sBackend]


class Options(TypedDict, total=False):
    """The keywords of a scenario."""

    bridge: str
    fault: Fault
    volume: Volume
    propagation: Propagation
    consumers: int
    producer_uid: int
    allow_other: bool
    covering: Covering
    container_fuse_conf: str | None
    timeout: float


class ClusterOptions(Options, total=False):
    """The keywords of a cluster, as for `K8sBackend`, and of a scenario."""

    kubeconfig: str | os.PathLike[str] | None
    context: str | None
    node: str | None
    namespace: str | None
    image: str | None
    access: Access
    ssh_config: str | os.PathLike[str] | None
    ssh_user: str | None
    ssh_domain: str | None
    import_image: bool
    program_image: str | None
    tolerations: Sequence[str]
    apply: bool


if TYPE_CHECKING:
    ScenarioLike = Union[_native.Scenario, Mapping[str, Any], str, os.PathLike[str]]
