"""Running a scenario."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable

from propagation import _native
from propagation._errors import Error, InvalidInputError, _parts_of
from propagation._node import AsyncNode, Node
from propagation._phase import AnyPhase, AsyncPhase, Phase
from propagation._scenario import make_scenario
from propagation._wait import bell_of, ring, ring_async

if TYPE_CHECKING:
    import socket
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from propagation._types import AnyBackend, Event, Experiments, Observer, Options, ScenarioLike

_LOG = logging.getLogger("propagation")


def run(
    scenario: ScenarioLike | None = None,
    *,
    backend: AnyBackend = "local",
    phases: Sequence[AnyPhase] | None = None,
    on_event: Observer | None = None,
    keep: bool = False,
    run_id: str | None = None,
    experiments: Experiments | None = None,
    **options: Unpack[Options],
) -> _native.Report:
    """Run a scenario and return its report.

    Args:
        scenario: a `Scenario`, a mapping, or the path of a file; the five phases when left out.
        backend: `local` is a simulated node on this machine's kernel, `k8s` a node of the
            cluster of `$KUBECONFIG`; a `K8sBackend` says which.
        phases: ids of built-in phases, and custom phases, in order. When left out: the phases of
            the scenario, by default `FIVE_PHASES`.
        on_event: is called with every event, in this thread.
        keep: leave the node in place at the end.
        run_id: a name for the run; generated when left out.
        experiments: seconds to try single changes of the scenario on simulated nodes of this
            machine, `"all"` for as long as it takes, or `"off"`. When left out, 1 s if a run on
            this machine does not succeed.
        options: keywords of `Scenario`, instead of a scenario.

    Ctrl-C, or what `on_event` or a phase raises, cancels the run. It cleans up before the exception
    goes on; a second Ctrl-C does not wait for that.

    Raises:
        InvalidInputError: the scenario cannot be run at all.
        UnsupportedError: the backend cannot do what the scenario says.
        HostError: the machine cannot carry a node, or the cluster cannot be reached; `fix`
            says what is missing.
        Error: the tool could not do its work. What was found out is never an error.
    """
    with start(
        scenario,
        backend=backend,
        phases=phases,
        keep=keep,
        run_id=run_id,
        experiments=experiments,
        **options,
    ) as going:
        return going._to_end(on_event)


async def run_async(
    scenario: ScenarioLike | None = None,
    *,
    backend: AnyBackend = "local",
    phases: Sequence[AnyPhase] | None = None,
    on_event: Observer | None = None,
    keep: bool = False,
    run_id: str | None = None,
    experiments: Experiments | None = None,
    **options: Unpack[Options],
) -> _native.Report:
    """Run a scenario and return its report, as `run` does, without blocking the event loop.

    `on_event` and asynchronous phases are called in the loop. Cancelling the task cancels the run,
    which cleans up before `asyncio.CancelledError` goes on.
    """
    async with start_async(
        scenario,
        backend=backend,
        phases=phases,
        keep=keep,
        run_id=run_id,
        experiments=experiments,
        **options,
    ) as going:
        return await going._to_end(on_event)


def start(
    scenario: ScenarioLike | None = None,
    *,
    backend: AnyBackend = "local",
    phases: Sequence[AnyPhase] | None = None,
    keep: bool = False,
    run_id: str | None = None,
    experiments: Experiments | None = None,
    **options: Unpack[Options],
) -> Run:
    """Start a run and iterate over its events; arguments are those of `run`.

    ::

        with propagation.start() as run:
            for event in run:
                print(event)
        print(run.report)
    """
    return Run(_start(scenario, options, backend, phases, keep, run_id, experiments))


def start_async(
    scenario: ScenarioLike | None = None,
    *,
    backend: AnyBackend = "local",
    phases: Sequence[AnyPhase] | None = None,
    keep: bool = False,
    run_id: str | None = None,
    experiments: Experiments | None = None,
    **options: Unpack[Options],
) -> AsyncRun:
    """Start a run and iterate over its events with ``async for``; otherwise as `start`."""
    return AsyncRun(_start(scenario, options, backend, phases, keep, run_id, experiments))


class _Start:
    """The checked arguments of a run."""

    def __init__(
        self,
        scenario: _native.Scenario,
        backend: AnyBackend,
        phases: Sequence[AnyPhase] | None,
        keep: bool,
        run_id: str | None,
        experiments: Experiments | None,
    ) -> None:
        self.scenario = scenario
        self.backend = backend
        self.phases = () if phases is None else tuple(phases)
        self.keep = keep
        self.run_id = run_id
        self.experiments = experiments
        self.pairs = None if phases is None else [_pair(phase) for phase in self.phases]

    def __call__(self, observations: bool) -> _native.Job:
        level = _LOG.getEffectiveLevel()
        return _native.run(
            self.scenario,
            backend=self.backend,
            phases=self.pairs,
            observations=observations or level <= logging.DEBUG,
            log_level=min(level, 255),
            keep=self.keep,
            run_id=self.run_id,
            experiments=self.experiments,
        )


def _start(
    scenario: ScenarioLike | None,
    options: Mapping[str, Any],
    backend: AnyBackend,
    phases: Sequence[AnyPhase] | None,
    keep: bool,
    run_id: str | None,
    experiments: Experiments | None,
) -> _Start:
    made = make_scenario(scenario, options)
    return _Start(made, backend, phases, keep, run_id, experiments)


def _pair(phase: AnyPhase) -> tuple[str, list[str] | None]:
    if isinstance(phase, str):
        return phase, None
    if not callable(getattr(phase, "run", None)) or not isinstance(getattr(phase, "id", None), str):
        raise TypeError(f"a phase is an id or has `id`, `requires` and `run`, not {phase!r}")
    requires = getattr(phase, "requires", ())
    return phase.id, [requires] if isinstance(requires, str) else list(requires)


class _Going:
    """The common part of both kinds of runs: the native job and its events."""

    def __init__(self, begin: _Start) -> None:
        self._begin = begin
        self._observer: Observer | None = None
        self._native: _native.Job | None = None
        self._bell: socket.socket | None = None
        self._report: _native.Report | None = None
        self._pending: list[object] = []
        self._ended = False

    @property
    def report(self) -> _native.Report:
        """The report; there when the run has ended.

        Raises `InvalidInputError` before that.
        """
        if self._report is None:
            raise InvalidInputError(
                "take the report", "the run has not ended", "take all its events first"
            )
        return self._report

    def cancel(self) -> None:
        """Cancel the run: it cleans up and ends, with the verdict `inconclusive`.

        May be called from any thread. Take the remaining events as before.
        """
        self._job.cancel()

    @property
    def _job(self) -> _native.Job:
        if self._native is None:
            raise InvalidInputError(
                "use the run", "it has not been started", "use it in a with block"
            )
        return self._native

    @property
    def _socket(self) -> socket.socket:
        assert self._bell is not None, "the job and its socket are there together"
        return self._bell

    def _open(self, blocking: bool, observations: bool = True) -> None:
        self._native = self._begin(observations)
        self._bell = bell_of(self._native, blocking=blocking)

    def _close(self) -> None:
        if self._bell is not None:
            self._bell.close()

    def _take(self) -> bool:
        """Take what has come; whether there is something to look at, or the end."""
        if not self._pending and not self._ended:
            self._pending, self._ended = self._job.take()
            self._pending.reverse()
        return bool(self._pending) or self._ended

    def _next(self) -> Event | _native.PhaseCall | None:
        """Give the next event or call, and log it. None when no more has come."""
        while self._pending:
            item = self._pending.pop()
            if isinstance(item, _native.LogRecord):
                logging.getLogger(item.target).log(item.level, "%s", item.message)
                continue
            _log(item)
            return item  # type: ignore[return-value]
        return None

    def _tell(self) -> None:
        """Give the events that are there to the observer, from within a call of a phase."""
        self._take()
        while self._pending and not isinstance(self._pending[-1], _native.PhaseCall):
            event = self._next()
            if event is not None and self._observer is not None:
                self._observer(event)  # type: ignore[arg-type]

    def _end(self) -> _native.Report:
        if self._report is None:
            self._report = self._job.result()
        return self._report


class Run(_Going):
    """A run that goes on, as an iterator of its events; made by `start`.

    Leaving the with block before the end cancels the run and waits until it has cleaned up.
    """

    def __enter__(self) -> Self:
        """Start it."""
        self._open(blocking=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel it if it goes on, and wait until it has cleaned up."""
        try:
            if not self._ended:
                self._job.cancel()
                while not self._ended:
                    self._pending.clear()
                    if not self._take():
                        ring(self._socket)
        except BaseException:
            self._job.abandon()
            raise
        finally:
            self._close()

    def __iter__(self) -> Iterator[Event]:
        """Give the events as they come; phases in Python run in between."""
        for item in self._items():
            if isinstance(item, _native.PhaseCall):
                self._carry_out(item)
            else:
                yield item

    def _items(self) -> Iterator[Event | _native.PhaseCall]:
        while True:
            while not self._take():
                ring(self._socket)
            item = self._next()
            if item is not None:
                yield item
            elif self._ended:
                break
        self._end()

    def _carry_out(self, call: _native.PhaseCall) -> None:
        phase = self._begin.phases[call.number]
        node = Node(call.calls, self._tell)
        assert not isinstance(phase, str), "built-in phases are not handed over"
        if _is_asynchronous(phase):
            raise InvalidInputError(
                f"run the phase {phase.id}", "its `run` is asynchronous", "use run_async"
            )
        with _PhaseEnd(call.calls):
            phase.run(node)  # type: ignore[arg-type]

    def _to_end(self, observer: Observer | None) -> _native.Report:
        self._observer = observer
        for event in self:
            if observer is not None:
                observer(event)
        return self.report


