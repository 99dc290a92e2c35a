"""The example of a machine without Kubernetes: its client's patience, and its deployment."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from serval_contract.ports import PORT_EDGE

EXAMPLE = Path(__file__).parents[3] / "examples" / "edge"


@pytest.fixture(scope="module")
def score() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edge_score", EXAMPLE / "score.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Client:
    """Fails with each of some texts, then answers."""

    def __init__(self, *failures: str) -> None:
        self.failures = list(failures)

    def score_file(self, **_: Any) -> list[float]:
        if self.failures:
            raise RuntimeError(self.failures.pop(0))
        return [0.1, 0.9]


def test_it_waits_while_the_device_is_programmed(score: ModuleType) -> None:
    pauses: list[float] = []
    client = Client(*["StatusCode.UNAVAILABLE: programming the device: 40 %"] * 2)
    assert score.scores(client, Path("a.png"), "output_alias", pauses.append).argmax() == 1
    assert pauses == [score.PAUSE_S] * 2


def test_another_error_is_not_repeated_and_patience_ends(score: ModuleType) -> None:
    client = Client("StatusCode.INVALID_ARGUMENT", "never seen")
    with pytest.raises(RuntimeError, match="INVALID_ARGUMENT"):
        score.scores(client, Path("a.png"), "output_alias", lambda _: None)
    with pytest.raises(RuntimeError, match="UNAVAILABLE"):
        score.scores(Client(*["UNAVAILABLE"] * 99), Path("a.png"), "output_alias", lambda _: None)


def test_the_deployment_publishes_the_port_of_the_clients() -> None:
    document = json.loads((EXAMPLE / "deployment.json").read_text(encoding="utf-8"))
    model = document["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]["model"]
    bindings = json.loads(model["settings"]["createOptions"])["HostConfig"]["PortBindings"]
    assert bindings == {f"{PORT_EDGE}/tcp": [{"HostPort": str(PORT_EDGE)}]}
