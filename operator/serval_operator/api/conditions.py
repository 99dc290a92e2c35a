"""Status conditions: pure functions after KEP-1623 and the kstatus rules.

A condition's ``lastTransitionTime`` moves only when its ``status`` flips. ``Reconciling`` and ``Stalled``
are present only while they are True. Each kind has an order for its conditions, so that equal states are
equal lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from serval_operator.api.text import scrub
from serval_operator.constants import MAX_MESSAGE
from serval_operator.errors import Forbidden, Invalid, KubeError
from serval_operator.reasons import CHILD_REFUSED, NAMESPACE_TERMINATING, REQUEST_FAILED

ConditionStatus = Literal["True", "False", "Unknown"]
_TERMINATING = "is being terminated"
"""Words of the API server when it refuses an object in a namespace that is being deleted."""
_WEBHOOK = "webhook"
"""In the words of the API server (500, "failed calling webhook") when a webhook does not answer."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as the planner decides it; times are added by `merge`."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """What keeps the operator from making the children: an invalid spec, a conflict, a refusal.

    Parameters
    ----------
    final:
        Whether nothing is tried again until the spec changes, although the reason alone does not say so.
    """

    reason: str
    message: str
    final: bool = False


def problem(slot: str, error: KubeError) -> Blocked:
    """What it means that a request about an object fails.

    Parameters
    ----------
    slot:
        Kind and name of the object, for the message.
    """
    refused = isinstance(error, Forbidden | Invalid) or _WEBHOOK in error.message
    if refused:
        reason = NAMESPACE_TERMINATING if _TERMINATING in error.message else CHILD_REFUSED
    else:
        reason = REQUEST_FAILED
    return Blocked(reason, scrub(f"{slot}: {error.message}"))


def both(first: Blocked | None, second: Blocked | None) -> Blocked | None:
    """Two things that block as one: the reason of the first, and the words of both."""
    if first is None or second is None:
        return first or second
    return replace(first, message=f"{first.message}; {second.message}")


def merge(
    previous: Iterable[Mapping[str, Any]],
    wanted: Iterable[Condition],
    *,
    order: Sequence[str],
    generation: int,
    now: datetime,
) -> list[dict[str, Any]]:
    """Conditions to store: those wanted, in order, keeping the time of each status that did not flip.

    Parameters
    ----------
    previous:
        Conditions as stored.
    order:
        Types of the conditions of the kind, in their order.
    generation:
        Generation of the spec that was judged.
    now:
        Aware UTC time of the judgement.
    """
    before = {condition.get("type"): condition for condition in previous}
    stored = []
    for condition in sorted(wanted, key=lambda one: order.index(one.type)):
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
