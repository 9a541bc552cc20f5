"""How long the Python module takes beside what it wraps; prints the tables of benches/README.md.

`scripts/bench-python` runs it with the wheel installed. Wants an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import propagation


def milliseconds(work: Callable[[], object]) -> float:
    """Time one call."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def pairs(count: int, *works: Callable[[], object]) -> list[list[float]]:
    """Time pieces of work in turns, so that what disturbs one disturbs the other."""
    for work in works:
        work()
    rounds = [[milliseconds(work) for work in works] for _ in range(count)]
    return [list(column) for column in zip(*rounds)]


def row(name: str, times: list[float]) -> None:
    """Print one row of a table."""
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]
    print(f"| {name} | {statistics.median(times):.1f} ms | {p99:.1f} ms | {ordered[0]:.1f} ms |")


def head(title: str) -> None:
    """Print the head of a table."""
    print(f"\n## {title}\n\n| time | median | p99 | least |\n|---|---:|---:|---:|")


def difference(one: list[float], other: list[float]) -> float:
    """Give the median of the differences, pair by pair."""
    return statistics.median(a - b for a, b in zip(one, other))


def runs(count: int, program: str) -> None:
    """`propagation.run()` beside the program that does the same."""
    # Its log file is not what is compared.
    command = [program, "run", "--log-dir", "/dev/null/none"]

    def cli() -> None:
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    bound, own = pairs(count, propagation.run, cli)
    head(f"Five phases, {count} rounds")
    row("`propagation.run()`", bound)
    row("the process `propagation run`", own)
    print(f"\nOverhead, pair by pair: {difference(bound, own):+.1f} ms (goal: under 20 ms)")


def imports(count: int) -> None:
    """`import propagation` beside an interpreter that does nothing."""

    def python(script: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-I", "-c", script], check=True)

    importing, bare = pairs(count, python("import propagation"), python("pass"))
    head(f"Import, {count} rounds")
    row('`python -c "import propagation"`', importing)
    row('`python -c "pass"`', bare)
    print(f"\nImport, pair by pair: {difference(importing, bare):+.1f} ms (goal: 50 ms or less)")


def events(count: int, observations: int) -> None:
    """A run whose observations are all given to a function, beside one without."""
    # More would need more open files than a process usually may have.
    consumers = 9_000
    seen = 0

    def observer(event: propagation.Event) -> None:
        nonlocal seen
        if isinstance(event, propagation.Observed) and event.observation.ok:
            seen += 1

    def one(told: bool) -> tuple[float, int]:
        nonlocal seen
        seen = 0
        report = propagation.run(consumers=consumers, on_event=observer if told else None)
        assert report.verdict.outcome == "full_success", report.verdict
        assert (seen > consumers) == told, f"{seen} observations were given to the function"
        return report.duration_ms, len(report.timeline)

    runs = -(-observations // one(told=False)[1])
    durations: dict[bool, list[float]] = {True: [], False: []}
    made = 0
    for _ in range(count):
        for told in (True, False):
            done = [one(told) for _ in range(runs)]
            durations[told].append(sum(duration for duration, _ in done))
            made = sum(observed for _, observed in done)
    head(f"{runs} runs of {consumers:,} consumers, {made:,} observations, {count} rounds")
    row("each observation to a function", durations[True])
    row("without", durations[False])
    slower = statistics.median(a / b for a, b in zip(durations[True], durations[False]))
    print(f"\nSlower, pair by pair: {(slower - 1) * 100:+.1f} % (goal: 10 % or less)")


def main() -> None:
    """Run what was asked for, or everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="target/release/propagation")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--observations", type=int, default=100_000)
    parser.add_argument("only", nargs="*", choices=[[], "runs", "imports", "events"])
    options = parser.parse_args()
    wanted = options.only or ["runs", "imports", "events"]
    if "runs" in wanted:
        runs(options.rounds, options.program)
    if "imports" in wanted:
        imports(options.rounds)
    if "events" in wanted:
        events(max(3, options.rounds // 16), options.observations)


if __name__ == "__main__":
    main()
