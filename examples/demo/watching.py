"""Following a model until it is ready, with the operator's own words for what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from examples.demo.errors import DemoError

READY = "Ready"
AVAILABLE = "Available"
STALLED = "Stalled"
TRUE = "True"
COLUMNS = (("AVAILABLE", 10), ("READY", 6), ("REASON", 12), ("REPLICAS", 9), ("STRATEGY", 9), ("MESSAGE", 0))
"""Of a rollout's story, with their widths; the last one takes what it needs."""
LONGEST_MESSAGE = 88


@dataclass(slots=True)
class Story:
    """All that a ModelDeployment said from a change of its spec until the newest spec served.

    Attributes
    ----------
    strategies:
        How the change went out, ``status.effective.strategy``.
    reasons:
        Of the Ready condition.
    available:
        Values of the Available condition.
    """

    strategies: set[str] = field(default_factory=set)
    reasons: set[str] = field(default_factory=set)
    available: set[str] = field(default_factory=set)


def condition(deployment: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a condition of a ModelDeployment; empty where it is absent or speaks of an older spec."""
    generation = deployment["metadata"]["generation"]
    for found in deployment.get("status", {}).get("conditions", []):
        if found["type"] == kind and found.get("observedGeneration") == generation:
            return dict(found)
    return {}


def follow(states: Iterable[dict[str, Any]], say: Callable[[str], None]) -> dict[str, Any]:
    """Say every change of the Ready condition, and return the object once it is True."""
    return until_condition(states, READY, say)


def until_condition(
    states: Iterable[dict[str, Any]], kind: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """Say every change of the Ready condition, and return the object once a condition is True.

    Parameters
    ----------
    states:
        The object as it is and after each change.
    kind:
        Type of the condition that ends it.
    say:
        Takes a line for each change: status, reason and message.

    Raises
    ------
    DemoError
        The operator says that no retry can help, or the states ended.
    """
    last: tuple[str, ...] = ()
    for state in states:
        ready = condition(state, READY)
        now = tuple(ready.get(field, "") for field in ("status", "reason", "message"))
        if now != last and any(now):
            say(f"{READY}={now[0]}  {now[1]}: {now[2]}")
        last = now
        if condition(state, kind).get("status") == TRUE:
            return state
        _check_stalled(state)
    raise DemoError("the object is gone")


def until_reason(states: Iterable[dict[str, Any]], reason: str) -> dict[str, Any]:
    """Return the object once it is not ready for this reason.

    Raises
    ------
    DemoError
        The states ended.
    """
    wanted = ("False", reason)
    return until(states, READY, lambda ready: (ready.get("status"), ready.get("reason")) == wanted)


def until(
    states: Iterable[dict[str, Any]], kind: str, holds: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Return the object once its condition of a type, which may be empty, is as wanted.

    Raises
    ------
    DemoError
        The states ended.
    """
    for state in states:
        if holds(condition(state, kind)):
            return state
    raise DemoError("the object is gone")


def tell(states: Iterable[dict[str, Any]], say: Callable[[str], None]) -> Story:
    """Say what `kubectl get --watch` would of a rollout, and return all of it once the newest spec serves.

    Parameters
    ----------
    states:
        The ModelDeployment as it is and after each change. What speaks of an older spec is passed over.
    say:
        Takes the heading, and a row for each change.

    Raises
    ------
    DemoError
        The operator says that no retry can help, or the states ended.
    """
    story = Story()
    say(_row([name for name, _ in COLUMNS]))
    last: list[str] = []
    for state in states:
        ready, available = condition(state, READY), condition(state, AVAILABLE)
        if not ready:
            continue
        status = state["status"]
        strategy = status.get("effective", {}).get("strategy", "")
        now = [
            available.get("status", ""),
            ready["status"],
            ready["reason"],
            status["replicasSummary"],
            strategy,
        ]
        now.append(_cut(ready["message"]))
        if now != last:
            say(_row(now))
        last = now
        story.strategies.add(strategy)
        story.reasons.add(ready["reason"])
        story.available.add(available.get("status", ""))
        if ready["status"] == TRUE:
            return story
        _check_stalled(state)
    raise DemoError("the object is gone")


def _check_stalled(state: dict[str, Any]) -> None:
    stalled = condition(state, STALLED)
    if stalled.get("status") == TRUE:
        raise DemoError(f"no retry can help: {stalled['reason']}: {stalled['message']}")


def _row(cells: Sequence[str]) -> str:
    padded = (cell.ljust(width) for cell, (_, width) in zip(cells, COLUMNS, strict=True))
    return "  ".join(padded).rstrip()


def _cut(message: str) -> str:
    return message if len(message) <= LONGEST_MESSAGE else f"{message[: LONGEST_MESSAGE - 3]}..."