class AsyncRun(_Going):
    """A run that goes on, as an asynchronous iterator of its events; made by `start_async`.

    Leaving the block before the end, also by cancellation, cancels the run and waits until it has
    cleaned up.
    """

    async def __aenter__(self) -> Self:
        """Start it."""
        self._open(blocking=False)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel it if it goes on, and wait until it has cleaned up."""
        try:
            if not self._ended:
                self._job.cancel()
                while not self._ended:
                    self._pending.clear()
                    if not self._take():
                        await ring_async(self._socket)
        except BaseException:
            self._job.abandon()
            raise
        finally:
            self._close()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Give the events as they come; phases in Python run in between."""
        async for item in self._items():
            if isinstance(item, _native.PhaseCall):
                await self._carry_out(item)
            else:
                yield item

    async def _items(self) -> AsyncIterator[Event | _native.PhaseCall]:
        while True:
            while not self._take():
                await ring_async(self._socket)
            item = self._next()
            if item is not None:
                yield item
            elif self._ended:
                break
        self._end()

    async def _carry_out(self, call: _native.PhaseCall) -> None:
        phase = self._begin.phases[call.number]
        assert not isinstance(phase, str), "built-in phases are not handed over"
        with _PhaseEnd(call.calls):
            if _is_asynchronous(phase):
                await phase.run(AsyncNode(call.calls, self._tell))  # type: ignore[arg-type, misc]
            else:
                import asyncio

                await asyncio.to_thread(phase.run, Node(call.calls, None))  # type: ignore[arg-type]

    async def _to_end(self, observer: Observer | None) -> _native.Report:
        self._observer = observer
        async for event in self:
            if observer is not None:
                observer(event)
        return self.report


