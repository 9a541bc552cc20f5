"""Nodes and workloads by hand: the same for both faces."""

from __future__ import annotations

from typing import Any

import pytest

import propagation

pytestmark = pytest.mark.usefixtures("local")


async def test_a_fault_is_seen_and_a_restart_brings_it_back(face: Any) -> None:
    async with face.node() as node:
        consumer = await node.start("consumer", "early")
        control = await node.start("control")
        producer = await node.start("producer")
        assert (await producer.wait("mounted")).mounted_at_us > 0
        assert (await consumer.wait("fresh")).seen.generation == 1
        assert (await consumer.observe()).ok
        assert (await control.observe()).outcome == "absent"

        evidence = await producer.inject("kill")
        assert "SIGKILL" in evidence
        assert (await consumer.wait("breakage")).seen.errno == "ENOTCONN"
        assert [seen.outcome for seen in await node.observe(["node", "early"])] == ["ENOTCONN"] * 2

        await producer.restart()
        assert (await consumer.wait("fresh")).seen.generation == 2
        assert (await consumer.observe()).generation == 2
    report = node.report
    assert [phase.id for phase in report.phases] == ["host_setup", "by_hand"]
    assert {seen.outcome for seen in report.timeline} >= {"ok", "absent", "ENOTCONN"}
    assert report.cleanup.could_not == []
    assert report.outcome == "as_expected"
    assert "inconclusive" not in str(report)
    assert [(act.what.partition(" ")[0], act.on) for act in report.acts] == [
        ("start", ["early"]),
        ("start", ["control"]),
        ("start", ["producer"]),
        ("fault:", ["producer"]),
        ("restart", ["producer"]),
    ]
    assert any("SIGKILL" in line for line in report.acts[3].proof)
    assert all(seen.at_us >= report.acts[3].from_us for seen in report.timeline if seen.errno)


async def test_a_node_can_be_opened_and_closed_without_a_block(face: Any) -> None:
    node = face.unopened()
    with pytest.raises(propagation.InvalidInputError, match="it is not open"):
        await node.start("producer")
    await node.open()
    producer = await node.start("producer")
    assert (await producer.wait("mounted")).running
    report = await node.close()
    assert report.outcome == "as_expected"
    assert await node.close() == report
    with pytest.raises(propagation.InvalidInputError, match="it is not open"):
        await node.facts()


async def test_interventions_one_by_one(face: Any) -> None:
    async with face.node() as node:
        producer = await node.start("producer")
        await producer.wait("mounted")
        consumer = await node.start("consumer", volume="mountpoint")
        await consumer.wait("fresh")
        await producer.inject("kill")
        await producer.restart()
        await producer.wait("mounted")
        assert not (await consumer.observe()).ok, "a volume that is the mountpoint stays stale"
        await consumer.rebind()
        assert (await consumer.observe()).ok
        await producer.inject()
        await producer.restart()
        await producer.wait("mounted")
        await consumer.restart(scope="pod")
        assert (await consumer.observe()).ok
        assert any("SUCCESS" in line for line in await consumer.log())


async def test_mounts_facts_and_workloads(face: Any) -> None:
    async with face.node() as node:
        producer = await node.start("producer")
        await producer.wait("mounted")
        tables = await node.mounts()
        assert set(tables) == {"node", "producer"}
        assert any(mount["fs_type"].startswith("fuse") for mount in tables["node"])
        assert await producer.mounts() == tables["producer"]
        facts = await node.facts()
        assert facts["fuse_device"] == {"state": "usable"}
        assert [spec["name"] for spec in await node.workloads()] == ["producer"]
        assert "rebind_host" in node.capabilities["repairs"]
        assert node.plan["bridge"]["mountpoint"] == "dfs"
        first = await node.now_us()
        assert await node.now_us() >= first
        await producer.stop()
        await producer.stop()
        assert await node.workloads() == []


