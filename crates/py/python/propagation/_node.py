"""A node and its workloads, used by hand or by a phase."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable

from propagation._errors import InvalidInputError
from propagation._wait import finish, finish_async

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from propagation._native import Calls, Job, Observation, WorkloadStatus
    from propagation._types import (
        Fault,
        Propagation,
        Role,
        Scope,
        Stale,
        Target,
        Until,
        Volume,
    )

_DEFAULT_PROPAGATION = {
    "producer": "Bidirectional",
    "consumer": "HostToContainer",
    "control": "None",
}


class _Base:
    """The calls that do not wait."""

    def __init__(self, calls: Calls | None, tell: Callable[[], None] | None) -> None:
        self._given = calls
        self._tell = tell

    @property
    def _calls(self) -> Calls:
        if self._given is None:
            raise InvalidInputError(
                "use the node", "it is not open", "use it in a with block, or call `open` before"
            )
        return self._given

    @property
    def plan(self) -> dict[str, Any]:
        """The plan of the run."""
        return self._calls.plan

    @property
    def capabilities(self) -> dict[str, list[str]]:
        """The capabilities of the node: `faults`, `repairs`, `accesses` and other `features`."""
        return self._calls.capabilities

    def check(
        self,
        id: str,
        ok: bool | None,
        *,
        expected: str,
        observed: str,
        evidence: Iterable[str] = (),
        cause: str | None = None,
        fix: str | None = None,
    ) -> None:
        """Record a check: what was expected and what was observed, in words.

        Args:
            id: its stable name within the phase.
            ok: whether it came out as expected; None when it could not be done.
            expected: what was expected.
            observed: what was observed, or why it could not be done.
            evidence: lines that show it.
            cause: why it failed, where that is known; it is then among `Report.causes`.
            fix: what to do about it.
        """
        self._calls.check(id, ok, expected, observed, list(evidence), cause, fix)

    def _start(
        self,
        role: str,
        name: str | None,
        propagation: str | None,
        volume: str | dict[str, Any],
        uid: int,
        replicas: int,
        fields: dict[str, Any],
    ) -> tuple[str, Job]:
        name = role if name is None else name
        spec = {
            "name": name,
            "role": role,
            "propagation": propagation or _DEFAULT_PROPAGATION.get(role, "None"),
            "volume": volume,
            "order": "after_mount" if role == "consumer" else "before_mount",
            "uid": uid,
            "replicas": replicas,
            **fields,
        }
        return name, self._calls.start(json.dumps(spec))

    def _observe(self, actors: Iterable[str] | str | None, target: str, uids: Iterable[int]) -> Job:
        return self._calls.observe(_names(actors), target, list(uids))


def _names(actors: Iterable[str] | str | None) -> list[str] | None:
    if actors is None:
        return None
    return [actors] if isinstance(actors, str) else list(actors)


class Node(_Base):
    """A host that runs workloads. May be used from several threads at once."""

    def _do(self, job: Job) -> Any:
        return finish(job, self._tell)

    def start(
        self,
        role: Role,
        name: str | None = None,
        *,
        propagation: Propagation | None = None,
        volume: Volume = "bridge",
        uid: int = 0,
        replicas: int = 1,
        **fields: Any,
    ) -> Workload:
        """Start a workload and return a handle on it, also a context manager that stops it.

        Args:
            role: producer, consumer or control.
            name: a DNS label, not used before in this run; the role when left out.
            propagation: how mounts propagate between it and the node; when left out Bidirectional
                for a producer, HostToContainer for a consumer, None for a control.
            volume: which directory its volume is.
            uid: as which user its program runs, and looks in scenarios.
            replicas: how many equal ones.
            fields: further keys of a workload in a scenario file, such as `supervised=True`.

        Raises:
            StartRefusedError: the runtime refused it, with its words.
        """
        name, job = self._start(role, name, propagation, volume, uid, replicas, fields)
        self._do(job)
        return Workload(self, name)

    def workload(self, name: str) -> Workload:
        """Give a handle on a workload that has been started, also by an earlier phase."""
        return Workload(self, name)

    def workloads(self) -> list[dict[str, Any]]:
        """Give the specifications of the workloads that were started and not ended."""
        specs: list[dict[str, Any]] = self._do(self._calls.workloads())
        return specs

    def observe(
        self,
        actors: Iterable[str] | str | None = None,
        *,
        target: Target = "fuse",
        uids: Iterable[int] = (0,),
    ) -> list[Observation]:
        """Look at the marker from all actors at the same time; cannot hang.

        Args:
            actors: `node`, names of workloads, `NAME#N` for replicas; the node and all workloads
                but producers when left out.
            target: `fuse` for the mount, `bridge` for the plain file beside it.
            uids: as which users; each gives an observation of its own.
        """
        seen: list[Observation] = self._do(self._observe(actors, target, uids))
        return seen

    def mounts(
        self, actors: Iterable[str] | str | None = None
    ) -> dict[str, list[dict[str, Any]] | None]:
        """Give the mount tables that actors see; None for one that has ended."""
        tables: dict[str, list[dict[str, Any]] | None] = self._do(
            self._calls.mounts(_names(actors))
        )
        return tables

    def facts(self) -> dict[str, Any]:
        """Read the facts of the node: kernel, `/dev/fuse`, fusermount3, the covering mount."""
        facts: dict[str, Any] = self._do(self._calls.facts())
        return facts

    def rebind_host(self, *, deduplicate: bool = False) -> None:
        """Bind the fresh mount over the mountpoint on the node, so that it propagates again.

        With `deduplicate` the layers that are there are taken off before.
        """
        self._do(self._calls.rebind_host(deduplicate))

    def unmount(self, *, lazy: bool = False) -> None:
        """Unmount the topmost mount at the mountpoint on the node, as umount(8) does.

        Raises:
            HostError: the kernel refuses: EBUSY while it is in use and not `lazy`.
        """
        self._do(self._calls.unmount(lazy))

    def execute(
        self, actor: str, command: Iterable[str], *, timeout: float = 30.0
    ) -> dict[str, Any]:
        """Run a program in the mount namespace of an actor, to its end; seconds are its limit.

        Returns how it ended and the first 64 KiB of what it printed. A container has the programs
        of the host only when a step of the scenario runs one in it, or its daemon is one of them;
        elsewhere the program is not found (status 127). The actor `node` always has them.
        """
        job = self._calls.execute(actor, list(command), timeout)
        executed: dict[str, Any] = self._do(job)
        return executed

    def now_us(self) -> int:
        """Microseconds since the start of the run, on the clock of observations."""
        now: int = self._do(self._calls.now_us())
        return now


class Workload:
    """A handle on one pod-like thing on a node. May be used from several threads at once."""

    def __init__(self, node: Node, name: str) -> None:
        self.node = node
        self.name = name

    def __repr__(self) -> str:
        return f"<Workload {self.name}>"

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    def status(self) -> WorkloadStatus:
        """Say what is known of it from its own reports. Never blocks on the mount."""
        status: WorkloadStatus = self.node._do(self.node._calls.status(self.name))
        return status

    def wait(
        self, until: Until, *, generation: int | None = None, timeout: float = 30.0
    ) -> WorkloadStatus:
        """Wait for something that its own program reports.

        Args:
            until: `mounted` for a producer that serves; `fresh` for a consumer that has read the
                marker of a generation; `breakage` for one that has noticed that it cannot; `ended`.
            generation: which generation is fresh; the present one when left out.
            timeout: in seconds.

        Raises:
            DeadlineError: it did not happen in time, with what was seen last.
            HostError: it cannot happen any more, because the program has ended.
        """
        job = self.node._calls.wait(self.name, until, generation, timeout)
        status: WorkloadStatus = self.node._do(job)
        return status

    def observe(self, *, target: Target = "fuse", uid: int = 0) -> Observation:
        """Look at the marker from inside it."""
        return self.node.observe(self.name, target=target, uids=[uid])[0]

    def mounts(self) -> list[dict[str, Any]] | None:
        """Give the mount table that it sees; None when it has ended."""
        return self.node.mounts(self.name)[self.name]

    def inject(self, fault: Fault = "kill") -> str:
        """Do a fault to it; returns when it has provably happened, with the evidence."""
        evidence: str = self.node._do(self.node._calls.inject(self.name, fault))
        return evidence

    def restart(self, *, scope: Scope = "container", stale: Stale | None = None) -> None:
        """End what runs of it and start it again. A producer then serves a new generation.

        Args:
            scope: its daemon under a supervisor, its container, or its whole pod.
            stale: what a producer does with dead mounts on its mountpoint, if not what it was
                started with: `unmount` takes them off, `stack` mounts on top, `fail` fails.

        Raises:
            StartRefusedError: the runtime refused it, with its words.
        """
        self.node._do(self.node._calls.restart(self.name, scope, stale))

    def hand_over(self) -> None:
        """Let a successor take over the `/dev/fuse` descriptor that a keeper holds.

        For a producer with a keeper (`fuse={"keeper": True}`) whose daemon has ended; the mount
        goes on, with a new generation.
        """
        self.node._do(self.node._calls.hand_over(self.name))

    def rebind(self) -> None:
        """Replace the stale mount in its mount namespace by the node's fresh one."""
        self.node._do(self.node._calls.rebind(self.name))

    def reconnect(self) -> None:
        """Make its private volume a slave of the node's mount: later mounts propagate to it.

        Raises:
            HostError: the kernel refuses it, with the reason.
        """
        self.node._do(self.node._calls.reconnect(self.name))

    def log(self) -> list[str]:
        """Give the lines that its program has logged."""
        lines: list[str] = self.node._do(self.node._calls.log(self.name))
        return lines

    def stop(self) -> None:
        """End it; does nothing when it has ended."""
        self.node._do(self.node._calls.stop(self.name))


