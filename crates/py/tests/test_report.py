"""Reports: attributes, round trips, data frames."""

from __future__ import annotations

import builtins
import datetime
import importlib.util
import json
import pickle
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

import propagation
from conftest import absent


@pytest.fixture(scope="module")
def report() -> propagation.Report:
    try:
        return propagation.run()
    except (propagation.HostError, propagation.UnsupportedError) as error:
        absent("local", str(error))
        raise


def test_attributes_agree_with_the_dict(report: propagation.Report) -> None:
    plain = report.to_dict()
    for name in ("schema_version", "tool_version", "run_id", "backend", "node", "duration_ms"):
        assert getattr(report, name) == plain[name], name
    for name in ("captures", "environment", "plan"):
        assert getattr(report, name) == plain[name], name
    assert report.verdict.summary == plain["verdict"]["summary"]
    assert report.answer is not None
    own = plain["verdict"]["next_steps"]
    assert report.answer.next_steps[: len(own)] == own
    assert [(act.step, act.from_us, act.until_us, act.on) for act in report.acts] == [
        (act["step"], act["from_us"], act["until_us"], act.get("on", [])) for act in plain["acts"]
    ]
    assert [cause.id for cause in report.causes] == [one["id"] for one in plain["diagnosis"]]
    assert [seen.to_dict() for seen in report.timeline] == plain["timeline"]
    assert [phase.duration_ms for phase in report.phases] == [
        phase["duration_ms"] for phase in plain["phases"]
    ]
    measured = plain["measurements"]
    assert report.measurements.mount_to_visible_ms == measured["mount_to_visible_ms"]
    assert report.measurements.waited_for_kubelet_ms is None
    assert report.measurements.smallest_intervention == measured["smallest_intervention"] == "wait"
    assert {log["workload"] for log in plain["logs"]} == set(report.logs)
    assert report.cleanup.undone == plain["cleanup"]["undone"]


def test_the_time_is_a_time(report: propagation.Report) -> None:
    assert report.started_at.tzinfo is datetime.timezone.utc
    age = datetime.datetime.now(datetime.timezone.utc) - report.started_at
    assert datetime.timedelta(0) < age < datetime.timedelta(hours=1)


def test_observations_say_what_was_seen(report: propagation.Report) -> None:
    broken = next(seen for seen in report.timeline if seen.errno)
    assert (broken.ok, broken.outcome, broken.errno) == (False, "ENOTCONN", "ENOTCONN")
    assert "ENOTCONN" in broken.detail
    fine = next(seen for seen in report.timeline if seen.ok and seen.mount)
    assert (fine.outcome, fine.errno, fine.generation) == ("ok", None, 1)
    assert fine.mount is not None
    assert fine.mount["fs_type"].startswith("fuse")
    assert fine.took_us > 0
    held = [seen for seen in report.timeline if seen.held_descriptor]
    assert held
    assert all(seen.workload for seen in held)


def test_it_round_trips(report: propagation.Report) -> None:
    text = report.to_json()
    for given in (text, text.encode()):
        again = propagation.Report.from_json(given)
        assert again.to_dict() == report.to_dict()
        assert again.to_json() == text
        assert again == report
        assert hash(again) == hash(report)
        assert again.to_text(evidence=True) == report.to_text(evidence=True)
    assert json.loads(text) == report.to_dict()
    assert pickle.loads(pickle.dumps(report)).to_json() == text


def test_parts_can_be_pickled(report: propagation.Report) -> None:
    seen = report.timeline[0]
    assert pickle.loads(pickle.dumps(seen)) == seen
    assert propagation.Observation.from_dict(seen.to_dict()) == seen


def test_another_run_is_another_report(report: propagation.Report) -> None:
    assert propagation.run() != report


def test_a_success_is_ok(report: propagation.Report) -> None:
    assert report.ok
    assert report.raise_for_outcome() is report
    assert report.raise_for_outcome("partial_success", "full_success") is report
    with pytest.raises(propagation.OutcomeError, match="full_success") as raised:
        report.raise_for_outcome("partial_success")
    assert raised.value.report is report
    with pytest.raises(propagation.InvalidInputError, match="unknown outcome"):
        report.raise_for_outcome("success")  # type: ignore[arg-type]


