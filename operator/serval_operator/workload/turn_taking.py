"""The place of an object in the queue for devices, its effect on the pods, and its words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from serval_operator.api.conditions import Blocked
from serval_operator.api.judgement import Status
from serval_operator.api.naming import Key
from serval_operator.api.rivals import REPLACED_BY, REPLACEMENT, parse_replacement
from serval_operator.api.snapshots import OwnerView
from serval_operator.api.unstructured import mapping, whole
from serval_operator.cluster.capacity import CapacityVerdict, Supply
from serval_operator.cluster.questions import Answers, CapacityQuestion
from serval_operator.pods.observation import Observed
from serval_operator.reasons import FITS, REPLACED, WAITING_FOR_TURN
from serval_operator.turns.queue import Turn
from serval_operator.turns.standing import Standing, look, stand

TO_RETURN = "to let it wait for a device again, change the spec, such as `spec.rollout.trigger`"


@dataclass(frozen=True, slots=True)
class Place:
    """The place of an object in the queue.

    Parameters
    ----------
    turn:
        The answer of the queue; None if no order holds.
    records:
        Fields of the status that remember whose place was taken.
    """

    turn: Turn | None = None
    records: Mapping[str, Any] = field(default_factory=dict)

    def allows(self, wanted: int) -> int:
        """How many of the wanted pods it may have."""
        return wanted if self.turn is None else min(self.turn.granted, wanted)


def take_place(observed: Observed, resource_name: str, answers: Answers) -> Place:
    """Look for the place of an object in the queue.

    Raises
    ------
    Unanswered
        The others that ask for the resource, or the free devices, have to be known first.
    """
    records = kept_records(observed.model)
    if not answers.outlook.contended:
        return Place(records=records)
    standing = _standing(observed, resource_name, answers)
    if standing is not None and standing.takes is not None:
        # No object is stopped if a device came free a moment ago.
        standing = _standing(observed, resource_name, answers, fresh=True)
    if standing is None:
        return Place(records=records)
    if standing.takes is not None:
        records[REPLACEMENT] = standing.takes.as_json()
    return Place(standing.turn, records)


def _standing(
    observed: Observed, resource_name: str, answers: Answers, *, fresh: bool = False
) -> Standing | None:
    rivals = answers.rivals_for(resource_name)
    own = next((one for one in rivals.rivals if one.uid == observed.model.uid), None)
    if own is None:
        return None
    supply = answers.supply(CapacityQuestion(resource_name, with_holds=True, fresh=fresh))
    return stand(own, rivals, supply, observed.now)


def counted(observed: Observed, resource_name: str, answers: Answers) -> Supply:
    """The supply of a contended resource: the last listing, corrected by the cache for our own pods."""
    supply = answers.supply(CapacityQuestion(resource_name, with_holds=True))
    if supply.nodes is None or supply.holds is None:
        return supply
    return look(answers.rivals_for(resource_name), supply, resource_name, observed.now).supply


def kept_records(model: OwnerView) -> Status:
    """What the status remembers of places that were taken, as far as it still holds."""
    kept: Status = {}
    record = parse_replacement(model.status)
    if record:
        kept[REPLACEMENT] = record.as_json()
    by = mapping(model.status, REPLACED_BY)
    if by and whole(by.get("generation")) == model.generation:
        kept[REPLACED_BY] = dict(by)
    return kept


def place_taken(model: OwnerView, by: Key) -> tuple[Blocked, Status]:
    """The words and the record of an object whose place was taken."""
    text = f"{by} took its devices (`spec.accelerator.whenBusy: Replace`); {TO_RETURN}"
    record = {"generation": model.generation, "kind": by.kind, "name": by.name}
    return Blocked(REPLACED, text), {**kept_records(model), REPLACED_BY: record}


def fulfilled(records: Mapping[str, Any], placed: int) -> Status:
    """The records; a promise of devices ends when it was kept."""
    record = records.get(REPLACEMENT)
    if not record or placed < record.get("replicas", 0):
        return dict(records)
    return {**records, REPLACEMENT: {name: value for name, value in record.items() if name != "replicas"}}


def told(
    verdict: CapacityVerdict, turn: Turn, namespace: str, *, limited: bool, hide_foreign: bool
) -> CapacityVerdict:
    """The capacity verdict of an object that waits for its turn.

    Parameters
    ----------
    limited:
        Whether it may not have all its pods.
    namespace:
        Of the object.
    hide_foreign:
        Whether objects in other namespaces are not named.
    """
    if not turn.position:
        return verdict
    queue = f"position {turn.position} of {turn.waiting} in the queue"
    if verdict.reason != FITS or not limited:
        return replace(verdict, message=f"{queue}; {verdict.message}", position=turn.position)
    named = [str(key) for key in turn.ahead if key.namespace == namespace or not hide_foreign]
    before = ", ".join(named) or "others"
    if turn.reserved:
        why = f"{turn.reserved} free units are kept for it until there are enough"
    else:
        why = f"free devices are for {before}" if turn.ahead else "free devices are for pods that start"
    return replace(
        verdict,
        reason=WAITING_FOR_TURN,
        message=f"{queue}; {why}; {verdict.message}",
        position=turn.position,
    )
