"""What the tests share: one body for both faces of the package, skips that count, leftovers."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Callable, TypeVar

import pytest

import propagation

T = TypeVar("T")
Body = Callable[[Any], Awaitable[None]]


class SyncFace:
    """The synchronous functions, so that they can be awaited."""

    name = "sync"

    def drive(self, body: Coroutine[Any, Any, T]) -> T:
        """Run a body in which nothing ever waits for an event loop: there is none."""
        try:
            body.send(None)
        except StopIteration as end:
            value: T = end.value
            return value
        raise AssertionError("the body waited for an event loop")

    async def run(self, *args: Any, **kwargs: Any) -> propagation.Report:
        return propagation.run(*args, **kwargs)

    async def matrix(self, **axes: Any) -> list[propagation.Cell]:
        return list(propagation.matrix(**axes))

    @asynccontextmanager
    async def start(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        with propagation.start(*args, **kwargs) as run:
            yield _Awaitable(run)

    def unopened(self) -> Any:
        return _Awaitable(propagation.LocalNode())

    @asynccontextmanager
    async def node(self, *args: Any, kind: str = "LocalNode", **kwargs: Any) -> AsyncIterator[Any]:
        with getattr(propagation, kind)(*args, **kwargs) as node:
            yield _Awaitable(node)

    def phase(
        self, id: str, requires: tuple[str, ...], body: Callable[[Any], Awaitable[None]]
    ) -> Any:
        face = self

        class Own:
            def run(self, node: propagation.Node) -> None:
                face.drive(_call(body, _Awaitable(node)))

        return _with(Own(), id, requires)


class AsyncFace:
    """The asynchronous functions."""

    name = "async"

    def drive(self, body: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(body)

    async def run(self, *args: Any, **kwargs: Any) -> propagation.Report:
        return await propagation.run_async(*args, **kwargs)

    async def matrix(self, **axes: Any) -> list[propagation.Cell]:
        return [cell async for cell in propagation.matrix_async(**axes)]

    def start(self, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[Any]:
        return propagation.start_async(*args, **kwargs)

    def unopened(self) -> Any:
        return propagation.AsyncLocalNode()

    def node(
        self, *args: Any, kind: str = "LocalNode", **kwargs: Any
    ) -> AbstractAsyncContextManager[Any]:
        node: AbstractAsyncContextManager[Any] = getattr(propagation, f"Async{kind}")(
            *args, **kwargs
        )
        return node

    def phase(
        self, id: str, requires: tuple[str, ...], body: Callable[[Any], Awaitable[None]]
    ) -> Any:
        class Own:
            async def run(self, node: propagation.AsyncNode) -> None:
                await body(node)

        return _with(Own(), id, requires)


def _with(phase: Any, id: str, requires: tuple[str, ...]) -> Any:
    phase.id = id
    phase.requires = requires
    return phase


async def _call(body: Body, node: Any) -> None:
    await body(node)


class _Awaitable:
    """A synchronous object whose methods can be awaited and which can be iterated over so."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value) or name in ("check", "workload", "cancel"):
            return self._wrapped(value)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return self._wrapped(value(*args, **kwargs))

        return call

    @staticmethod
    def _wrapped(value: Any) -> Any:
        if isinstance(value, propagation.Workload):
            return _Awaitable(value)
        if inspect.ismethod(value) and value.__name__ == "workload":
            return lambda name: _Awaitable(value(name))
        return value

    async def __aenter__(self) -> _Awaitable:
        self._inner.__enter__()
        return self

    async def __aexit__(self, *args: Any) -> None:
        self._inner.__exit__(*args)

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self._inner:
            yield item


@pytest.fixture(params=[SyncFace(), AsyncFace()], ids=lambda face: str(face.name))
def face(request: pytest.FixtureRequest) -> Any:
    """Both faces of the package; a test that takes it is a coroutine and is run for each."""
    return request.param


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutines with the face that they take."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {
        name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters
    }
    face: Any = arguments["face"]
    face.drive(pyfuncitem.obj(**arguments))
    return True


STEPS = """
name: clean-unmount
workloads:
  - {name: producer, role: producer}
  - {name: early, role: consumer, order: before_mount}
steps:
  - start: all
    expect: {early: ok}
  - fault: terminate
    expect: {early: absent, node: absent}
  - repair: remount
    expect: {early: ok}
"""


def impatient(**options: Any) -> dict[str, Any]:
    """Give a scenario that does not wait long for what will not happen."""
    plain = propagation.Scenario(**options).to_dict()
    plain["deadlines"].update(marker_ms=300, recovery_ms=300, breakage_ms=1000, probe_ms=300)
    return plain


