"""Matrices: all combinations, as they finish."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import propagation
from conftest import agents

pytestmark = pytest.mark.usefixtures("local")

AXES: dict[str, Any] = {
    "fault": ["kill", "terminate"],
    "producer_uid": [0, 1000],
    "consumers": [1, 2],
}


def _check(cells: list[propagation.Cell]) -> None:
    expected = [dict(zip(AXES, values)) for values in itertools.product(*AXES.values())]
    assert sorted(map(str, expected)) == sorted(str(cell.options) for cell in cells)
    for cell in cells:
        assert cell.report is not None
        assert cell.error is None
        assert cell.report.plan["fault"] == cell.options["fault"]
        assert cell.outcome == cell.report.outcome


def test_all_combinations_are_run() -> None:
    _check(list(propagation.matrix(jobs=3, **AXES)))


def test_all_combinations_are_run_in_a_loop() -> None:
    async def main() -> list[propagation.Cell]:
        return [cell async for cell in propagation.matrix_async(jobs=3, **AXES)]

    _check(asyncio.run(main()))


def test_leaving_early_cancels_the_rest() -> None:
    cells = propagation.matrix(fault=["kill", "stop", "stop", "stop"], jobs=2)
    assert next(cells).report is not None
    cells.close()  # type: ignore[attr-defined]
    assert not agents()


def test_leaving_early_cancels_the_rest_in_a_loop() -> None:
    async def main() -> None:
        cells = propagation.matrix_async(fault=["kill", "stop", "stop", "stop"], jobs=2)
        async for _ in cells:
            break
        await cells.aclose()  # type: ignore[attr-defined]
        assert not agents()

    asyncio.run(main())


def test_an_error_of_the_tool_is_a_cell() -> None:
    if sys.platform != "linux":
        pytest.skip("not applicable: no /proc")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        (cell,) = propagation.matrix(fault=["kill"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
    assert isinstance(cell.error, propagation.HostError)
    assert cell.outcome == "error"


def test_combinations_are_checked_before_anything_runs() -> None:
    with pytest.raises(propagation.InvalidInputError, match="unknown variant"):
        propagation.matrix(fault=["kill", "explode"])
    with pytest.raises(TypeError, match="sequence of values"):
        propagation.matrix(fault="kill")
    with pytest.raises(TypeError):
        propagation.matrix(nonsense=[1])


def test_nothing_waits_for_runs_of_which_none_go_on() -> None:
    for matrix in (propagation.matrix, propagation.matrix_async):
        with pytest.raises(propagation.InvalidInputError, match="use 1 or more"):
            matrix(jobs=0, fault=["kill"])
