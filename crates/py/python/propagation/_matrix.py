"""Many scenarios that differ in a few things, several at a time."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from propagation._errors import Error, InvalidInputError
from propagation._native import Report, Scenario
from propagation._run import Run, start, start_async
from propagation._scenario import make_scenario

if TYPE_CHECKING:
    from propagation._types import AnyBackend


class Cell(NamedTuple):
    """One scenario of a matrix, and its result."""

    options: dict[str, Any]
    """Its value of each axis."""
    report: Report | None
    """Its report; None when the tool could not do its work."""
    error: Error | None
    """The error in that case."""

    @property
    def outcome(self) -> str:
        """The verdict's outcome, or `error`."""
        return "error" if self.report is None else self.report.outcome


def matrix(
    *, backend: AnyBackend = "local", jobs: int | None = None, **axes: Sequence[Any]
) -> Iterator[Cell]:
    """Run all combinations of options of `Scenario` and give each cell as soon as it is done.

    ::

        for cell in propagation.matrix(volume=["bridge", "mountpoint"], fault=["kill", "stop"]):
            print(cell.options, cell.outcome)

    All scenarios are checked before the first is run. Leaving the loop early cancels what goes on,
    and waits until it has cleaned up.

    Args:
        backend: as for `run`.
        jobs: how many runs go on at the same time. When left out 2, and 1 on a cluster: runs on
            the same node need different values of `bridge` to go on side by side.
        axes: for options of `Scenario` the values that they take.

    Raises:
        InvalidInputError: a combination cannot be run at all, or `jobs` is below 1.
    """
    return _cells(_combinations(axes), backend, _at_a_time(jobs, backend))


def matrix_async(
    *, backend: AnyBackend = "local", jobs: int | None = None, **axes: Sequence[Any]
) -> AsyncIterator[Cell]:
    """Do the same with ``async for``; see `matrix`."""
    return _cells_async(_combinations(axes), backend, _at_a_time(jobs, backend))


def _at_a_time(jobs: int | None, backend: AnyBackend) -> int:
    if jobs is None:
        return 2 if backend == "local" else 1
    if jobs < 1:
        raise InvalidInputError(f"run {jobs} at a time", "it is below 1", "use 1 or more")
    return jobs


def _combinations(axes: dict[str, Sequence[Any]]) -> list[tuple[dict[str, Any], Scenario]]:
    for name, values in axes.items():
        if isinstance(values, (str, bytes)):
            raise TypeError(f"{name} is a sequence of values, not {values!r}")
    product = itertools.product(*axes.values())
    options = [dict(zip(axes, values)) for values in product]
    return [(one, make_scenario(None, one)) for one in options]


def _cells(
    combinations: list[tuple[dict[str, Any], Scenario]], backend: AnyBackend, jobs: int
) -> Iterator[Cell]:
    import queue
    import threading

    going: set[Run] = set()
    lock = threading.Lock()
    waiting = iter(combinations)
    done: queue.SimpleQueue[Cell | BaseException] = queue.SimpleQueue()
    stopped = False

    def work() -> None:
        while True:
            with lock:
                combination = None if stopped else next(waiting, None)
            if combination is None:
                return
            options, scenario = combination
            try:
                with start(scenario, backend=backend) as run:
                    with lock:
                        going.add(run)
                        if stopped:
                            run.cancel()
                    try:
                        cell = Cell(options, run._to_end(None), None)
                    finally:
                        with lock:
                            going.discard(run)
                done.put(cell)
            except Error as error:
                done.put(Cell(options, None, error))
            except BaseException as error:
                done.put(error)

    threads = [threading.Thread(target=work, name="propagation-matrix") for _ in range(jobs)]
    for thread in threads:
        thread.start()
    try:
        for _ in combinations:
            cell = done.get()
            if isinstance(cell, BaseException):
                raise cell
            yield cell
    finally:
        with lock:
            stopped = True
            for run in going:
                run.cancel()
        for thread in threads:
            thread.join()


async def _cells_async(
    combinations: list[tuple[dict[str, Any], Scenario]], backend: AnyBackend, jobs: int
) -> AsyncIterator[Cell]:
    import asyncio

    room = asyncio.Semaphore(jobs)

    async def work(options: dict[str, Any], scenario: Scenario) -> Cell:
        async with room:
            try:
                async with start_async(scenario, backend=backend) as run:
                    return Cell(options, await run._to_end(None), None)
            except Error as error:
                return Cell(options, None, error)

    tasks = [asyncio.ensure_future(work(*combination)) for combination in combinations]
    try:
        for task in asyncio.as_completed(tasks):
            yield await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
