"""Running scenarios: the same for both faces."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import propagation
from conftest import STEPS, impatient

pytestmark = pytest.mark.usefixtures("local")


async def test_the_five_phases_give_full_success(face: Any) -> None:
    report = await face.run()
    assert report.outcome == report.verdict.outcome == "full_success"
    assert report.answer is not None
    assert report.answer.scenario_letter == "A"
    assert [phase.id for phase in report.phases] == list(propagation.FIVE_PHASES)
    assert {phase.status for phase in report.phases} == {"passed"}
    assert report.cleanup.could_not == []


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ({"volume": "mountpoint"}, "partial_success"),
        ({"propagation": "None"}, "fundamental_failure"),
        ({"covering": "private"}, "inconclusive"),
        ({"fault": "terminate"}, "full_success"),
        ({"bridge": "/tmp/with a blank"}, "full_success"),
    ],
)
async def test_keywords_make_the_scenario(
    face: Any, options: dict[str, Any], outcome: propagation.Outcome
) -> None:
    assert (await face.run(impatient(**options))).outcome == outcome


async def test_a_scenario_can_be_an_object_a_mapping_or_a_file(face: Any, tmp_path: Path) -> None:
    scenario = propagation.Scenario.from_dict(impatient(volume="mountpoint"))
    file = tmp_path / "scenario.json"
    file.write_text(json.dumps(scenario.to_dict()))
    for given in (scenario, scenario.to_dict(), file, str(file)):
        report = await face.run(given)
        assert report.outcome == "partial_success"
        # A file without a name of its own is named after itself.
        plan = {key: value for key, value in report.plan.items() if key != "name"}
        assert plan == scenario.to_dict()
        assert report.plan.get("name") in (None, "scenario")


async def test_the_steps_of_a_scenario_are_carried_out(face: Any, tmp_path: Path) -> None:
    file = tmp_path / "clean-unmount.yaml"
    file.write_text(STEPS)
    report = await face.run(file)
    assert [phase.id for phase in report.phases] == ["1-start", "2-fault", "3-repair"]
    assert report.expectations.met == 4
    assert report.expectations.unmet == 0
    assert report.plan["name"] == "clean-unmount"


async def test_a_scenario_and_keywords_are_refused(face: Any) -> None:
    with pytest.raises(propagation.InvalidInputError, match="use fault"):
        await face.run(propagation.Scenario(), fault="stop")


async def test_events_come_in_order_and_agree_with_the_report(face: Any) -> None:
    events: list[propagation.Event] = []
    report = await face.run(on_event=events.append)
    assert isinstance(events[0], propagation.NodeReady)
    assert isinstance(events[-1], propagation.Cleaned)
    ended = [e.phase.id for e in events if isinstance(e, propagation.PhaseEnded)]
    assert ended == list(propagation.FIVE_PHASES)
    seen = [e.observation for e in events if isinstance(e, propagation.Observed)]
    assert sorted(seen, key=lambda one: one.at_us) == list(report.timeline)
    checks = [e.check for e in events if isinstance(e, propagation.Checked)]
    assert checks == [check for phase in report.phases for check in phase.checks]


async def test_events_can_be_iterated_over(face: Any) -> None:
    kinds = []
    async with face.start() as run:
        async for event in run:
            kinds.append(type(event))
    assert run.report.outcome == "full_success"
    assert kinds.count(propagation.PhaseStarted) == 5


async def test_leaving_the_block_cancels_and_cleans_up(face: Any) -> None:
    async with face.start(fault="stop") as run:
        async for event in run:
            if isinstance(event, propagation.PhaseEnded):
                break
    with pytest.raises(propagation.InvalidInputError, match="has not ended"):
        _ = run.report


async def test_a_cancelled_run_has_a_report(face: Any) -> None:
    async with face.start() as run:
        async for event in run:
            if isinstance(event, propagation.PhaseStarted):
                run.cancel()
    assert run.report.outcome == "inconclusive"
    assert "interrupted" in run.report.verdict.summary


async def test_a_time_limit_ends_the_run(face: Any) -> None:
    report = await face.run(fault="stop", timeout=0.3)
    assert report.outcome == "inconclusive"
    assert "longer than 0.3 s" in report.verdict.summary


async def test_what_an_observer_raises_comes_out_after_cleaning_up(face: Any) -> None:
    class OwnError(Exception):
        pass

    def observer(event: propagation.Event) -> None:
        if isinstance(event, propagation.Observed):
            raise OwnError

    with pytest.raises(OwnError):
        await face.run(on_event=observer)


async def test_the_run_id_can_be_chosen(face: Any) -> None:
    assert (await face.run(run_id="my-run")).run_id == "my-run"
    with pytest.raises(propagation.InvalidInputError, match="run id"):
        await face.run(run_id="My Run")


async def test_what_a_run_logs_is_in_logging(face: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="propagation"):
        await face.run()
    lines = [record.message for record in caplog.records if record.name == "propagation"]
    assert lines[0] == "local node local is ready"
    assert any(line.startswith("full_success: ") for line in lines)
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger="propagation"):
        await face.run()
    assert any("ENOTCONN" in record.message for record in caplog.records)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="propagation"):
        await face.run()
    assert not caplog.records


@pytest.mark.parametrize(
    "wrong",
    [
        {"consumers": "two"},
        {"fault": 3},
        {"timeout": "long"},
        {"phases": [object()]},
        {"scenario": 7},
        {"unknown": 1},
        {"scenario": {"plan": object()}},
    ],
    ids=str,
)
async def test_wrong_types_are_type_errors(face: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        await face.run(**wrong)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fault": "explode"}, "unknown variant `explode`"),
        ({"bridge": "relative"}, "is not an absolute path"),
        ({"timeout": 0.0}, "not a number of seconds above 0"),
        ({"timeout": float("nan")}, "not a number of seconds above 0"),
        ({"consumers": 0}, "no consumer"),
        ({"phases": ["no_such"]}, "unknown phase"),
        ({"phases": ["producer", "producer"]}, "duplicate id"),
        ({"backend": "moon"}, "unknown backend"),
        ({"scenario": {"workloads": []}}, "no workloads"),
        ({"scenario": {"workload": []}}, "unknown field `workload`"),
        ({"scenario": "/no/such/file.yaml"}, "No such file"),
    ],
    ids=str,
)
async def test_wrong_values_are_invalid_input_with_a_fix(
    face: Any, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(propagation.InvalidInputError, match=words) as raised:
        await face.run(**wrong)
    assert raised.value.fix
    assert isinstance(raised.value, ValueError)


async def test_a_misspelt_keyword_says_what_was_meant(face: Any) -> None:
    with pytest.raises(TypeError, match="unknown keyword 'falt'; did you mean 'fault'"):
        await face.run(falt="kill")
    with pytest.raises(TypeError, match="did you mean 'volume'"):
        await face.matrix(volumes=["bridge"])


async def test_a_fault_that_is_not_one_of_a_producer_is_refused_before_the_run(face: Any) -> None:
    with pytest.raises(propagation.InvalidInputError, match="continue"):
        await face.run(fault="continue")


async def test_a_scenario_has_no_answer(face: Any, tmp_path: Path) -> None:
    file = tmp_path / "steps.yaml"
    file.write_text(STEPS)
    report = await face.run(file)
    assert report.answer is None
    assert report.outcome == "as_expected"
    assert report.ok