def absent(what: str, reason: str) -> None:
    """Skip because of `reason`, or fail where `what` is required (`PROPAGATION_REQUIRE`).

    The words are those of the Rust tests; `python` is whatever these tests need beside the module.
    """
    if what not in ("local", "root", "k8s", "python"):
        pytest.fail(f"{what!r} is no word of PROPAGATION_REQUIRE ({reason})")
    required = os.environ.get("PROPAGATION_REQUIRE", "").replace(",", " ").split()
    if what in required or "all" in required:
        pytest.fail(f"{what} is required here: {reason}")
    pytest.skip(f"{what}: {reason}")


@pytest.fixture
def local() -> None:
    """Skip where no simulated node can be made."""
    if sys.platform != "linux":
        absent("local", "it needs Linux")
    if not Path("/dev/fuse").exists():
        absent("local", "there is no /dev/fuse")


@pytest.fixture
def root() -> None:
    """Skip for ordinary users: only root can make such a host."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        absent("root", "only root can make such a host")


class Cluster:
    """A cluster to test with; its last node is used."""

    def __init__(self, ssh_config: str, nodes: list[str]) -> None:
        self.ssh = [program("ssh"), "-F", ssh_config]
        self.nodes = nodes
        self.options: dict[str, Any] = {
            "node": nodes[-1],
            "access": "ssh",
            "ssh_config": ssh_config,
        }
        self.backend = propagation.K8sBackend(**self.options)

    def left(self) -> str:
        """Say what runs have left, in the cluster and on its nodes."""
        ours = "app.kubernetes.io/managed-by=propagation,propagation/run-id"
        found = kubectl("get", "namespaces", "--output", "name", "--selector", ours).stdout
        look = (
            "ls -d /var/lib/propagation /tmp/fuse-test-* 2>/dev/null; "
            "grep fuse.propagation /proc/self/mountinfo; true"
        )
        for node in self.nodes:
            looked = subprocess.run(
                [*self.ssh, node, look], capture_output=True, text=True, check=True
            )
            found += "".join(f"{node}: {line}\n" for line in looked.stdout.splitlines())
        return found


def kubectl(*words: str) -> subprocess.CompletedProcess[str]:
    """Run kubectl."""
    return subprocess.run([program("kubectl"), *words], capture_output=True, text=True)


def named_cluster() -> dict[str, str]:
    """Give the variables that name a cluster to test with; skip where they are not there."""
    found = {}
    for name in ("KUBECONFIG", "PROPAGATION_SSH_CONFIG"):
        value = os.environ.get(name)
        if not value:
            absent("k8s", f"{name} is not set")
        found[name] = str(value)
    return found


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Give the cluster of the environment, or skip; fail a test that leaves something there."""
    ssh_config = named_cluster()["PROPAGATION_SSH_CONFIG"]
    nodes = kubectl("get", "nodes", "--output", "name")
    if nodes.returncode != 0 or not nodes.stdout:
        absent("k8s", f"the cluster cannot be reached: {nodes.stderr.strip()}")
    names = [name.removeprefix("node/") for name in nodes.stdout.split()]
    cluster = Cluster(ssh_config, names)
    yield cluster
    assert cluster.left() == ""


def program(name: str) -> str:
    """Give the path of a program that a test needs."""
    found = shutil.which(name)
    if found is None:
        absent("python", f"{name} is not installed")
    return str(found)


def agents() -> set[str]:
    """The processes of simulated nodes that this process started."""
    own = f"--parent\0{os.getpid()}:"
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_text()
            except OSError:
                continue
            if command.startswith("propagation-agent\0") and own in command:
                found.add(entry.name)
    return found


def zombies() -> set[str]:
    """The children of this process that nobody has waited for."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if fields[0] == "Z" and fields[1] == str(os.getpid()):
                found.add(entry.name)
    return found


def descriptors() -> set[str]:
    """What the open descriptors of this process lead to."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target != f"/proc/{os.getpid()}/fd":
            found.add(f"{entry.name} {target}")
    return found


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Wait until a condition holds, for a bounded time."""
    import time

    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail a test that leaves a node, a mount or a zombie behind."""
    mounts = Path("/proc/self/mountinfo")
    before = mounts.read_text() if mounts.exists() else ""
    yield
    if mounts.exists():
        assert mounts.read_text() == before, "the mounts have changed"
        assert eventually(lambda: not agents()), f"nodes are left: {agents()}"
        assert eventually(lambda: not zombies()), f"zombies are left: {zombies()}"
