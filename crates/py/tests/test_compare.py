"""Comparing transports from Python."""

from __future__ import annotations

import asyncio
import shutil
from typing import get_args

import pytest

import propagation
from propagation import _native, _types


@pytest.fixture(scope="module")
def compared() -> propagation.Comparison:
    return propagation.compare(
        transports=["fuse"], workloads=["open", "scan", "die"], quick=True, rounds=1
    )


def test_the_types_have_every_name() -> None:
    transports, workloads = _native.comparison_names()
    assert list(get_args(_types.TransportName)) == transports
    assert list(get_args(_types.TransportWorkload)) == workloads


def test_a_comparison_has_its_figures(compared: propagation.Comparison) -> None:
    assert compared.transports == ["native", "fuse"], compared.skipped
    assert (compared.rounds, compared.seed) == (1, 1)
    fuse = compared.to_dict()["transports"][1]
    assert {one["metric"] for one in fuse["measures"]} == {"open", "scan_cold", "scan_warm"}
    # Whoever waits for an answer when the daemon dies gets ECONNABORTED, who asks later ENOTCONN.
    errno = fuse["death"]["first_error"][1]
    assert errno in ("ECONNABORTED", "ENOTCONN")
    assert compared.answer["death"][0].startswith(f"fuse: {errno}")


def test_it_is_rendered_and_read_again(compared: propagation.Comparison) -> None:
    again = propagation.Comparison.from_json(compared.to_json())
    assert again.to_dict() == compared.to_dict()
    assert "open, 4 KiB" in str(compared)
    assert "<svg" in compared.to_html()
    assert compared.to_markdown().startswith("# Transports")
    with pytest.raises(propagation.InvalidInputError):
        propagation.Comparison.from_json("{}")


def test_it_is_a_data_frame(compared: propagation.Comparison) -> None:
    pandas = pytest.importorskip("pandas")
    frame = compared.to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["transport", "metric", "round", "value"]
    assert len(frame) == 6
    assert (frame["value"] > 0).all()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(propagation.InvalidInputError, match="did you mean fuse"):
        propagation.compare(transports=["fuze"])  # type: ignore[list-item]


@pytest.mark.skipif(shutil.which("bindfs") is None, reason="bindfs is not installed")
def test_a_daemon_of_ones_own_in_an_event_loop() -> None:
    compared = asyncio.run(
        propagation.compare_async(
            transports=["daemon"],
            workloads=["open"],
            quick=True,
            rounds=1,
            producer_command="bindfs -f {source} {mountpoint}",
        )
    )
    assert compared.transports == ["native", "daemon"], compared.skipped
