"""The public names, their documentation and their types."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import propagation


def _documented() -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name in propagation.__all__:
        value = getattr(propagation, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            found.append((name, value))
        if inspect.isclass(value):
            members = [member for member in vars(value) if not member.startswith("_")]
            inner = {f"{name}.{member}": getattr(value, member) for member in members}
            found.extend(pair for pair in inner.items() if not isinstance(pair[1], (str, tuple)))
    return found


def test_all_names_are_there_and_sorted() -> None:
    assert len(set(propagation.__all__)) == len(propagation.__all__)
    for name in propagation.__all__:
        assert hasattr(propagation, name), name
    public = {name for name in vars(propagation) if not name.startswith("_")}
    assert public - {"annotations"} <= set(propagation.__all__)


@pytest.mark.parametrize(("name", "value"), _documented(), ids=lambda value: str(value)[:60])
def test_everything_is_documented(name: str, value: Any) -> None:
    text = inspect.getdoc(value)
    assert text, f"{name} has no docstring"
    assert text[0].isupper() or text[0] == "`", f"{name}: {text}"


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert propagation.__version__ == version("propagation")


def test_events_can_be_matched_by_place() -> None:
    assert propagation.Checked.__match_args__ == ("phase", "check")


def test_importing_loads_nothing_heavy() -> None:
    script = "import sys, propagation; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    heavy = {"asyncio", "pandas", "polars", "socket", "inspect", "ssl", "matplotlib"}
    assert not heavy & set(done.stdout.split())


def test_types_are_declared() -> None:
    package = Path(propagation.__file__).parent
    assert (package / "py.typed").exists()
    assert (package / "_native.pyi").exists()


def test_every_native_name_is_in_the_stub() -> None:
    from propagation import _native

    stub = (Path(propagation.__file__).parent / "_native.pyi").read_text()
    declared = set(re.findall(r"^(?:class|def) (\w+)|^(\w+):", stub, re.MULTILINE))
    names = {name for pair in declared for name in pair if name}
    public = {name for name in dir(_native) if not name.startswith("_")}
    assert public == {name for name in names if not name.startswith("_")}
