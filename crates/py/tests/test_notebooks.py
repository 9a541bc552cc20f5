"""The notebooks run from beginning to end, and are kept without outputs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from conftest import absent

NOTEBOOKS = Path(__file__).parents[3] / "examples" / "notebooks"


NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
SHOWN = {
    "first_verdict": {"text/html"},
    "five_phases_by_hand": {"image/png"},
    "matrix": {"image/png"},
    "on_a_cluster": {"text/html", "image/png"},
    "transports": {"text/html", "image/png"},
}
"""What each shows."""


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_not_kept(name: str) -> None:
    for cell in json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]:
        assert not cell.get("outputs"), "clear all outputs before committing"
        assert cell.get("execution_count") is None


@pytest.mark.usefixtures("local")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_it_runs(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "on_a_cluster":
        request.getfixturevalue("cluster")
    # The kernel chooses the inline backend, as in Jupyter, unless the environment names another.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    for module in ("nbclient", "nbformat", "ipykernel", "matplotlib", "pandas"):
        if importlib.util.find_spec(module) is None:
            absent("python", f"{module} is not installed")
    import nbformat
    from nbclient import NotebookClient

    book: Any = nbformat.read(  # type: ignore[no-untyped-call, unused-ignore]
        NOTEBOOKS / f"{name}.ipynb", as_version=4
    )
    NotebookClient(book, timeout=120).execute()
    shown = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert not [output for output in shown if output.output_type == "error"]
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert SHOWN[name] <= kinds
