"""Pods on a node of a real cluster: by hand, as a run, cancelled. Skipped where there is none."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

import propagation
from conftest import Cluster


async def test_a_fault_is_seen_and_a_restart_brings_it_back(face: Any, cluster: Cluster) -> None:
    async with face.node(kind="K8sNode", **cluster.options) as node:
        control = await node.start("control")
        producer = await node.start("producer")
        assert (await producer.wait("mounted")).mounted_at_us > 0
        consumer = await node.start("consumer")
        assert (await consumer.wait("fresh")).seen.generation == 1
        assert (await control.observe()).outcome == "absent"

        assert "SIGKILL" in await producer.inject("kill")
        assert (await consumer.wait("breakage")).seen.errno == "ENOTCONN"
        names = ["node", "consumer"]
        assert [seen.outcome for seen in await node.observe(names)] == ["ENOTCONN"] * 2

        await producer.restart()
        assert (await consumer.wait("fresh")).seen.generation == 2
        assert any("SUCCESS" in line for line in await consumer.log())
        assert (await node.facts())["kubelet"]
        assert "shaped_node" not in node.capabilities["features"]
        node.check("recovers", True, expected="generation 2", observed="generation 2")
        await control.stop()
        assert [spec["name"] for spec in await node.workloads()] == ["producer", "consumer"]
    report = node.report
    assert (report.backend, report.node) == ("k8s", cluster.options["node"])
    assert [phase.id for phase in report.phases] == ["host_setup", "by_hand"]
    assert {seen.outcome for seen in report.timeline} >= {"ok", "absent", "ENOTCONN"}
    assert report.cleanup.could_not == []


async def test_a_run_gives_a_verdict(face: Any, cluster: Cluster) -> None:
    events: list[propagation.Event] = []
    report = await face.run(backend=cluster.backend, consumers=1, on_event=events.append)
    assert (report.outcome, report.backend) == ("full_success", "k8s")
    assert report.cleanup.could_not == []
    waited = report.measurements.waited_for_kubelet_ms
    assert waited is not None
    assert 0 < waited < report.duration_ms
    ready = events[0]
    assert isinstance(ready, propagation.NodeReady)
    assert (ready.backend, ready.node) == ("k8s", cluster.options["node"])
    assert propagation.Report.from_json(report.to_json()).to_dict() == report.to_dict()


async def test_a_cancelled_run_cleans_up_and_says_so(face: Any, cluster: Cluster) -> None:
    async def body(node: Any) -> None:
        producer = await node.start("producer")
        await producer.wait("mounted")
        run.cancel()
        await producer.wait("ended", timeout=60)

    phases = ["host_setup", face.phase("own", (), body)]
    async with face.start(backend=cluster.backend, phases=phases) as run:
        async for _ in run:
            pass
    assert run.report.outcome == "inconclusive"
    assert run.report.cleanup.could_not == []


def test_a_cancelled_task_cleans_up_before_it_ends(cluster: Cluster) -> None:
    async def main() -> None:
        ready = asyncio.Event()

        class Own:
            id = "own"
            requires = ()

            async def run(self, node: propagation.AsyncNode) -> None:
                producer = await node.start("producer")
                await producer.wait("mounted")
                ready.set()
                await producer.wait("ended", timeout=60)

        phases: list[Any] = ["host_setup", Own()]
        going = propagation.run_async(backend=cluster.backend, phases=phases)
        task = asyncio.ensure_future(going)
        await ready.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cluster.left() == ""

    asyncio.run(main())


BOTH = """
import asyncio, signal, sys, propagation

# What a shell starts in the background ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)

def on_event(event):
    if isinstance(event, propagation.Decided):
        print("leaves", flush=True)

node, ssh_config, run_id = sys.argv[1:]
cluster = {"node": node, "access": "ssh", "ssh_config": ssh_config}
cluster.update(run_id=run_id, on_event=on_event)
"""
SYNC = """
with propagation.K8sNode(**cluster) as node:
    producer = node.start("producer")
    producer.wait("mounted")
    print("mounted", flush=True)
    producer.wait("ended")
"""
ASYNC = """
async def main():
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    async with propagation.AsyncK8sNode(**cluster) as node:
        producer = await node.start("producer")
        await producer.wait("mounted")
        print("mounted", flush=True)
        await producer.wait("ended")

asyncio.run(main())
"""


@pytest.mark.parametrize("script", [SYNC, ASYNC], ids=["sync", "async"])
def test_a_second_interrupt_does_not_wait_and_what_is_left_is_found(
    cluster: Cluster, script: str
) -> None:
    run_id = f"given-up-{os.getpid()}"
    words = [cluster.options["node"], cluster.options["ssh_config"], run_id]
    with subprocess.Popen(
        [sys.executable, "-c", BOTH + script, *words], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            assert line in ("mounted\n", "leaves\n")
            child.send_signal(signal.SIGINT)
    assert child.returncode != 0

    def clean(*more: str) -> str:
        command = [sys.executable, "-m", "propagation", "clean", "--backend", "k8s"]
        options = ["--ssh-config", words[1], "--run-id", run_id, *more]
        done = subprocess.run([*command, *options], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"run {run_id}: namespace" in clean("--list")
    assert f"run {run_id}: deleted namespace" in clean()


@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.6, 0.9])
def test_what_is_given_up_while_it_begins_is_removed(cluster: Cluster, seconds: float) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(propagation.run_async(backend=cluster.backend), seconds)
        assert cluster.left() == ""

    asyncio.run(main())


async def test_a_matrix_goes_one_after_the_other(face: Any, cluster: Cluster) -> None:
    faults = ["kill", "terminate"]
    cells = await face.matrix(backend=cluster.backend, fault=faults, consumers=[1])
    assert [(cell.options["fault"], cell.outcome) for cell in cells] == [
        (fault, "full_success") for fault in faults
    ]


async def test_a_matrix_of_directories_goes_side_by_side(face: Any, cluster: Cluster) -> None:
    bridges = ["/tmp/fuse-test-one", "/tmp/fuse-test-two"]
    cells = await face.matrix(backend=cluster.backend, jobs=2, bridge=bridges, consumers=[1])
    assert sorted(cell.options["bridge"] for cell in cells) == bridges
    assert {cell.outcome for cell in cells} == {"full_success"}


async def test_a_node_that_is_not_there_is_named(face: Any, cluster: Cluster) -> None:
    options = {**cluster.options, "node": "no-such-node"}
    with pytest.raises(propagation.HostError, match='"no-such-node" not found') as raised:
        async with face.node(kind="K8sNode", **options):
            raise AssertionError("there is no such node")
    assert raised.value.operation == "use node no-such-node"
    assert raised.value.fix == "list the nodes with: kubectl get nodes"


async def test_a_scenario_that_shapes_the_node_is_refused(face: Any, cluster: Cluster) -> None:
    with pytest.raises(propagation.UnsupportedError, match="shaped by the plan"):
        await face.run(backend=cluster.backend, covering="private")


def test_transports_are_compared_in_pods(cluster: Cluster) -> None:
    compared = propagation.compare(
        backend=cluster.backend, transports=["fuse"], workloads=["open"], quick=True, rounds=1
    )
    assert compared.transports == ["native", "fuse"], compared.skipped
    found = compared.to_dict()
    assert found["machine"]["engine"].endswith(f"on node {cluster.options['node']}")
    assert found["cleanup"].get("could_not", []) == []
