from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from serval_operator.api.resources import EVENTS
from serval_operator.api.snapshots import parse_owner
from serval_operator.errors import Forbidden, Transient
from serval_operator.runtime.event_recorder import REPEAT_SECONDS, EventRecorder
from support.clock import FakeClock
from support.fakes import Call, FakeKubeApi

MODEL = parse_owner(
    {
        "kind": "ModelDeployment",
        "metadata": {"namespace": "vision", "name": "resnet", "uid": "u-1", "resourceVersion": "5"},
    }
)
NOON = datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC)


class Meter:
    failed = 0

    def event_failed(self) -> None:
        self.failed += 1


class Fixture:
    def __init__(self) -> None:
        self.api, self.meter, self.clock, self.now = FakeKubeApi(), Meter(), FakeClock(), NOON
        self.recorder = self.restarted()

    def restarted(self) -> EventRecorder:
        return EventRecorder(self.api, self.meter, clock=self.clock, now=lambda: self.now)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.now += timedelta(seconds=seconds)

    @property
    def posted(self) -> list[Call]:
        return [call for call in self.api.calls if call.resource == EVENTS]


@pytest.fixture
def at() -> Fixture:
    return Fixture()


async def test_an_event_says_what_about_whom(at: Fixture) -> None:
    await at.recorder.event(MODEL, "Warning", "CrashLoop", "it crashed")
    event = at.posted[0].body
    assert event is not None
    assert event["metadata"]["namespace"] == "vision"
    assert event["metadata"]["name"].startswith("resnet.")
    assert event["involvedObject"] == {
        "apiVersion": "serval.dev/v1alpha1",
        "kind": "ModelDeployment",
        "namespace": "vision",
        "name": "resnet",
        "uid": "u-1",
        "resourceVersion": "5",
    }
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "CrashLoop", "it crashed")
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2026-01-01T12:00:01Z"


async def test_the_same_is_not_said_again_for_some_time(at: Fixture) -> None:
    for _ in range(3):
        await at.recorder.event(MODEL, "Warning", "CrashLoop", "it crashed")
    assert len(at.posted) == 1
    await at.recorder.event(MODEL, "Warning", "CrashLoop", "it crashed in another way")
    await at.recorder.event(MODEL, "Normal", "Serving", "it crashed")
    assert len(at.posted) == 3
    at.pass_time(REPEAT_SECONDS)
    await at.recorder.event(MODEL, "Warning", "CrashLoop", "it crashed")
    assert len(at.posted) == 4
    assert len({call.name for call in at.posted}) == 4


async def test_a_restarted_operator_does_not_repeat_itself(at: Fixture) -> None:
    await at.recorder.event(MODEL, "Warning", "CrashLoop", "it crashed")
    await at.restarted().event(MODEL, "Warning", "CrashLoop", "it crashed")
    assert len({call.name for call in at.posted}) == 1
    assert at.meter.failed == 0


@pytest.mark.parametrize(
    "error", [Forbidden(403, "Forbidden", "terminating"), Transient(0, "Timeout", "late")]
)
async def test_a_failure_is_counted_and_tried_again_with_the_next(at: Fixture, error: Exception) -> None:
    def fail(_: Call) -> None:
        raise error

    at.api.on_call = fail
    await at.recorder.event(MODEL, "Normal", "Serving", "ok")
    assert at.meter.failed == 1
    at.api.on_call = lambda _: None
    await at.recorder.event(MODEL, "Normal", "Serving", "ok")
    assert len(at.posted) == 2


async def test_secrets_and_length_are_cut(at: Fixture) -> None:
    await at.recorder.event(MODEL, "Warning", "X", "see https://user:pass@host/a " + "x" * 2000)
    event = at.posted[0].body
    assert event is not None
    assert "pass" not in event["message"]
    assert len(event["message"]) == 1024


async def test_what_was_said_long_ago_is_forgotten(at: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serval_operator.runtime.event_recorder.MOST_REMEMBERED", 10)
    for number in range(11):
        at.pass_time(REPEAT_SECONDS)
        await at.recorder.event(MODEL, "Normal", "X", str(number))
    assert len(at.recorder._posted) == 1
