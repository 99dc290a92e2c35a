"""Containers of a pod, as its status tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serval_operator.api.unstructured import mapping, mappings, parse_time, whole


@dataclass(frozen=True, slots=True)
class Termination:
    """How a container ended."""

    exit_code: int
    reason: str
    message: str
    finished: datetime | None


@dataclass(frozen=True, slots=True)
class ContainerView:
    """State of one container of a pod; ``last`` is how its previous run ended.

    Parameters
    ----------
    answered:
        Whether the startup probe succeeded since this run began (``started``): the model answered once.
    """

    name: str
    ready: bool
    running: bool
    started: datetime | None
    restarts: int
    waiting_reason: str
    waiting_message: str
    terminated: Termination | None
    last: Termination | None
    answered: bool = False


def parse_container(pod: Mapping[str, Any], field: str, name: str) -> ContainerView | None:
    """A container by name: others, such as a mesh's, may stand before or beside ours."""
    status = next((one for one in mappings(pod, field) if one.get("name") == name), None)
    return None if status is None else _container(name, status)


def parse_containers(pod: Mapping[str, Any]) -> tuple[ContainerView, ...]:
    """All init containers in their order, and then all containers."""
    every = (*mappings(pod, "initContainerStatuses"), *mappings(pod, "containerStatuses"))
    return tuple(_container(str(status.get("name", "")), status) for status in every)


def _container(name: str, status: Mapping[str, Any]) -> ContainerView:
    state, last = mapping(status, "state"), mapping(status, "lastState")
    waiting, running = mapping(state, "waiting"), mapping(state, "running")
    return ContainerView(
        name=name,
        ready=bool(status.get("ready")),
        running=bool(running),
        started=parse_time(running.get("startedAt")),
        restarts=whole(status.get("restartCount")),
        waiting_reason=str(waiting.get("reason", "")),
        waiting_message=str(waiting.get("message", "")),
        terminated=_termination(mapping(state, "terminated")),
        last=_termination(mapping(last, "terminated")),
        answered=bool(status.get("started")),
    )


def _termination(state: Mapping[str, Any]) -> Termination | None:
    if not state:
        return None
    return Termination(
        exit_code=whole(state.get("exitCode")),
        reason=str(state.get("reason", "")),
        message=str(state.get("message", "")),
        finished=parse_time(state.get("finishedAt")),
    )