def _is_asynchronous(phase: Phase | AsyncPhase) -> bool:
    # Not imported by everybody: it takes longer to load than this package.
    import inspect

    return inspect.iscoroutinefunction(phase.run)


class _PhaseEnd:
    """Ends a phase in the way its code ended; an `Error` becomes the phase's own."""

    def __init__(self, calls: _native.Calls) -> None:
        self._calls = calls

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None or isinstance(error, Error):
            self._calls.end(_parts_of(error) if error is not None else None)
            return True
        return False


_LINES: dict[type, tuple[int, Callable[[Any], str]]] = {
    _native.NodeReady: (logging.INFO, lambda e: f"{e.backend} node {e.node} is ready"),
    _native.PhaseStarted: (logging.DEBUG, lambda e: f"phase {e.phase} started"),
    _native.Checked: (
        logging.DEBUG,
        lambda e: f"{e.phase} {e.check.id} {e.check.status}: {e.check.observed}",
    ),
    _native.Observed: (logging.DEBUG, lambda e: f"saw {e.observation!r}"),
    _native.PhaseEnded: (
        logging.INFO,
        lambda e: f"phase {e.phase.id} {e.phase.status} in {e.phase.duration_ms:.1f} ms",
    ),
    _native.Decided: (logging.INFO, lambda e: f"{e.verdict.outcome}: {e.verdict.summary}"),
    _native.Cleaned: (logging.DEBUG, lambda e: f"cleaned up in {e.cleanup.duration_ms:.1f} ms"),
}


def _log(event: object) -> None:
    known = _LINES.get(type(event))
    if known is not None and _LOG.isEnabledFor(known[0]):
        _LOG.log(known[0], "%s", known[1](event))
