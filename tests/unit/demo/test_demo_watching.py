from __future__ import annotations

from typing import Any

import pytest
from examples.demo.errors import DemoError
from examples.demo.watching import Story, condition, follow, tell, until_reason

CONDITION = ("type", "status", "reason", "message")


def state(*conditions: tuple[str, str, str, str], generation: int = 1, observed: int = 1) -> dict[str, Any]:
    found = [dict(zip(CONDITION, one, strict=True)) | {"observedGeneration": observed} for one in conditions]
    return {"metadata": {"generation": generation}, "status": {"conditions": found}}


NEW: dict[str, Any] = {"metadata": {"generation": 1}}
FETCHING = state(("Ready", "False", "Progressing", "0 of 2 pods; fetching"))
SERVING = state(("Ready", "True", "Serving", "2 of 2 replicas"))


def test_every_change_is_said_once_until_it_is_ready() -> None:
    said: list[str] = []
    states = iter([NEW, FETCHING, FETCHING, SERVING, FETCHING])
    assert follow(states, said.append) == SERVING
    assert said == ["Ready=False  Progressing: 0 of 2 pods; fetching", "Ready=True  Serving: 2 of 2 replicas"]
    assert next(states) == FETCHING


def test_ready_for_an_older_spec_is_not_ready() -> None:
    old = state(("Ready", "True", "Serving", "2 of 2 replicas"), generation=2, observed=1)
    assert condition(old, "Ready") == {}
    now = state(("Ready", "True", "Serving", "2 of 2 replicas"), generation=2, observed=2)
    assert follow([old, FETCHING, now], lambda _: None) == now


def test_what_no_retry_can_cure_ends_it() -> None:
    stalled = state(
        ("Ready", "False", "ModelDigestMismatch", "another"),
        ("Stalled", "True", "ModelDigestMismatch", "another"),
    )
    with pytest.raises(DemoError, match="no retry can help: ModelDigestMismatch: another"):
        follow([FETCHING, stalled], lambda _: None)


def test_states_that_end_are_an_error() -> None:
    with pytest.raises(DemoError, match="gone"):
        follow([NEW, FETCHING], lambda _: None)


def test_a_reason_is_waited_for() -> None:
    busy = state(("Ready", "False", "AcceleratorBusy", "held"))
    assert until_reason([NEW, FETCHING, busy, SERVING], "AcceleratorBusy") == busy
    with pytest.raises(DemoError, match="gone"):
        until_reason([NEW, FETCHING, SERVING], "Serving")


def rolling(ready: str, reason: str, available: str, strategy: str, observed: int = 2) -> dict[str, Any]:
    found = state(
        ("Ready", ready, reason, "words " * 50),
        ("Available", available, "ModelAnswers", "1 of 1"),
        generation=2,
        observed=observed,
    )
    found["status"] |= {"replicasSummary": "1/1", "effective": {"strategy": strategy}}
    return found


def test_a_rollouts_story_leaves_out_the_older_spec_and_what_is_said_twice() -> None:
    said: list[str] = []
    states = [
        rolling("True", "Serving", "True", "Surge", observed=1),
        rolling("False", "Progressing", "False", "InPlace"),
        rolling("False", "Progressing", "False", "InPlace"),
        rolling("True", "Serving", "True", "InPlace"),
        rolling("False", "CrashLoop", "False", "InPlace"),
    ]
    assert tell(states, said.append) == Story({"InPlace"}, {"Progressing", "Serving"}, {"False", "True"})
    assert [line.split()[:5] for line in said[1:]] == [
        ["False", "False", "Progressing", "1/1", "InPlace"],
        ["True", "True", "Serving", "1/1", "InPlace"],
    ]
    assert (
        len({line.index(cell) for line, cell in zip(said, ("STRATEGY", "InPlace", "InPlace"), strict=True)})
        == 1
    )
    assert said[1].endswith("...")


def test_a_rollout_that_no_retry_can_cure_ends_its_story() -> None:
    stalled = rolling("False", "ModelInvalid", "True", "Surge")
    stalled["status"]["conditions"].append(
        {
            "type": "Stalled",
            "status": "True",
            "reason": "ModelInvalid",
            "message": "no",
            "observedGeneration": 2,
        }
    )
    with pytest.raises(DemoError, match="no retry can help: ModelInvalid"):
        tell([stalled], print)
    with pytest.raises(DemoError, match="gone"):
        tell([], print)
