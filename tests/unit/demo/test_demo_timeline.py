from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from examples.demo.timeline import created_before, is_ready, phases, slowest


def pod(ready: str = "10:00:19", status: str = "True") -> dict[str, Any]:
    def at(clock: str) -> str:
        return f"2026-11-21T{clock}Z"

    return {
        "metadata": {"creationTimestamp": at("10:00:00")},
        "status": {
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": at("10:00:01")},
                {"type": "Ready", "status": status, "lastTransitionTime": at(ready)},
            ],
            "initContainerStatuses": [
                {
                    "name": "fetch",
                    "state": {"terminated": {"startedAt": at("10:00:04"), "finishedAt": at("10:00:05")}},
                }
            ],
            "containerStatuses": [
                {"name": "sidecar", "state": {"running": {"startedAt": at("10:00:02")}}},
                {"name": "server", "state": {"running": {"startedAt": at("10:00:14")}}},
            ],
        },
    }


def test_the_phases_add_up_to_the_time_from_creation_to_ready() -> None:
    found = phases(pod())
    assert [phase.seconds for phase in found] == [1.0, 3.0, 1.0, 9.0, 5.0]
    assert sum(phase.seconds for phase in found) == 19.0
    assert len({phase.name for phase in found}) == 5


def test_the_slowest_pod_is_the_one_that_was_ready_last() -> None:
    assert slowest([pod("10:00:20"), pod("10:01:00"), pod("10:00:30")]) == pod("10:01:00")


def test_pods_that_serve_since_before_are_told_from_new_ones() -> None:
    assert created_before([pod()], datetime(2026, 11, 21, 10, 0, 1, 5, tzinfo=UTC))
    # In the same second nobody can tell; they count as new.
    assert not created_before([pod()], datetime(2026, 11, 21, 10, 0, 0, 5, tzinfo=UTC))


def test_only_pods_that_get_requests_and_stay_are_ready() -> None:
    leaving = pod()
    leaving["metadata"]["deletionTimestamp"] = "2026-11-21T10:02:00Z"
    starting = {"metadata": {}, "status": {"phase": "Pending"}}
    assert [is_ready(one) for one in (pod(), pod(status="False"), leaving, starting)] == [
        True,
        False,
        False,
        False,
    ]
