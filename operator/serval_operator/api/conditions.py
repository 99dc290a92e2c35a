"""Status conditions: pure functions after KEP-1623 and the kstatus rules.

A condition's ``lastTransitionTime`` moves only when its ``status`` flips. ``Reconciling`` and ``Stalled``
are present only while they are True. Conditions are kept in a fixed order, so that equal states are equal
lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from serval_operator.constants import (
    ACCELERATOR_AVAILABLE,
    ACCELERATOR_IN_USE,
    AVAILABLE,
    ENDPOINT_READY,
    MAX_MESSAGE,
    MODEL_FETCHED,
    MODEL_LOADED,
    READY,
    RECONCILING,
    SCHEDULED,
    STALLED,
    UPDATE_AVAILABLE,
)

ConditionStatus = Literal["True", "False", "Unknown"]

ORDER = (
    READY,
    AVAILABLE,
    ACCELERATOR_AVAILABLE,
    SCHEDULED,
    MODEL_FETCHED,
    MODEL_LOADED,
    ENDPOINT_READY,
    ACCELERATOR_IN_USE,
    UPDATE_AVAILABLE,
    RECONCILING,
    STALLED,
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as the planner decides it; times are added by `merge`."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """What keeps the operator from making the children: an invalid spec, a conflict, a refusal."""

    reason: str
    message: str


def merge(
    previous: Iterable[Mapping[str, Any]], wanted: Iterable[Condition], *, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Conditions to store: those wanted, in fixed order, keeping the time of each status that did not flip.

    Parameters
    ----------
    previous:
        Conditions as stored.
    generation:
        Generation of the spec that was judged.
    now:
        Aware UTC time of the judgement.
    """
    before = {condition.get("type"): condition for condition in previous}
    stored = []
    for condition in sorted(wanted, key=lambda one: ORDER.index(one.type)):
        old = before.get(condition.type, {})
        unchanged = old.get("status") == condition.status and old.get("lastTransitionTime")
        stored.append(
            {
                "type": condition.type,
                "status": condition.status,
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if unchanged else format_time(now),
                "reason": condition.reason,
                "message": condition.message[:MAX_MESSAGE],
            }
        )
    return stored


def find(conditions: Iterable[Mapping[str, Any]], kind: str) -> Mapping[str, Any]:
    """The condition of a type; an empty mapping when there is none."""
    return next((condition for condition in conditions if condition.get("type") == kind), {})


def format_time(moment: datetime) -> str:
    """Time as the API server writes it: RFC 3339, UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
