"""Nodes that are used by hand: a run whose last phase is the body of a with block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from propagation import _native
from propagation._node import AsyncNode, Node
from propagation._run import AsyncRun, Run, start, start_async
from propagation._types import ClusterOptions, Options

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from propagation._types import AnyBackend, Observer, ScenarioLike

_NO_LIMIT = 24 * 3600.0
"""What a node by hand may take, in seconds: the longest time that a scenario may ask for."""

_OF_CLUSTERS = ClusterOptions.__annotations__.keys() - Options.__annotations__.keys()


class _Body:
    """The phase that is the body of the with block."""

    id = "by_hand"
    requires = ()

    def run(self, node: object) -> None:
        raise AssertionError("the body of the with block is the phase")


_PHASES = ("host_setup", _Body())


def _arguments(
    backend: AnyBackend, scenario: ScenarioLike | None, options: dict[str, Any]
) -> dict[str, Any]:
    """What to start the run with."""
    if scenario is None:
        options = {"timeout": _NO_LIMIT, **options}
    return {"scenario": scenario, "backend": backend, "phases": _PHASES, **options}


def _cluster(options: dict[str, Any]) -> tuple[_native.K8sBackend, dict[str, Any]]:
    """Give the cluster that keywords name, and the other keywords."""
    own = {name: value for name, value in options.items() if name in _OF_CLUSTERS}
    rest = {name: value for name, value in options.items() if name not in _OF_CLUSTERS}
    return _native.K8sBackend(**own), rest


class _ByHand(Node):
    """A node to use by hand."""

    def __init__(
        self,
        backend: AnyBackend,
        scenario: ScenarioLike | None,
        on_event: Observer | None,
        options: dict[str, Any],
    ) -> None:
        Node.__init__(self, None, None)
        self._going: Run = start(**_arguments(backend, scenario, options))
        self._going._observer = on_event

    def open(self) -> Self:
        """Make the node without a with block; `close` removes it."""
        return self.__enter__()

    def close(self) -> _native.Report:
        """Remove the node, with everything on it, and give the report."""
        if self._given is not None:
            self.__exit__(None, None, None)
        return self.report

    @property
    def report(self) -> _native.Report:
        """The report; there after the with block, or after `close`."""
        return self._going.report

    def __enter__(self) -> Self:
        """Make the node."""
        going = self._going.__enter__()
        try:
            for item in going._items():
                if isinstance(item, _native.PhaseCall):
                    Node.__init__(self, item.calls, going._tell)
                    break
                if going._observer is not None:
                    going._observer(item)
            else:
                going._end()
        except BaseException as error:
            going.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove it, with everything on it."""
        going = self._going
        try:
            self._calls.end()
            self._given = None
            going._to_end(going._observer)
        except KeyboardInterrupt:
            if isinstance(error, KeyboardInterrupt):
                going._job.abandon()
            raise
        finally:
            going.__exit__(kind, error, trace)


