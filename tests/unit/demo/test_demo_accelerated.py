"""The third act: what is promised of an emulated device, what is applied, and how time is measured."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from examples.demo import accelerated, azure, manifests
from examples.demo.accelerated import (
    handover,
    judge_emulation,
    judge_place,
    judge_scores,
    score,
    take_over,
    third_act,
    wait_in_line,
)
from examples.demo.cluster import Cluster
from examples.demo.console import Screen
from examples.demo.emulation import RESOURCE, merged
from examples.demo.errors import DemoError
from examples.demo.manifests import INT8, NEXT
from examples.demo.model import HeldOutImage, TrainedModel
from examples.demo.scoring import Answers
from rich.console import Console

from serval_operator.kinds.accelerated_model.spec import parse_spec
from unit.demo.test_demo_run import Ticks

ARTIFACT = f"oci://registry:5000/serval-demo/digits-int8@sha256:{'a' * 64}"
IMAGES = tuple(HeldOutImage(f"{label}.png", b"png", label) for label in range(10))


def cluster(folder: Path, answers: dict[str, Any]) -> Cluster:
    """A cluster whose kubectl gives lines by the first two words of what it is asked."""
    (folder / "answers").mkdir()
    for words, lines in answers.items():
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (folder / "answers" / words.replace(" ", "-")).write_text(text)
    for tool in ("kubectl", "helm"):
        path = folder / tool
        path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\ncat "{folder}/answers/$1-$2"\n')
        path.chmod(0o755)
    return Cluster({"PATH": f"{folder}:/usr/bin:/bin"}, reaches_services=True)


def state(**conditions: tuple[str, str, str]) -> dict[str, Any]:
    said = [
        {"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 1}
        for kind, (status, reason, message) in conditions.items()
    ]
    return {"metadata": {"generation": 1}, "status": {"conditions": said}}


def waiting(position: int, message: str) -> dict[str, Any]:
    found = state(Ready=("False", "AcceleratorBusy", message))
    found["status"]["accelerator"] = {"position": position}
    return found


def pod(name: str, units: int = 1, node: str = "fpga-0") -> dict[str, Any]:
    limits = {RESOURCE: str(units)} if units else {"memory": "2Gi"}
    container = {"name": "server", "resources": {"limits": limits}}
    return {
        "metadata": {"name": f"{name}-a", "labels": {"serval.dev/name": name}},
        "spec": {"containers": [container]} | ({"nodeName": node} if node else {}),
    }


def test_elsewhere_it_is_not_played_and_says_why(tmp_path: Path) -> None:
    text = io.StringIO()
    shown = Screen(Console(file=text, width=200))
    assert third_act(shown, cluster(tmp_path, {}), TrainedModel(b"", (), tmp_path), None) == []
    assert "not played. It needs a registry" in text.getvalue()


def test_the_operator_accepts_what_is_applied() -> None:
    converted = parse_spec(INT8, manifests.accelerated_model("0" * 64)["spec"])
    assert converted.model is not None
    assert converted.conversion.calibration is not None
    assert converted.conversion.calibration.claim == manifests.PHOTO_CLAIM
    taken = parse_spec(NEXT, manifests.converted_model(ARTIFACT)["spec"])
    assert taken.artifact is not None
    for spec in (converted, taken):
        assert spec.accelerator is not None
        assert spec.accelerator.profile == manifests.PROFILE


def test_the_claim_gets_the_volume_of_its_namespace() -> None:
    volume, claim = manifests.photo_volume("/var/log/photos", "cpu-0", "other")
    name = volume["metadata"]["name"]
    assert name.startswith("other-")
    assert volume["spec"]["storageClassName"] == claim["spec"]["storageClassName"] == name
    assert claim["metadata"]["namespace"] == "other"
    assert claim["metadata"]["name"] == manifests.PHOTO_CLAIM


def test_values_are_merged_deep() -> None:
    base = {"runtimes": {"serval": {"images": {"gpu": "a"}}}, "tag": 1}
    more = {"runtimes": {"serval": {"images": {"fpga": "b"}}}, "tag": 2}
    whole = {"runtimes": {"serval": {"images": {"gpu": "a", "fpga": "b"}}}, "tag": 2}
    assert merged(base, more) == whole
    assert base["runtimes"] == {"serval": {"images": {"gpu": "a"}}}


EMULATED = ("True", "Emulated", "")


@pytest.mark.parametrize(
    ("programmed", "in_use", "kept"),
    [
        (EMULATED, ("False", "Emulated", ""), True),
        (("True", "Programmed", ""), ("False", "Emulated", ""), False),
        (EMULATED, ("True", "Emulated", ""), False),
        (EMULATED, ("True", "InUse", ""), False),
    ],
)
def test_emulation_must_be_said_twice(
    programmed: tuple[str, str, str], in_use: tuple[str, str, str], kept: bool
) -> None:
    assert judge_emulation(state(DeviceProgrammed=programmed, AcceleratorInUse=in_use)).kept is kept


def test_it_waits_until_the_server_said_what_it_runs_on(tmp_path: Path) -> None:
    ready = ("True", "Serving", "1 of 1")
    early = state(Ready=ready)
    late = state(Ready=ready, DeviceProgrammed=EMULATED, AcceleratorInUse=("False", "Emulated", "no device"))
    said: list[str] = []
    target = cluster(tmp_path, {f"get {manifests.ACCELERATED}": [early, late]})
    assert judge_emulation(accelerated.programmed(target, said.append)).kept
    assert "AcceleratorInUse=False  Emulated: no device" in said


def test_int8_must_be_right_often_enough() -> None:
    right = Answers("gRPC", tuple(range(10)), 1, 0.1)
    assert judge_scores(right, IMAGES).kept
    assert not judge_scores(Answers("gRPC", (*range(9), 0), 1, 0.1), IMAGES).kept


def test_who_waits_must_have_its_place_and_know_the_holder() -> None:
    assert judge_place(waiting(1, f"held by serval-demo/{INT8}")).kept
    assert not judge_place(waiting(2, f"held by serval-demo/{INT8}")).kept
    assert not judge_place(waiting(1, "0/3 nodes are available")).kept


def test_the_second_model_is_of_the_artifact_of_the_first(tmp_path: Path) -> None:
    name = f"get {manifests.ACCELERATED}"
    target = cluster(tmp_path, {"apply --server-side": [], name: [waiting(1, f"held by serval-demo/{INT8}")]})
    said: list[str] = []
    assert wait_in_line(target, {"status": {"conversion": {"artifact": ARTIFACT}}}, said.append).kept
    assert NEXT in said[0]


class Clock:
    """A clock that stands until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def at(clock: Clock, *events: tuple[float, str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for when, kind, found in events:
        clock.now = when
        yield kind, found


def test_time_runs_from_the_end_of_the_holders_pod_to_the_next_ones() -> None:
    clock = Clock()
    events = at(
        clock,
        (1.0, "MODIFIED", pod(INT8)),
        (1.5, "ADDED", pod(NEXT, units=0)),
        (2.0, "DELETED", pod(INT8, units=0)),
        (3.0, "DELETED", pod(INT8)),
        (3.2, "ADDED", pod(NEXT, node="")),
        (3.5, "MODIFIED", pod(NEXT)),
        (9.0, "MODIFIED", pod(NEXT)),
    )
    assert handover(events, clock) == 0.5


def test_a_pod_that_waits_already_has_not_taken_the_device() -> None:
    clock = Clock()
    events = at(
        clock,
        (1.0, "ADDED", pod(NEXT, node="")),
        (3.0, "DELETED", pod(INT8)),
        (3.25, "MODIFIED", pod(NEXT)),
    )
    assert handover(events, clock) == 0.25


def test_a_device_that_is_not_taken_is_an_error() -> None:
    clock = Clock()
    with pytest.raises(DemoError, match=f"{NEXT} was given no device"):
        handover(at(clock, (1.0, "DELETED", pod(INT8))), clock)


def test_a_device_is_taken_over(tmp_path: Path) -> None:
    events = [("ADDED", pod(INT8)), ("DELETED", pod(INT8)), ("ADDED", pod(NEXT))]
    target = cluster(
        tmp_path,
        {
            "get pods": [{"type": kind, "object": found} for kind, found in events],
            f"delete {manifests.ACCELERATED}": [],
            f"get {manifests.ACCELERATED}": [state(Ready=("True", "Serving", "1 of 1"))],
        },
    )
    said: list[str] = []
    # Each look at the clock is a second later.
    assert take_over(target, said.append, Ticks()) == accelerated.Promise(
        "a free device is taken within 2 s", kept=True, seen="1.00 s"
    )
    calls = (tmp_path / "calls").read_text()
    assert calls.index("--output-watch-events") < calls.index(f"delete {manifests.ACCELERATED} {INT8} ")


def test_without_azures_package_the_own_client_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(accelerated, "has_azure", lambda: False)
    monkeypatch.setattr(accelerated, "by_grpc", lambda *_: Answers("gRPC Predict", tuple(range(10)), 1, 0.1))
    target = cluster(tmp_path, {"get service": [{"spec": {"clusterIP": "10.96.0.7"}}]})
    said: list[str] = []
    score(target, TrainedModel(b"", IMAGES, tmp_path), IMAGES, said.append)
    assert "azureml-accel-models is not installed" in said[0]
    assert "emulated" in said[-1]


def test_azures_package_is_found_where_it_lies(tmp_path: Path) -> None:
    assert not azure.has_azure([str(tmp_path)])
    folder = tmp_path / "azureml" / "accel"
    folder.mkdir(parents=True)
    (folder / "_client.py").touch()
    assert azure.has_azure([str(tmp_path)])


@contextmanager
def azures(monkeypatch: pytest.MonkeyPatch, folder: Path, line: str) -> Iterator[Path]:
    """A program in the place of Azure's client."""
    program = folder / "client.py"
    program.write_text(f"import sys\nopen({str(folder / 'told')!r}, 'w').write(sys.argv[1])\n{line}\n")
    monkeypatch.setattr(azure, "PROGRAM", program)
    yield folder / "told"


def test_azures_client_gets_a_file_in_each_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with azures(monkeypatch, tmp_path, "print('[3, [4]]')") as told:
        answers = azure.by_azure("10.96.0.7:50051", INT8, tmp_path, IMAGES[3:5])
    assert answers.digits == (3, 4)
    said = json.loads(told.read_text())
    assert (said["address"], said["port"], said["service_name"]) == ("10.96.0.7", 50051, INT8)
    assert said["calls"][0] == {"score_file": {"path": str(tmp_path / "3.png"), "outputs": "classes"}}


@pytest.mark.parametrize("line", ["print('[\"RpcError: gone\"]')", "sys.exit('RpcError: gone')"])
def test_what_azures_client_says_ends_the_demo(
    line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with azures(monkeypatch, tmp_path, line), pytest.raises(DemoError, match="RpcError: gone"):
        azure.by_azure("10.96.0.7:50051", INT8, tmp_path, IMAGES[:1])


def test_the_program_of_azures_client_is_there() -> None:
    assert azure.PROGRAM.is_file()
