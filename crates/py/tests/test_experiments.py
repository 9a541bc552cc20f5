"""Experiments: single changes, tried when a run does not come out as it should."""

from __future__ import annotations

from typing import Any

import pytest

import propagation
from conftest import absent


def run(experiments: Any) -> propagation.Report:
    scenario = {
        "workloads": [
            {"name": "producer", "role": "producer"},
            {"name": "app", "role": "consumer", "volume": "mountpoint"},
        ],
        "deadlines": {"recovery_ms": 200},
    }
    try:
        return propagation.run(scenario, experiments=experiments)
    except (propagation.HostError, propagation.UnsupportedError) as error:
        absent("local", str(error))
        raise


def test_a_change_that_heals_is_the_advice() -> None:
    report = run("all")
    assert report.advice is not None
    first = report.advice.for_good[0]
    assert (first.what, first.on, first.heals) == ("volume_bridge", ["app"], True)
    assert report.advice.head == f"{first.words}: {first.outcome}."
    assert first in report.experiments
    assert first.breaks_again is True
    assert report.advice.tried == sum(one.heals is not None for one in report.experiments)


def test_there_are_none_where_none_are_wanted() -> None:
    report = run("off")
    assert (report.experiments, report.advice) == ([], None)


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(propagation.InvalidInputError):
        run(-1.0)
