"""What is in the wheel, and whether it is what its name says."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import propagation
from conftest import absent


@pytest.fixture(scope="module")
def wheel() -> Path:
    path = os.environ.get("PROPAGATION_WHEEL")
    if not path:
        absent("python", "PROPAGATION_WHEEL does not name one; scripts/test-python does")
    assert path is not None
    return Path(path)


def test_its_name_says_abi3_from_python_3_9(wheel: Path) -> None:
    assert re.fullmatch(r"propagation-[\d.]+-cp39-abi3-manylinux_2_\d+_x86_64\.whl", wheel.name)


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {name for name in names if name.startswith("propagation/")}
    assert {name for name in names - package if ".dist-info/" not in name} == set()
    assert package >= {
        "propagation/__init__.py",
        "propagation/__main__.py",
        "propagation/_native.abi3.so",
        "propagation/_native.pyi",
        "propagation/py.typed",
    }
    assert not any(name.endswith((".pyc", ".rs")) for name in names)


def test_the_agent_is_inside(wheel: Path) -> None:
    library = zipfile.ZipFile(wheel).read("propagation/_native.abi3.so")
    # A whole static program inside the library: a second ELF header.
    assert library.count(b"\x7fELF\x02\x01\x01") >= 2


def test_it_needs_no_newer_glibc_than_its_tag_says(wheel: Path) -> None:
    tagged = re.search(r"manylinux_2_(\d+)_", wheel.name)
    assert tagged is not None
    library = zipfile.ZipFile(wheel).read("propagation/_native.abi3.so")
    needed = {int(version) for version in re.findall(rb"GLIBC_2\.(\d+)", library)}
    # The agent is static, and what it names is inside it.
    assert max(needed) <= int(tagged.group(1))


def test_auditwheel_agrees(wheel: Path) -> None:
    if importlib.util.find_spec("auditwheel") is None:
        absent("python", "auditwheel is not installed")
    shown = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", str(wheel)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    tag = re.search(r"manylinux_2_\d+_x86_64", wheel.name)
    assert tag is not None
    assert tag.group(0) in shown


def test_no_module_is_for_linux_only() -> None:
    """On other systems the package must be importable: for a cluster, not for simulated nodes."""
    linux_only = re.compile(r"^\s*(?:import|from) (?:fcntl|pwd|grp|resource|termios|pty)\b", re.M)
    for source in Path(propagation.__file__).parent.glob("*.py"):
        assert not linux_only.search(source.read_text()), source
