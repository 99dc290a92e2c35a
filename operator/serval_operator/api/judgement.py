"""What a reconcile says about a custom resource, as data: judging decides it, the publisher writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serval_operator.api.conditions import Condition, merge
from serval_operator.api.snapshots import OwnerView

Status = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What there is to say about an object now.

    Parameters
    ----------
    status:
        The status as it should be stored, without conditions and `observedGeneration`.
    conditions:
        Its conditions without times; `Ready` is among them.
    told:
        Types of conditions beside `Ready` of which an Event tells when they turn False.
    volatile:
        Fields of the status that change with other objects of the cluster. While there are any, a status that
        differs only in them and in messages is written after a pause.
    warnings:
        Reason and message of Events that are posted when the status is written.
    again:
        Seconds after which to judge again although nothing happened, or None.
    """

    status: Status
    conditions: tuple[Condition, ...]
    told: tuple[str, ...] = ()
    volatile: tuple[str, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    again: float | None = None

    def condition(self, kind: str) -> Condition | None:
        """A condition; None where it does not apply."""
        return next((one for one in self.conditions if one.type == kind), None)

    def stored(self, owner: OwnerView, order: Sequence[str], now: datetime) -> Status:
        """The whole status to store.

        Parameters
        ----------
        owner:
            The object that was judged.
        order:
            Types of the conditions of its kind, in their order.
        now:
            Aware UTC time of the judgement.
        """
        before = owner.status.get("conditions") or ()
        conditions = merge(before, self.conditions, order=order, generation=owner.generation, now=now)
        return {"observedGeneration": owner.generation, "conditions": conditions, **self.status}
