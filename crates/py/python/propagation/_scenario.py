"""Scenarios from what callers have."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from propagation._errors import InvalidInputError
from propagation._native import Scenario
from propagation._types import Options

if TYPE_CHECKING:
    from propagation._types import ScenarioLike


def make_scenario(scenario: ScenarioLike | None, options: Mapping[str, Any]) -> Scenario:
    """Make the scenario that a caller means: one of its own, or the default with options."""
    _check_names(options)
    if scenario is None:
        return Scenario(**options)
    if options:
        raise InvalidInputError(
            f"use {', '.join(options)}",
            "a scenario has been given, and it says these things itself",
            "say it in the scenario",
        )
    if isinstance(scenario, Scenario):
        return scenario
    if isinstance(scenario, Mapping):
        return Scenario.from_dict(scenario)
    if isinstance(scenario, (str, os.PathLike)):
        return Scenario.from_file(scenario)
    raise TypeError(f"a scenario is a Scenario, a mapping or a path, not {scenario!r}")


def _check_names(options: Mapping[str, Any]) -> None:
    """Say what an unknown keyword was meant to be."""
    known = Options.__annotations__.keys()
    for name in options:
        if name not in known:
            # Not imported by everybody: it is needed for a mistake only.
            from difflib import get_close_matches

            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
            raise TypeError(f"unknown keyword {name!r}; {hint}")
