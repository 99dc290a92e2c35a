from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from examples.demo.cluster import Cluster
from examples.demo.console import Screen
from examples.demo.errors import DemoError
from examples.demo.load import Tally
from examples.demo.model import TrainedModel
from examples.demo.scarcity import (
    Promise,
    compete,
    dismiss,
    free_units,
    judge_holder,
    judge_in_place,
    judge_load,
    judge_surge,
    roll,
    second_act,
    show_promises,
    unplayable,
)
from examples.demo.watching import Story
from rich.console import Console

GPU = "nvidia.com/gpu"
MESSAGE = (
    "no node has 1 nvidia.com/gpu free (0 of 2 nvidia.com/gpu free); held by serval-demo/digits (2 on gpu-0)"
)
HOLDER = {"namespace": "serval-demo", "name": "digits", "node": "gpu-0", "count": 2}


def cluster(folder: Path, answers: dict[str, Any], *, reaches_services: bool = True) -> Cluster:
    """A cluster whose kubectl gives an answer by the first two words of what it is asked."""
    (folder / "answers").mkdir()
    for words, answer in answers.items():
        text = answer if isinstance(answer, str) else json.dumps(answer)
        (folder / "answers" / words.replace(" ", "-")).write_text(f"{text}\n")
    for tool in ("kubectl", "helm"):
        path = folder / tool
        path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\ncat "{folder}/answers/$1-$2"\n')
        path.chmod(0o755)
    return Cluster({"PATH": f"{folder}:/usr/bin:/bin"}, reaches_services=reaches_services)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def pod(units: int = 1, phase: str = "Running") -> dict[str, Any]:
    limits = {"memory": "2Gi"} | ({GPU: str(units)} if units else {})
    container = {"name": "server", "resources": {"limits": limits}}
    return {"metadata": {"name": "digits-a"}, "spec": {"containers": [container]}, "status": {"phase": phase}}


def node(units: int) -> dict[str, Any]:
    return {"status": {"allocatable": {"cpu": "2"} | ({GPU: str(units)} if units else {})}}


def waiting(message: str = MESSAGE, *holders: dict[str, Any]) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "False", "reason": "AcceleratorBusy", "message": message}
    return {
        "metadata": {"generation": 1},
        "status": {
            "conditions": [ready | {"observedGeneration": 1}],
            "accelerator": {"holders": list(holders)},
        },
    }


def served(strategy: str) -> dict[str, Any]:
    conditions = [
        {"type": kind, "status": "True", "reason": "Serving", "message": "1 of 1", "observedGeneration": 2}
        for kind in ("Ready", "Available")
    ]
    status = {"replicasSummary": "1/1", "effective": {"strategy": strategy}, "conditions": conditions}
    return {"metadata": {"generation": 2}, "status": status}


def test_what_is_free_is_what_no_pod_holds_or_waits_for() -> None:
    nodes = [node(2), node(1), node(0)]
    assert free_units(nodes, [], GPU) == 3
    assert (
        free_units(nodes, [pod(), pod(2, "Pending"), pod(3, "Failed"), pod(3, "Succeeded"), pod(0)], GPU) == 0
    )


@pytest.mark.parametrize(
    ("pods", "units", "reaches_services", "words"),
    [
        ([pod(), pod()], 2, True, ""),
        ([pod(), pod()], 2, False, "forwarded port"),
        ([pod(0)], 2, True, "no device"),
        ([pod(), pod()], 3, True, "1 nvidia.com/gpu would be free"),
    ],
)
def test_it_is_played_where_all_devices_are_taken_and_else_it_says_why_not(
    tmp_path: Path, pods: list[Any], units: int, reaches_services: bool, words: str
) -> None:
    answers = {"get pods": {"items": pods}, "get nodes": {"items": [node(units)]}}
    target = cluster(tmp_path, answers, reaches_services=reaches_services)
    reason = unplayable(target)
    assert (words in reason) if words else reason == ""
    if words:
        text = io.StringIO()
        shown = Screen(Console(file=text, width=200))
        assert second_act(shown, target, TrainedModel(b"", (), tmp_path), "nvidia-gpu") == []
        assert "not played" in text.getvalue()
        assert words in text.getvalue()


