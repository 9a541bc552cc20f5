"""What is said where no cluster can be reached."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import propagation
from propagation._types import ClusterOptions, Options


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Give a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def _kubeconfig(directory: Path, server: socket.socket) -> Path:
    path = directory / "kubeconfig"
    cluster = {"server": f"http://127.0.0.1:{server.getsockname()[1]}"}
    config = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(config))
    return path


async def test_a_server_that_is_not_there(
    face: Any, tmp_path: Path, listener: socket.socket
) -> None:
    kubeconfig = _kubeconfig(tmp_path, listener)
    listener.close()
    with pytest.raises(propagation.HostError, match="refused") as by_hand:
        async with face.node(kind="K8sNode", kubeconfig=kubeconfig):
            raise AssertionError("there is no server")
    with pytest.raises(propagation.HostError, match="refused") as raised:
        await face.run(backend=propagation.K8sBackend(kubeconfig=kubeconfig))
    assert raised.value.operation.startswith("connect to the API server http://127.0.0.1:")
    assert "kubectl get --raw /readyz" in str(raised.value.fix)
    assert str(by_hand.value) == str(raised.value)


async def test_a_kubeconfig_that_is_not_there(
    face: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = propagation.K8sBackend(kubeconfig=tmp_path / "nothing")
    with pytest.raises(propagation.HostError, match="nothing") as raised:
        await face.run(backend=named)
    assert raised.value.operation == "read the kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(propagation.HostError, match="nowhere") as raised:
        await face.run(backend="k8s")
    assert "$KUBECONFIG" in str(raised.value.fix)


async def test_a_context_that_is_not_there(
    face: Any, tmp_path: Path, listener: socket.socket
) -> None:
    kubeconfig = _kubeconfig(tmp_path, listener)
    with pytest.raises(propagation.HostError, match="elsewhere"):
        async with face.node(kind="K8sNode", kubeconfig=kubeconfig, context="elsewhere"):
            raise AssertionError("there is no such context")


async def test_a_server_that_does_not_answer_is_not_waited_for_when_cancelled(
    face: Any, tmp_path: Path, listener: socket.socket
) -> None:
    backend = propagation.K8sBackend(kubeconfig=_kubeconfig(tmp_path, listener))
    with pytest.raises(propagation.CancelledError, match="interrupted"):  # noqa: PT012
        async with face.start(backend=backend) as run:
            connection, _ = listener.accept()
            with connection:
                run.cancel()
                async for _ in run:
                    raise AssertionError("nothing can happen")


async def test_slips_are_found_before_anything_is_connected_to(face: Any) -> None:
    slips: list[tuple[dict[str, Any], str]] = [
        ({"access": "telnet"}, "use found, ssh or pod"),
        ({"tolerations": ["key:Sometimes"]}, "Sometimes"),
        ({"fault": "explode"}, "unknown variant"),
    ]
    for options, words in slips:
        with pytest.raises(propagation.InvalidInputError, match=words):
            async with face.node(kind="K8sNode", **options):
                raise AssertionError("that cannot be")
    with pytest.raises(TypeError):
        async with face.node(kind="K8sNode", nodes="k3s-w2"):
            raise AssertionError("that cannot be")
    with pytest.raises(propagation.InvalidInputError, match="use local or k8s"):
        await face.run(backend="elsewhere")


def test_every_option_is_a_keyword_of_a_node_by_hand() -> None:
    if propagation.Scenario.__text_signature__ is None:
        pytest.skip("not applicable: Python 3.9 does not tell the signatures of such classes")
    scenario, cluster = (
        set(re.findall(r"(\w+)=", str(native.__text_signature__)))
        for native in (propagation.Scenario, propagation.K8sBackend)
    )
    assert set(Options.__annotations__) == scenario
    assert set(ClusterOptions.__annotations__) == scenario | cluster


def test_backends_are_values() -> None:
    one = propagation.K8sBackend(node="k3s-w2", tolerations=["*"])
    assert one == propagation.K8sBackend(node="k3s-w2", tolerations=("*",))
    assert one != propagation.K8sBackend(node="k3s-w2")
    assert repr(one) == "<K8sBackend of node k3s-w2>"
    assert repr(propagation.K8sBackend()) == "<K8sBackend>"
