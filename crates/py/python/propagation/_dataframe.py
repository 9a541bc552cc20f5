"""The timeline as a data frame, with whichever library is installed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from propagation._native import Report

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
    if library not in (None, "pandas", "polars"):
        raise ValueError(f"library is pandas or polars, not {library!r}")
    wanted = [library] if library else ["pandas", "polars"]
    for name in wanted:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        columns = {
            column: [getattr(seen, column) for seen in report.timeline] for column in _COLUMNS
        }
        return module.DataFrame(columns)
    raise ImportError(
        f"a data frame needs {' or '.join(wanted)}: pip install {wanted[0]}", name=wanted[0]
    )