def test_who_waits_is_shown_with_its_row_and_what_it_says(tmp_path: Path) -> None:
    name = "get modeldeployments.serval.dev"
    target = cluster(tmp_path, {"apply --server-side": "", name: waiting(MESSAGE, HOLDER)})
    said: list[str] = []
    assert compete(target, "0" * 64, "nvidia-gpu", said.append).kept
    assert "get mdep" in said[1]
    assert MESSAGE in said[-1]


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (waiting(MESSAGE, HOLDER), True),
        (waiting(MESSAGE), False),
        (waiting(MESSAGE, HOLDER | {"name": "other"}), False),
        (waiting("0/3 nodes are available: 3 Insufficient nvidia.com/gpu", HOLDER), False),
    ],
)
def test_the_holder_must_be_named_for_people_and_for_programs(state: dict[str, Any], kept: bool) -> None:
    assert judge_holder(state).kept is kept


def test_a_device_counts_as_free_when_the_pod_that_held_it_is_gone(tmp_path: Path) -> None:
    answers = {
        "get pods": {"items": [pod()]},
        "delete modeldeployments.serval.dev": "",
        "wait --for=delete": "",
    }
    dismiss(cluster(tmp_path, answers), print)
    _, deleted, waited = calls(tmp_path)
    assert deleted.startswith("delete modeldeployments.serval.dev latecomer")
    assert waited.startswith("wait --for=delete pod/digits-a ")


def test_a_rollout_is_told_and_ends_when_the_old_pod_is_gone(tmp_path: Path) -> None:
    answers = {
        "get pods": {"items": [pod()]},
        "patch modeldeployments.serval.dev": "",
        "get modeldeployments.serval.dev": served("Surge"),
        "wait --for=delete": "",
    }
    said: list[str] = []
    story = roll(cluster(tmp_path, answers), said.append)
    assert (story.strategies, story.reasons, story.available) == ({"Surge"}, {"Serving"}, {"True"})
    assert said[1].split() == ["AVAILABLE", "READY", "REASON", "REPLICAS", "STRATEGY", "MESSAGE"]
    assert said[2].split()[:5] == ["True", "True", "Serving", "1/1", "Surge"]
    asked, patched, *_, waited = calls(tmp_path)
    assert asked.startswith("get pods")
    assert "example.com/change" in patched
    assert waited.startswith("wait --for=delete pod/digits-a ")


def test_a_pod_that_stays_is_an_error(tmp_path: Path) -> None:
    target = cluster(tmp_path, {})
    with pytest.raises(DemoError, match="wait"):
        target.wait_gone(["digits-a"], "serval-demo", 1.0)
    target.wait_gone([], "serval-demo", 1.0)


def kept(promises: list[Promise]) -> list[bool]:
    return [one.kept for one in promises]


def test_a_rollout_in_place_must_be_one_and_must_not_call_waiting_a_failure() -> None:
    assert kept(judge_in_place(Story({"InPlace"}, {"Progressing", "Serving"}, {"True", "False"}))) == [
        True,
        True,
    ]
    assert kept(judge_in_place(Story({"Surge", "InPlace"}, {"Serving"}, {"True"}))) == [False, True]
    assert kept(judge_in_place(Story({"InPlace"}, {"AcceleratorBusy", "Serving"}, {"True"}))) == [True, False]


def test_a_surge_must_be_one_and_leave_nobody_without_an_answer() -> None:
    assert kept(judge_surge(Story({"Surge"}, {"Progressing"}, {"True"}))) == [True, True]
    assert kept(judge_surge(Story({"InPlace"}, {"Progressing"}, {"True", "False"}))) == [False, False]
    assert judge_load({"gRPC": Tally(7), "HTTP": Tally(5)}) == Promise(
        "one free: no request fails meanwhile", kept=True, seen="0 of 12 failed"
    )
    assert not judge_load({"gRPC": Tally(7), "HTTP": Tally(5, ["gone"])}).kept


def test_promises_are_listed_and_none_is_none() -> None:
    text = io.StringIO()
    shown = Screen(Console(file=text, width=200))
    show_promises(shown, [])
    assert text.getvalue() == ""
    show_promises(
        shown, [Promise("it holds", kept=True, seen="so"), Promise("it flies", kept=False, seen="no")]
    )
    lines = [line.split() for line in text.getvalue().splitlines()]
    assert ["it", "holds", "so", "kept"] in lines
    assert ["it", "flies", "no", "broken"] in lines
