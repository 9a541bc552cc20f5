"""The notebooks run from beginning to end, and are kept without outputs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from conftest import absent

NOTEBOOKS = Path(__file__).parents[3] / "examples" / "notebooks"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: str(path.stem))
def test_outputs_are_not_kept(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        assert not cell.get("outputs"), "clear all outputs before committing"
        assert cell.get("execution_count") is None


@pytest.mark.usefixtures("local")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["first_verdict", "five_phases_by_hand", "matrix"])
def test_it_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
    if name in ("five_phases_by_hand", "matrix"):
        assert "image/png" in kinds
    if name == "first_verdict":
        assert "text/html" in kinds
