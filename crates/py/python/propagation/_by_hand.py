"""Nodes that are used by hand: a run whose last phase is the body of a with block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from propagation import _native
from propagation._node import AsyncNode, Node
from propagation._run import AsyncRun, Run, start, start_async

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from propagation._types import AnyBackend, Observer, Options, ScenarioLike

_NO_LIMIT = 365 * 24 * 3600.0
"""A person has as much time as they want; in seconds."""


class _Body:
    """The phase that is the body of the with block."""

    id = "by_hand"
    requires = ()

    def run(self, node: object) -> None:
        raise AssertionError("the body of the with block is the phase")


_PHASES = ("host_setup", _Body())


def _options(scenario: ScenarioLike | None, options: Any) -> Any:
    return options if scenario is not None else {"timeout": _NO_LIMIT, **options}


class LocalNode(Node):
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
        keep: leave everything standing at the end.
        run_id: a name for the run; made up when left out.
        options: what `Scenario` takes by keyword. There is no `timeout` unless it is given.

    Raises:
        EnvironmentError: the machine cannot carry a node; raised on entering.
    """

    _backend: AnyBackend = "local"

    def __init__(
        self,
        scenario: ScenarioLike | None = None,
        *,
        on_event: Observer | None = None,
        keep: bool = False,
        run_id: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._going: Run = start(
            scenario,
            backend=self._backend,
            phases=_PHASES,
            keep=keep,
            run_id=run_id,
            **_options(scenario, options),
        )
        self._going._observer = on_event

    @property
    def report(self) -> _native.Report:
        """The report; there after the with block."""
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
        with_run = self._going
        try:
            self._calls.end()
            with_run._to_end(with_run._observer)
        finally:
            with_run.__exit__(kind, error, trace)


class AsyncLocalNode(AsyncNode):
    """A simulated node to use by hand in an event loop; otherwise as `LocalNode`."""

    _backend: AnyBackend = "local"

    def __init__(
        self,
        scenario: ScenarioLike | None = None,
        *,
        on_event: Observer | None = None,
        keep: bool = False,
        run_id: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._going: AsyncRun = start_async(
            scenario,
            backend=self._backend,
            phases=_PHASES,
            keep=keep,
            run_id=run_id,
            **_options(scenario, options),
        )
        self._going._observer = on_event

    @property
    def report(self) -> _native.Report:
        """The report; there after the block."""
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
        with_run = self._going
        try:
            self._calls.end()
            await with_run._to_end(with_run._observer)
        finally:
            await with_run.__aexit__(kind, error, trace)
