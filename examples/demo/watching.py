"""Following a ModelDeployment until it is ready, with the operator's own words for what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from examples.demo.errors import DemoError

READY = "Ready"
STALLED = "Stalled"
TRUE = "True"


def condition(deployment: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a condition of a ModelDeployment; empty where it is absent or speaks of an older spec."""
    generation = deployment["metadata"]["generation"]
    for found in deployment.get("status", {}).get("conditions", []):
        if found["type"] == kind and found.get("observedGeneration") == generation:
            return dict(found)
    return {}


def follow(states: Iterable[dict[str, Any]], say: Callable[[str], None]) -> dict[str, Any]:
    """Say every change of the Ready condition, and return the object once it is True.

    Parameters
    ----------
    states:
        The ModelDeployment as it is and after each change.
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
        if ready.get("status") == TRUE:
            return state
        stalled = condition(state, STALLED)
        if stalled.get("status") == TRUE:
            raise DemoError(f"no retry can help: {stalled['reason']}: {stalled['message']}")
    raise DemoError("the ModelDeployment is gone")