class AsyncNode(_Base):
    """A host that runs workloads, in an event loop; otherwise as `Node`."""

    async def _do(self, job: Job) -> Any:
        return await finish_async(job, self._tell)

    async def start(
        self,
        role: Role,
        name: str | None = None,
        *,
        propagation: Propagation | None = None,
        volume: Volume = "bridge",
        uid: int = 0,
        replicas: int = 1,
        **fields: Any,
    ) -> AsyncWorkload:
        """Start a workload and return a handle on it; see `Node.start`."""
        name, job = self._start(role, name, propagation, volume, uid, replicas, fields)
        await self._do(job)
        return AsyncWorkload(self, name)

    def workload(self, name: str) -> AsyncWorkload:
        """Give a handle on a workload that has been started, also by an earlier phase."""
        return AsyncWorkload(self, name)

    async def workloads(self) -> list[dict[str, Any]]:
        """Give the specifications of the workloads that were started and not ended."""
        specs: list[dict[str, Any]] = await self._do(self._calls.workloads())
        return specs

    async def observe(
        self,
        actors: Iterable[str] | str | None = None,
        *,
        target: Target = "fuse",
        uids: Iterable[int] = (0,),
    ) -> list[Observation]:
        """Look at the marker from all actors at the same time; see `Node.observe`."""
        seen: list[Observation] = await self._do(self._observe(actors, target, uids))
        return seen

    async def mounts(
        self, actors: Iterable[str] | str | None = None
    ) -> dict[str, list[dict[str, Any]] | None]:
        """Give the mount tables that actors see; None for one that has ended."""
        tables: dict[str, list[dict[str, Any]] | None] = await self._do(
            self._calls.mounts(_names(actors))
        )
        return tables

    async def facts(self) -> dict[str, Any]:
        """Read the facts of the node: kernel, `/dev/fuse`, fusermount3, the covering mount."""
        facts: dict[str, Any] = await self._do(self._calls.facts())
        return facts

    async def rebind_host(self, *, deduplicate: bool = False) -> None:
        """Bind the fresh mount over the mountpoint on the node, so that it propagates again.

        With `deduplicate` the layers that are there are taken off before.
        """
        await self._do(self._calls.rebind_host(deduplicate))

    async def unmount(self, *, lazy: bool = False) -> None:
        """Unmount the topmost mount at the mountpoint on the node, as umount(8) does.

        Raises:
            HostError: the kernel refuses: EBUSY while it is in use and not `lazy`.
        """
        await self._do(self._calls.unmount(lazy))

    async def execute(
        self, actor: str, command: Iterable[str], *, timeout: float = 30.0
    ) -> dict[str, Any]:
        """Run a program in the mount namespace of an actor, to its end; seconds are its limit.

        Returns how it ended and the first 64 KiB of what it printed. A container has the programs
        of the host only when a step of the scenario runs one in it, or its daemon is one of them;
        elsewhere the program is not found (status 127). The actor `node` always has them.
        """
        job = self._calls.execute(actor, list(command), timeout)
        executed: dict[str, Any] = await self._do(job)
        return executed

    async def now_us(self) -> int:
        """Microseconds since the start of the run, on the clock of observations."""
        now: int = await self._do(self._calls.now_us())
        return now


