"""Phases that are written in Python: the same for both faces."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import propagation
from conftest import impatient

pytestmark = pytest.mark.usefixtures("local")


async def test_a_phase_acts_and_records(face: Any) -> None:
    async def body(node: Any) -> None:
        seen = await node.observe(["consumer-early", "consumer-late"])
        node.check("reads", all(one.ok for one in seen), expected="ok", observed=str(seen))
        await node.workload("producer").inject("kill")
        again = await node.observe("consumer-early")
        node.check("breaks", not again[0].ok, expected="an errno", observed=again[0].outcome)

    own = face.phase("own", ("recovery",), body)
    report = await face.run(phases=[*propagation.FIVE_PHASES, own])
    phase = report.phase("own")
    assert phase.status == "passed"
    assert [check.id for check in phase.checks] == ["reads", "breaks"]
    assert {seen.step for seen in report.timeline} >= {"own"}


async def test_a_phase_is_skipped_when_what_it_requires_did_not_pass(face: Any) -> None:
    async def body(node: Any) -> None:
        raise AssertionError("it must not be run")

    own = face.phase("own", ("consumer",), body)
    phases = [*propagation.FIVE_PHASES, own]
    report = await face.run(impatient(propagation="None"), phases=phases)
    assert report.phase("own").status == "skipped"
    assert report.phase("own").reason == "consumer did not pass"


async def test_a_requirement_that_is_no_phase_of_the_run_is_refused(face: Any) -> None:
    async def body(node: Any) -> None:
        raise AssertionError("it must not be run")

    own = face.phase("own", ("host_setpu",), body)
    with pytest.raises(propagation.InvalidInputError, match="unknown phase") as raised:
        await face.run(phases=["host_setup", own])
    assert "did you mean" in str(raised.value.fix)


async def test_an_error_of_the_package_is_the_reason_of_the_phase(face: Any) -> None:
    async def body(node: Any) -> None:
        raise propagation.HostError("weigh the node", "no scales", "buy some")

    report = await face.run(phases=["host_setup", face.phase("own", (), body)])
    assert report.phase("own").status == "errored"
    assert report.phase("own").reason == "weigh the node: no scales (buy some)"
    assert report.outcome == "inconclusive"


async def test_anything_else_that_a_phase_raises_comes_out(face: Any) -> None:
    async def body(node: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await face.run(phases=["host_setup", face.phase("own", (), body)])


async def test_events_of_a_phase_reach_the_observer(face: Any) -> None:
    order: list[str] = []

    async def body(node: Any) -> None:
        node.check("first", True, expected="", observed="")
        await node.facts()
        order.append("body ends")

    def observer(event: propagation.Event) -> None:
        if isinstance(event, propagation.Checked) and event.phase == "own":
            order.append("observed")

    await face.run(phases=[face.phase("own", (), body)], on_event=observer)
    assert order == ["observed", "body ends"]


async def test_a_run_that_is_cut_short_ends_the_phase(face: Any) -> None:
    async def body(node: Any) -> None:
        producer = await node.start("producer")
        await producer.wait("ended", timeout=60)

    report = await face.run(phases=["host_setup", face.phase("own", (), body)], timeout=0.5)
    assert report.outcome == "inconclusive"
    assert report.phase("own").status == "errored"


def test_a_synchronous_phase_runs_beside_the_event_loop() -> None:
    class Own:
        id = "own"
        requires = ("host_setup",)

        def run(self, node: propagation.Node) -> None:
            node.check("looks", True, expected="", observed=str(node.observe("node")))

    async def main() -> propagation.Report:
        return await propagation.run_async(phases=["host_setup", "producer", Own()])

    assert asyncio.run(main()).phase("own").status == "passed"


def test_an_asynchronous_phase_needs_run_async() -> None:
    class Own:
        id = "own"
        requires = ()

        async def run(self, node: propagation.AsyncNode) -> None:
            pass

    with pytest.raises(propagation.InvalidInputError, match="asynchronous"):
        propagation.run(phases=["host_setup", Own()])


def test_protocols_are_checked_by_shape() -> None:
    class Own:
        id = "own"
        requires = ()

        def run(self, node: propagation.Node) -> None:
            pass

    assert isinstance(Own(), propagation.Phase)
    assert not isinstance(object(), propagation.Phase)
