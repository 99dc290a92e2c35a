from __future__ import annotations

from typing import Any

import pytest
from examples.demo.errors import DemoError
from examples.demo.watching import condition, follow

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