class AsyncWorkload:
    """A handle on one pod-like thing on a node, in an event loop; otherwise as `Workload`."""

    def __init__(self, node: AsyncNode, name: str) -> None:
        self.node = node
        self.name = name

    def __repr__(self) -> str:
        return f"<AsyncWorkload {self.name}>"

    async def __aenter__(self) -> Self:
        """Give itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        await self.stop()

    async def status(self) -> WorkloadStatus:
        """Say what is known of it from its own reports. Never blocks on the mount."""
        status: WorkloadStatus = await self.node._do(self.node._calls.status(self.name))
        return status

    async def wait(
        self, until: Until, *, generation: int | None = None, timeout: float = 30.0
    ) -> WorkloadStatus:
        """Wait for something that its own program reports; see `Workload.wait`."""
        job = self.node._calls.wait(self.name, until, generation, timeout)
        status: WorkloadStatus = await self.node._do(job)
        return status

    async def observe(self, *, target: Target = "fuse", uid: int = 0) -> Observation:
        """Look at the marker from inside it."""
        return (await self.node.observe(self.name, target=target, uids=[uid]))[0]

    async def mounts(self) -> list[dict[str, Any]] | None:
        """Give the mount table that it sees; None when it has ended."""
        return (await self.node.mounts(self.name))[self.name]

    async def inject(self, fault: Fault = "kill") -> str:
        """Do a fault to it; returns when it has provably happened, with the evidence."""
        evidence: str = await self.node._do(self.node._calls.inject(self.name, fault))
        return evidence

    async def restart(self, *, scope: Scope = "container", stale: Stale | None = None) -> None:
        """Start it again; see `Workload.restart`."""
        await self.node._do(self.node._calls.restart(self.name, scope, stale))

    async def hand_over(self) -> None:
        """Let a successor take over the `/dev/fuse` descriptor that a keeper holds.

        For a producer with a keeper (`fuse={"keeper": True}`) whose daemon has ended; the mount
        goes on, with a new generation.
        """
        await self.node._do(self.node._calls.hand_over(self.name))

    async def rebind(self) -> None:
        """Replace the stale mount in its mount namespace by the node's fresh one."""
        await self.node._do(self.node._calls.rebind(self.name))

    async def reconnect(self) -> None:
        """Make its private volume a slave of the node's mount: later mounts propagate to it.

        Raises:
            HostError: the kernel refuses it, with the reason.
        """
        await self.node._do(self.node._calls.reconnect(self.name))

    async def log(self) -> list[str]:
        """Give the lines that its program has logged."""
        lines: list[str] = await self.node._do(self.node._calls.log(self.name))
        return lines

    async def stop(self) -> None:
        """End it; does nothing when it has ended."""
        await self.node._do(self.node._calls.stop(self.name))
