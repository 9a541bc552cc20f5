"""Timelines and comparisons as data frames, with whichever library is installed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from propagation._native import Comparison, Report

_COLUMNS = (
    "at_us",
    "step",
    "actor",
    "workload",
    "replica",
    "held_descriptor",
    "uid",
    "via",
    "outcome",
    "ok",
    "errno",
    "detail",
    "generation",
    "took_us",
)


def timeline(report: Report, library: str | None = None) -> Any:
    """Make a data frame with a row for each observation, in order of time."""
    module = _module(library)
    columns = {column: [getattr(seen, column) for seen in report.timeline] for column in _COLUMNS}
    return module.DataFrame(columns)


def comparison(comparison: Comparison, library: str | None = None) -> Any:
    """Make a data frame with a row for each transport, metric and round."""
    module = _module(library)
    columns: dict[str, list[Any]] = {"transport": [], "metric": [], "round": [], "value": []}
    for transport in comparison.to_dict()["transports"]:
        for measure in transport["measures"]:
            for number, value in enumerate(measure["samples"], start=1):
                columns["transport"].append(transport["transport"])
                columns["metric"].append(measure["metric"])
                columns["round"].append(number)
                columns["value"].append(value)
    return module.DataFrame(columns)


def _module(library: str | None) -> Any:
    if library not in (None, "pandas", "polars"):
        raise ValueError(f"library is pandas or polars, not {library!r}")
    wanted = [library] if library else ["pandas", "polars"]
    for name in wanted:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError(
        f"a data frame needs {' or '.join(wanted)}: pip install {wanted[0]}", name=wanted[0]
    )
