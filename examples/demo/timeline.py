"""Where the time between `kubectl apply` and Ready went, from the time stamps of the pods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

FETCH = "fetch"
SERVER = "server"


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a pod's way to Ready.

    Attributes
    ----------
    name:
        What happened.
    seconds:
        How long it took. Kubernetes' time stamps are whole seconds.
    """

    name: str
    seconds: float


def phases(pod: dict[str, Any]) -> list[Phase]:
    """Return a ready pod's phases, in order; they add up to the time from its creation to Ready."""
    conditions = {found["type"]: found for found in pod["status"]["conditions"]}
    fetch = _status(pod["status"].get("initContainerStatuses", []), FETCH)["state"]["terminated"]
    server = _status(pod["status"]["containerStatuses"], SERVER)["state"]["running"]
    marks = [
        ("", pod["metadata"]["creationTimestamp"]),
        ("scheduling", conditions["PodScheduled"]["lastTransitionTime"]),
        ("start of the fetcher (its image pulled)", fetch["startedAt"]),
        ("fetching the model", fetch["finishedAt"]),
        ("start of the server (its image pulled)", server["startedAt"]),
        ("loading TensorFlow and the model", conditions["Ready"]["lastTransitionTime"]),
    ]
    times = [_time(stamp) for _, stamp in marks]
    return [
        Phase(name, (end - begin).total_seconds())
        for (name, _), begin, end in zip(marks[1:], times, times[1:], strict=False)
    ]


def slowest(pods: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the pod that became ready last."""
    return max(pods, key=lambda pod: _time(_ready(pod)["lastTransitionTime"]))


def created_before(pods: Sequence[dict[str, Any]], moment: datetime) -> bool:
    """Whether all pods are older than an aware time, which is to say that nothing had to be started."""
    return all(_time(pod["metadata"]["creationTimestamp"]) < moment.replace(microsecond=0) for pod in pods)


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether the pod gets requests, and is not about to end."""
    return "deletionTimestamp" not in pod["metadata"] and _ready(pod).get("status") == "True"


def _ready(pod: dict[str, Any]) -> dict[str, Any]:
    return next((found for found in pod["status"].get("conditions", []) if found["type"] == "Ready"), {})


def _status(statuses: Sequence[dict[str, Any]], container: str) -> dict[str, Any]:
    return next(status for status in statuses if status["name"] == container)


def _time(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp)