async def test_programs_run_inside_and_the_node_unmounts(face: Any) -> None:
    # A container has the host's programs when a step of the scenario runs one in it.
    step = {"run": ["cat", "{marker}"], "in": "consumer-late"}
    async with face.node(propagation.Scenario.from_dict({"steps": [step]})) as node:
        producer = await node.start("producer")
        await producer.wait("mounted")
        consumer = await node.start("consumer", name="consumer-late")
        done = await node.execute("consumer-late", ["cat", "/mnt/dfs/producer-marker.txt"])
        assert "generation=1" in str(done)
        await producer.inject("kill")
        await node.unmount(lazy=True)
        assert (await consumer.observe()).outcome == "absent"
        with pytest.raises(propagation.HostError, match="EINVAL"):
            await node.unmount()
        await producer.restart(stale="stack")
        assert (await consumer.wait("fresh")).seen.generation == 2


async def test_a_keeper_hands_the_mount_over(face: Any) -> None:
    async with face.node() as node:
        producer = await node.start("producer", fuse={"keeper": True})
        await producer.wait("mounted")
        consumer = await node.start("consumer")
        await consumer.wait("fresh")
        await producer.inject({"slow": 1})
        await producer.inject("kill")
        await producer.hand_over()
        assert (await consumer.observe()).generation == 2


async def test_a_workload_is_a_context_manager(face: Any) -> None:
    async with face.node() as node:
        async with await node.start("producer") as producer:
            await producer.wait("mounted")
        assert not (await node.observe("node"))[0].ok


async def test_checks_make_the_phase(face: Any) -> None:
    async with face.node() as node:
        node.check("good", True, expected="one", observed="one", evidence=["line"])
        node.check("none", None, expected="two", observed="no time")
        node.check("bad", False, expected="x", observed="y", cause="because", fix="do")
    phase = node.report.phase("by_hand")
    assert phase.status == "failed"
    assert [check.status for check in phase.checks] == ["passed", "skipped", "failed"]
    assert phase.check("good").evidence == ["line"]
    cause = next(cause for cause in node.report.causes if cause.title == "because")
    assert cause.fix.words == "do"
    assert node.report.outcome == "otherwise"


async def test_what_the_runtime_refuses_is_raised_in_its_words(face: Any) -> None:
    async with face.node(covering="private") as node:
        with pytest.raises(propagation.StartRefusedError, match="shared") as raised:
            await node.start("producer")
        assert raised.value.text


async def test_slips_are_errors_and_the_node_goes_on(face: Any) -> None:
    async with face.node() as node:
        with pytest.raises(propagation.InvalidInputError, match="was not started"):
            await node.workload("nobody").status()
        with pytest.raises(propagation.InvalidInputError, match="unknown actor"):
            await node.observe("nobody")
        with pytest.raises(propagation.InvalidInputError, match="did you mean consumer"):
            await node.start("consumr")
        producer = await node.start("producer")
        with pytest.raises(propagation.InvalidInputError, match="its name is in use"):
            await node.start("producer")
        with pytest.raises(propagation.InvalidInputError, match="unknown condition"):
            await producer.wait("Godot")
        with pytest.raises(propagation.DeadlineError, match="wait for the end of producer"):
            await producer.wait("ended", timeout=0.05)
        assert (await producer.wait("mounted")).running


async def test_a_node_is_of_no_use_after_its_block(face: Any) -> None:
    async with face.node() as node:
        await node.facts()
    with pytest.raises(propagation.InvalidInputError, match="it is not open"):
        await node.facts()


async def test_what_the_body_raises_comes_out_and_all_is_removed(face: Any) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
        async with face.node() as node:
            await node.start("producer")
            _ = 1 / 0
    assert node.report.cleanup.could_not == []


async def test_events_of_a_node_come_after_each_call(face: Any) -> None:
    events: list[propagation.Event] = []
    async with face.node(on_event=events.append) as node:
        producer = await node.start("producer")
        await producer.wait("mounted")
        await node.observe("node")
        assert isinstance(events[-1], propagation.Observed)


async def test_replicas_are_actors_of_their_own(face: Any) -> None:
    async with face.node() as node:
        producer = await node.start("producer")
        await producer.wait("mounted")
        await node.start("consumer", replicas=3)
        seen = await node.observe()
        assert [one.actor for one in seen] == ["node", "consumer", "consumer#1", "consumer#2"]
        assert {one.outcome for one in seen} == {"ok"}
        assert [one.replica for one in await node.observe("consumer#2")] == [2]
