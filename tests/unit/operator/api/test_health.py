"""The verdict that GitOps tools get of a ModelDeployment."""

from __future__ import annotations

from typing import Any

import pytest

from serval_operator.api.health import health
from serval_operator.reason_rows import Health
from serval_operator.reasons import REASONS, STALLING_REASONS
from unit.operator.workload.readiness_rows import ROWS, Row

pytestmark = pytest.mark.unit


def status(reason: str, ready: str = "False", generation: int = 3) -> dict[str, Any]:
    conditions = [
        {"type": "Available", "status": "True", "reason": "ModelAnswers"},
        {"type": "Ready", "status": ready, "reason": reason},
    ]
    return {"observedGeneration": generation, "conditions": conditions}


@pytest.mark.parametrize(
    ("reason", "ready", "verdict"),
    [
        ("Serving", "True", Health.HEALTHY),
        ("ScaledToZero", "True", Health.HEALTHY),
        ("Suspended", "True", Health.SUSPENDED),
        ("Progressing", "False", Health.PROGRESSING),
        ("AcceleratorBusy", "False", Health.PROGRESSING),
        ("ScaleUpPending", "False", Health.PROGRESSING),
        ("NodeNotReady", "False", Health.PROGRESSING),
        ("UnknownRuntime", "False", Health.DEGRADED),
        ("ModelNotFound", "False", Health.DEGRADED),
        ("CrashLoop", "False", Health.DEGRADED),
        ("RequestExceedsNode", "False", Health.DEGRADED),
    ],
)
def test_verdict(reason: str, ready: str, verdict: str) -> None:
    assert health(status(reason, ready), generation=3) == verdict


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_model_is_healthy_if_and_only_if_it_is_ready(row: Row) -> None:
    ready = row.assess().ready
    verdict = health(status(ready.reason, ready.status), generation=3)
    assert (verdict in (Health.HEALTHY, Health.SUSPENDED)) == (ready.status == "True")


def test_what_no_retry_cures_is_degraded() -> None:
    assert {REASONS[reason].health for reason in STALLING_REASONS} == {Health.DEGRADED}


def test_a_status_of_another_generation_says_nothing() -> None:
    assert health(status("Serving", "True", generation=2), generation=3) == Health.PROGRESSING


@pytest.mark.parametrize("unknown", [{}, {"observedGeneration": 3}, status("AddedLater")])
def test_what_is_not_known_is_progress(unknown: dict[str, Any]) -> None:
    assert health(unknown, generation=3) == Health.PROGRESSING