class _AsyncByHand(AsyncNode):
    """A node to use by hand in an event loop."""

    def __init__(
        self,
        backend: AnyBackend,
        scenario: ScenarioLike | None,
        on_event: Observer | None,
        options: dict[str, Any],
    ) -> None:
        AsyncNode.__init__(self, None, None)
        self._going: AsyncRun = start_async(**_arguments(backend, scenario, options))
        self._going._observer = on_event

    async def open(self) -> Self:
        """Make the node without a with block; `close` removes it."""
        return await self.__aenter__()

    async def close(self) -> _native.Report:
        """Remove the node, with everything on it, and give the report."""
        if self._given is not None:
            await self.__aexit__(None, None, None)
        return self.report

    @property
    def report(self) -> _native.Report:
        """The report; there after the block, or after `close`."""
        return self._going.report

    async def __aenter__(self) -> Self:
        """Make the node."""
        going = await self._going.__aenter__()
        try:
            async for item in going._items():
                if isinstance(item, _native.PhaseCall):
                    AsyncNode.__init__(self, item.calls, going._tell)
                    break
                if going._observer is not None:
                    going._observer(item)
            else:
                going._end()
        except BaseException as error:
            await going.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove it, with everything on it."""
        from asyncio import CancelledError

        going = self._going
        try:
            self._calls.end()
            self._given = None
            await going._to_end(going._observer)
        except CancelledError:
            if isinstance(error, CancelledError):
                going._job.abandon()
            raise
        finally:
            await going.__aexit__(kind, error, trace)


class LocalNode(_ByHand):
    """A simulated node on this machine's kernel, to use by hand.

    ::

        with propagation.LocalNode() as node:
            producer = node.start("producer")
            consumer = node.start("consumer")
            consumer.wait("fresh")
            producer.inject("kill")
            print(consumer.observe())  # ENOTCONN
        print(node.report)

    The phase `host_setup` is run first: it makes the bridge. At the end of the with block
    everything is removed; `report` then has the timeline of all observations, with the checks
    recorded by `check` in the phase `by_hand`.

    Args:
        scenario: as for `run`; its workloads are not started.
        on_event: is called with every event, after the call in which it came.
        keep: leave the node in place at the end.
        run_id: a name for the run; generated when left out.
        options: keywords of `Scenario`. `timeout` is a day unless it is given.

    Raises:
        HostError: the machine cannot carry a node; raised on entering.
    """

    def __init__(
        self,
        scenario: ScenarioLike | None = None,
        *,
        on_event: Observer | None = None,
        keep: bool = False,
        run_id: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        run = {"keep": keep, "run_id": run_id, **options}
        super().__init__("local", scenario, on_event, run)


class AsyncLocalNode(_AsyncByHand):
    """A simulated node to use by hand in an event loop; otherwise as `LocalNode`."""

    def __init__(
        self,
        scenario: ScenarioLike | None = None,
        *,
        on_event: Observer | None = None,
        keep: bool = False,
        run_id: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        run = {"keep": keep, "run_id": run_id, **options}
        super().__init__("local", scenario, on_event, run)


class K8sNode(_ByHand):
    """A node of a cluster, to use by hand; its workloads are pods.

    ::

        with propagation.K8sNode(node="k3s-w2") as node:
            producer = node.start("producer")
            consumer = node.start("consumer")
            consumer.wait("fresh")
            producer.inject("kill")
            print(consumer.wait("breakage").seen.errno)  # ENOTCONN
            producer.restart()
            print(consumer.wait("fresh").seen.generation)  # 2
        print(node.report)

    Otherwise as `LocalNode`. Starting a pod takes seconds, and so does the end of the with block:
    it waits until the pods, the changes on the node and the namespace are gone. A second Ctrl-C
    does not wait for that; ``python -m propagation clean --backend k8s`` then removes what is left.

    Args:
        scenario: as for `run`; its workloads are not started.
        on_event: is called with every event, after the call in which it came.
        keep: leave the node in place at the end.
        run_id: a name for the run; generated when left out.
        options: keywords of `K8sBackend` and `Scenario`, such as `kubeconfig`, `context`,
            `node`, `namespace`, `access`, `ssh_config`, `image` and `tolerations`. `timeout` is a
            day unless it is given.

    Raises:
        InvalidInputError: an option cannot be read.
        UnsupportedError: the scenario shapes the node, or needs something that pods do not
            support; raised on entering.
        HostError: the kubeconfig or the node does not exist, the API server cannot be reached
            or refuses, or the node cannot carry a run; raised on entering.
    """

    def __init__(
        self,
        scenario: ScenarioLike | None = None,
        *,
        on_event: Observer | None = None,
        keep: bool = False,
        run_id: str | None = None,
        **options: Unpack[ClusterOptions],
    ) -> None:
        backend, rest = _cluster({"keep": keep, "run_id": run_id, **options})
        super().__init__(backend, scenario, on_event, rest)


class AsyncK8sNode(_AsyncByHand):
    """A node of a cluster to use by hand in an event loop; otherwise as `K8sNode`."""

    def __init__(
        self,
        scenario: ScenarioLike | None = None,
        *,
        on_event: Observer | None = None,
        keep: bool = False,
        run_id: str | None = None,
        **options: Unpack[ClusterOptions],
    ) -> None:
        backend, rest = _cluster({"keep": keep, "run_id": run_id, **options})
        super().__init__(backend, scenario, on_event, rest)
