"""Scenarios: from keywords, dicts and files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

import propagation
from conftest import STEPS


def test_the_default_is_the_five_phases() -> None:
    plain = propagation.Scenario().to_dict()
    assert [workload["name"] for workload in plain["workloads"]] == [
        "producer",
        "consumer-early",
        "consumer-late",
        "control",
    ]
    assert plain["fault"] == "kill"
    assert plain["bridge"] == {"path": "/tmp/fuse-test-bridge", "mountpoint": "dfs"}


def test_it_round_trips() -> None:
    scenario = propagation.Scenario(consumers=5, fault="stop", producer_uid=7, allow_other=False)
    for again in (
        propagation.Scenario.from_dict(scenario.to_dict()),
        propagation.Scenario.from_yaml(json.dumps(scenario.to_dict())),
    ):
        assert again == scenario
        assert again.to_dict() == scenario.to_dict()
    assert scenario != propagation.Scenario()
    assert scenario != object()


def test_consumers_are_split_between_early_and_late() -> None:
    def replicas(consumers: int) -> dict[str, int]:
        workloads = propagation.Scenario(consumers=consumers).to_dict()["workloads"]
        return {w["name"]: w["replicas"] for w in workloads if w["role"] == "consumer"}

    assert replicas(1) == {"consumer-late": 1}
    assert replicas(2) == {"consumer-early": 1, "consumer-late": 1}
    assert replicas(1001) == {"consumer-early": 500, "consumer-late": 501}


def test_keywords_reach_the_plan() -> None:
    plain = propagation.Scenario(
        bridge="/srv/x",
        volume="ancestor",
        propagation="None",
        covering="slave",
        container_fuse_conf="user_allow_other",
        timeout=1.5,
    ).to_dict()
    assert plain["bridge"]["path"] == "/srv/x"
    assert plain["workloads"][1]["volume"] == "ancestor"
    assert plain["workloads"][1]["propagation"] == "None"
    assert plain["node"]["covering"] == "slave"
    assert plain["node"]["container_fuse_conf"] == "user_allow_other\n"
    assert plain["deadlines"]["run_ms"] == 1500


def test_a_mapping_that_is_not_json_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        propagation.Scenario.from_dict({"workloads": object()})


def test_yaml_is_read_with_its_places(tmp_path: Path) -> None:
    scenario = propagation.Scenario.from_yaml(STEPS)
    assert scenario.name == "clean-unmount"
    assert len(scenario.to_dict()["steps"]) == 3
    file = tmp_path / "one.yaml"
    file.write_text(STEPS)
    assert propagation.Scenario.from_file(file) == scenario
    assert propagation.Scenario.files(tmp_path) == [file]
    with pytest.raises(propagation.InvalidInputError, match=r"mine\.yaml:2:12: unknown actor"):
        propagation.Scenario.from_yaml("steps:\n  - start: al\n", "mine.yaml")


def test_the_schema_names_the_fields() -> None:
    properties = propagation.Scenario.json_schema()["properties"]
    assert set(propagation.Scenario().to_dict()) <= set(properties)


def test_faults_and_volumes_may_have_a_value() -> None:
    scenario = propagation.Scenario(fault={"slow": 250}, volume={"path": "/srv"})
    plain = scenario.to_dict()
    assert plain["fault"] == {"slow": 250}
    assert plain["workloads"][1]["volume"] == {"path": "/srv"}


def test_scenarios_can_be_pickled_and_show_what_they_are() -> None:
    scenario = propagation.Scenario(volume="mountpoint", fault="stop")
    assert pickle.loads(pickle.dumps(scenario)) == scenario
    assert "fault=stop, volume=mountpoint, propagation=HostToContainer" in repr(scenario)
    assert repr(scenario) != repr(propagation.Scenario())
