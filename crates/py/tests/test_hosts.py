"""Hosts that lack something, the command line, and many runs."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import propagation
from conftest import descriptors, eventually, program, zombies

pytestmark = pytest.mark.usefixtures("local")


def python(script: str, *before: str) -> subprocess.CompletedProcess[str]:
    """Run a script with this interpreter, by way of other programs."""
    return subprocess.run(
        [*before, sys.executable, "-I", "-c", script], capture_output=True, text=True
    )


def in_private_namespace(setup: str, script: str, *before: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a mount namespace of its own, after a shell has set it up."""
    shell = f'set -eu; {setup}; exec "$@"'
    unshare = [program("unshare"), "--mount", "--propagation", "private"]
    return python(script, *unshare, "sh", "-c", shell, "sh", *before)


@pytest.mark.usefixtures("root")
def test_an_ordinary_user_gets_a_verdict(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in (tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    device = tmp_path / "fuse"
    setup = f"mknod -m 666 {device} c 10 229; mount --bind {device} /dev/fuse"
    interpreter = Path(sys.base_prefix)
    home = Path.home()
    if home in interpreter.parents:
        # An interpreter below root's home: lay it open there, in this namespace only.
        kept = tmp_path / "interpreter"
        kept.mkdir()
        setup += (
            f"; mount --bind {interpreter} {kept}; mount -t tmpfs -o mode=755 tmpfs {home}"
            f"; mkdir -p {interpreter}; mount --move {kept} {interpreter}"
        )
    as_user = [program("setpriv"), "--reuid", "1000", "--regid", "1000", "--clear-groups"]
    done = in_private_namespace(
        setup,
        "import os, propagation\n"
        "report = propagation.run()\n"
        "print(os.geteuid(), report.outcome, report.environment['user_namespace'])\n",
        *as_user,
    )
    assert (done.stdout, done.returncode) == ("1000 full_success True\n", 0), done.stderr


@pytest.mark.usefixtures("root")
def test_without_proc_the_agent_cannot_be_started_and_the_error_says_so() -> None:
    done = in_private_namespace(
        "mount -t tmpfs none /proc",
        "import propagation\n"
        "try: propagation.run()\n"
        "except propagation.HostError as error: print(error.operation, '|', error.reason)\n",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("start the agent | "), done.stdout


@pytest.mark.usefixtures("root")
def test_without_a_device_the_fix_is_named(tmp_path: Path) -> None:
    done = in_private_namespace(
        f"cd {tmp_path}; touch null; mount --bind /dev/null null; mount --rbind . /dev",
        "import propagation\n"
        "report = propagation.run()\n"
        "check = report.phase('host_setup').check('fuse_device')\n"
        "print(report.outcome, check.status, report.causes[0].fix.command)\n",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("inconclusive failed "), done.stdout
    assert "modprobe fuse" in done.stdout


def test_too_few_descriptors_is_an_error_of_the_environment() -> None:
    done = python(
        "import resource, propagation\n"
        "propagation.run()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (6, 6))\n"
        "try: propagation.run()\n"
        "except propagation.HostError as error: print(error.kind)\n"
    )
    assert done.stdout == "environment\n", done.stderr


def test_the_module_is_the_command_line(tmp_path: Path) -> None:
    def cli(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "propagation", *words],
            capture_output=True,
            text=True,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        )

    done = cli("run", "--report", str(tmp_path / "result"))
    assert done.returncode == 0, done.stderr
    assert "Verdict: full_success" in done.stdout
    saved = (tmp_path / "result" / "report.json").read_bytes()
    assert propagation.Report.from_json(saved).outcome == "full_success"
    assert cli("run", "--volume", "mountpoint").returncode == 3
    assert cli("--version").stdout == f"propagation {propagation.__version__}\n"
    bad = cli("run", "--bridge", "relative")
    assert bad.returncode == 2
    assert "fix: write it from the root" in bad.stderr
    slip = cli("docter")
    assert slip.returncode == 2
    assert "doctor" in slip.stderr
    assert cli().returncode == 2


def test_many_runs_leave_nothing_behind() -> None:
    """Whatever grows with runs grows by more than a little in a hundred."""
    runs = int(os.environ.get("PROPAGATION_PYTHON_RUNS", "100"))

    def threads() -> list[str]:
        return sorted((task / "comm").read_text() for task in Path("/proc/self/task").iterdir())

    def measure() -> tuple[int, list[str], set[str]]:
        gc.collect()
        return len(descriptors()), threads(), zombies()

    def once(number: int) -> None:
        kind = number % 4
        if kind == 0:
            asyncio.run(propagation.run_async())
        elif kind == 1:
            with propagation.LocalNode() as node:
                node.start("producer").wait("mounted")
        elif kind == 2:
            with propagation.start() as run:
                for event in run:
                    if isinstance(event, propagation.PhaseEnded):
                        break
        else:
            propagation.run()

    # A library that another test has imported may have threads of its own.
    others = len(threads())
    for number in range(20):
        once(number)
    assert eventually(lambda: len(threads()) <= others and not zombies()), measure()
    before = measure()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(runs):
        once(number)
    assert eventually(lambda: measure() == before), (before, measure())
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    # One leaked report is some 100 KiB.
    assert grown_kib < 4096 + 10 * runs, f"{grown_kib} KiB more after {runs} runs"
