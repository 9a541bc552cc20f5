"""Cancelling, interrupting, threads, event loops, forks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pytest

import propagation
from conftest import agents, descriptors, eventually

pytestmark = pytest.mark.usefixtures("local")

# A stopped daemon is looked at for the probe's deadline: such a run takes seconds.
LONG: Literal["stop"] = "stop"


def test_cancelling_a_task_cleans_up_before_it_ends() -> None:
    async def main() -> None:
        started = asyncio.Event()

        def observer(event: propagation.Event) -> None:
            started.set()

        task = asyncio.create_task(propagation.run_async(fault=LONG, on_event=observer))
        await started.wait()
        assert agents()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not agents(), "the node is gone when the task has ended"

    asyncio.run(main())


def test_a_time_out_of_asyncio_cleans_up() -> None:
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(propagation.run_async(fault=LONG), timeout=0.2)
        assert not agents()

    asyncio.run(main())


def test_a_second_cancellation_does_not_wait() -> None:
    async def main() -> None:
        started = asyncio.Event()
        task = asyncio.create_task(
            propagation.run_async(fault=LONG, on_event=lambda _: started.set())
        )
        await started.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert eventually(lambda: not agents())


def test_cancelling_a_call_leaves_the_node_usable() -> None:
    async def main() -> None:
        async with propagation.AsyncLocalNode() as node:
            producer = await node.start("producer")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(producer.wait("ended"), timeout=0.05)
            assert (await producer.wait("mounted")).running

    asyncio.run(main())


def test_many_calls_go_on_at_once() -> None:
    async def main() -> None:
        async with propagation.AsyncLocalNode() as node:
            consumer = await node.start("consumer")
            producer = await node.start("producer")
            await consumer.wait("fresh")
            # The one that waits does not hold up the one that is waited for.
            noticed, _ = await asyncio.gather(consumer.wait("breakage"), producer.inject("kill"))
            assert noticed.seen is not None
            assert noticed.seen.errno == "ENOTCONN"

    asyncio.run(main())


def test_runs_go_on_at_once_in_one_loop() -> None:
    async def main() -> list[propagation.Report]:
        return await asyncio.gather(*(propagation.run_async() for _ in range(8)))

    reports = asyncio.run(main())
    assert {report.outcome for report in reports} == {"full_success"}
    assert len({report.run_id for report in reports}) == 8


def test_the_loop_goes_on_while_a_run_does() -> None:
    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticker = asyncio.create_task(tick())
        await propagation.run_async()
        ticker.cancel()
        return ticks

    assert asyncio.run(main()) > 10


def test_a_synchronous_run_works_inside_a_running_loop() -> None:
    async def main() -> propagation.Report:
        return propagation.run()

    assert asyncio.run(main()).outcome == "full_success"


def test_runs_go_on_at_once_in_threads() -> None:
    with ThreadPoolExecutor(4) as pool:
        outcomes = pool.map(lambda _: propagation.run().outcome, range(8))
        assert set(outcomes) == {"full_success"}


def test_other_threads_run_meanwhile() -> None:
    stop = threading.Event()
    count = 0

    def work() -> None:
        nonlocal count
        while not stop.wait(0.001):
            count += 1

    thread = threading.Thread(target=work)
    thread.start()
    propagation.run(fault=LONG, timeout=0.3)
    stop.set()
    thread.join()
    assert count > 10


def test_a_node_is_used_from_several_threads() -> None:
    with propagation.LocalNode() as node, ThreadPoolExecutor(4) as pool:
        consumer = node.start("consumer")
        producer = node.start("producer")
        consumer.wait("fresh")
        waiting = pool.submit(consumer.wait, "breakage")
        producer.inject("kill")
        assert waiting.result().seen is not None
        assert all(seen for seen in pool.map(lambda _: node.observe("consumer"), range(8)))


@pytest.mark.parametrize("face", ["sync", "async"])
def test_control_c_cleans_up_and_is_raised(face: str) -> None:
    call = {
        "sync": "propagation.run(fault='stop', on_event=event)",
        "async": "asyncio.run(propagation.run_async(fault='stop', on_event=event))",
    }[face]
    # Whoever is started in the background ignores the signal.
    script = f"""
import asyncio, propagation, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
def event(event):
    if isinstance(event, propagation.PhaseStarted) and event.phase == "stale_mount":
        print("now", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
    with open("/proc/self/task/%d/children" % __import__("os").getpid()) as children:
        print("children", children.read().split(), flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "now\n"
    child.send_signal(signal.SIGINT)
    rest = child.stdout.read()
    child.stdout.close()
    assert child.wait() == 0
    assert rest == "interrupted\nchildren []\n"
    assert not _agents_of(child.pid)


def test_a_killed_process_leaves_nothing() -> None:
    script = """
import propagation
propagation.run(fault="stop", on_event=lambda event: print(event.__class__.__name__, flush=True))
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "NodeReady\n"
    child.kill()
    child.stdout.close()
    child.wait()
    assert eventually(lambda: not _agents_of(child.pid)), "the node ends with its starter"


def _agents_of(pid: int) -> list[str]:
    listed = subprocess.run(
        ["ps", "-eo", "pid,stat,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [line for line in listed if f"--parent {pid}:" in line and " Z" not in line]


def test_a_process_that_ends_in_the_middle_leaves_nothing() -> None:
    script = """
import propagation
node = propagation.LocalNode().__enter__()
node.start("producer").wait("mounted")
print("up", flush=True)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    said = child.communicate()
    assert (child.returncode, *said) == (0, "up\n", "")
    assert eventually(lambda: not _agents_of(child.pid)), "the node ends with its starter"


def _in_fork(body: object) -> str:
    """What a function gives in a forked process."""
    assert callable(body)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, str(body()).encode())
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        answer = answers.read()
    os.waitpid(pid, 0)
    return answer


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_runs_its_own_and_refuses_its_parents() -> None:
    assert _in_fork(lambda: propagation.run().outcome) == "full_success"
    with propagation.LocalNode() as node:
        producer = node.start("producer")
        producer.wait("mounted")
        assert _in_fork(lambda: propagation.run().outcome) == "full_success"
        for use in (lambda: node.facts(), lambda: producer.inject("kill")):
            answer = _in_fork(use)
            assert answer.startswith("InvalidInputError: use a run of another process"), answer
        # What the fork throws away is not the parent's.
        assert node.observe("node")[0].ok


def test_descriptors_are_given_back() -> None:
    propagation.run()
    before = descriptors()
    for _ in range(5):
        propagation.run()
        asyncio.run(propagation.run_async())
        with propagation.LocalNode() as node:
            node.start("producer").wait("mounted")
    assert eventually(lambda: descriptors() == before), descriptors() ^ before