def test_why_it_is_partial_is_typed() -> None:
    report = propagation.run(volume="mountpoint")
    assert not report.ok
    first = report.causes[0]
    assert first.id == "volume-is-mountpoint"
    assert first.confidence in ("likely", "proven")
    assert not first.is_over
    assert set(first.actors) >= {"consumer-late"}
    assert first.fix.words
    assert first.fix.command is None or first.fix.kind == "command"
    assert first.verify
    assert first.source
    with pytest.raises(propagation.OutcomeError, match="partial_success") as raised:
        report.raise_for_outcome()
    assert first.title in str(raised.value)
    measured = report.measurements
    assert measured.restart_to_recovery_ms is None, "nobody came back by himself"
    assert measured.by_itself == "never"
    assert measured.intervention_to_fresh_read_ms is not None
    assert measured.waited_in_vain_ms > 0


def test_what_was_done_lies_in_the_run(report: propagation.Report) -> None:
    fault = next(act for act in report.acts if act.what.startswith("fault"))
    assert fault.on == ["producer"]
    assert fault.refused is None
    assert any("SIGKILL" in line for line in fault.proof)
    assert all(act.from_us <= act.until_us <= report.duration_ms * 1e3 for act in report.acts)
    stale = [seen for seen in report.timeline if seen.errno]
    assert all(seen.at_us >= fault.from_us for seen in stale)


def test_representations_say_what_is_there(report: propagation.Report) -> None:
    shown = repr(report.measurements)
    assert "fault to breakage" in shown
    assert "smallest intervention wait" in shown
    assert repr(report.cleanup).endswith("0 could not be undone, 0 kept>")
    assert report.answer is not None
    assert repr(report.answer).startswith("<Answer full_success: ")
    assert repr(report.acts[0]).startswith("<Act start at ")


@pytest.mark.parametrize("damaged", ["", "{}", "[1]", '{"schema_version": 999}', b"\xff"])
def test_what_is_not_a_report_is_refused(damaged: str | bytes) -> None:
    with pytest.raises(propagation.InvalidInputError, match="read the report") as raised:
        propagation.Report.from_json(damaged)
    assert raised.value.fix


def test_renderings(report: propagation.Report) -> None:
    text = report.to_text()
    assert str(report) == text
    assert "Verdict: full_success" in text
    assert "\x1b[" not in text
    assert "\x1b[" in report.to_text(colour=True)
    assert len(report.to_text(evidence=True)) > len(text)
    assert report.run_id in repr(report)


def test_other_renderings(report: propagation.Report) -> None:
    assert report.run_id in report.to_markdown()
    page = report.to_html()
    assert page.startswith("<!")
    assert report.run_id in page
    assert ElementTree.fromstring(report.to_junit()).tag == "testsuites"


def test_a_notebook_shows_the_page_in_a_frame(report: propagation.Report) -> None:
    frames: list[dict[str, str | None]] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            frames.append({"tag": tag, **dict(attrs)})

    Parser().feed(report._repr_html_())
    (frame,) = frames
    assert frame["tag"] == "iframe"
    assert frame["srcdoc"] == report.to_html()
    assert "<svg" in report.to_html()


def test_the_schema_names_the_fields(report: propagation.Report) -> None:
    assert set(report.to_dict()) <= set(propagation.Report.json_schema()["properties"])


def test_what_is_not_there_is_a_key_error(report: propagation.Report) -> None:
    with pytest.raises(KeyError):
        report.phase("no_such")
    with pytest.raises(KeyError):
        report.phase("producer").check("no_such")


def test_it_does_not_change(report: propagation.Report) -> None:
    things: list[Any] = [report, report.verdict, report.phases[0], report.timeline[0]]
    for thing in things:
        with pytest.raises(AttributeError):
            thing.anything = 1
    assert report.phases is report.phases
    assert report.timeline is report.timeline


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames(report: propagation.Report, library: Any) -> None:
    if importlib.util.find_spec(library) is None:
        absent("python", f"{library} is not installed")
    frame = report.to_dataframe(library)
    assert type(frame).__module__.startswith(library)
    assert len(frame) == len(report.timeline)
    assert list(frame["outcome"]) == [seen.outcome for seen in report.timeline]


def test_without_a_library_there_is_no_data_frame(
    report: propagation.Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] in ("pandas", "polars"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    import sys

    for name in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install pandas"):
        report.to_dataframe()
    with pytest.raises(ValueError, match="pandas or polars"):
        report.to_dataframe("duckdb")  # type: ignore[arg-type]


def test_waiting_is_apart_from_what_happened_by_itself() -> None:
    measured = propagation.run(fault="stop", experiments="off").measurements
    assert measured.restart_to_recovery_ms is not None
    assert measured.fault_to_restart_ms is not None
    assert measured.fault_to_restart_ms >= measured.waited_in_vain_ms > 2_000
    assert isinstance(measured.by_itself, float)
    assert measured.by_itself == measured.remount_to_fresh_read_ms
    assert measured.by_itself <= measured.restart_to_recovery_ms < measured.waited_in_vain_ms
