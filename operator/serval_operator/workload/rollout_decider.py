"""Decides about the pods: the capacity verdict where one is needed, and from it the rollout. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from serval_operator.api.blocks.rollout import IN_PLACE
from serval_operator.api.conditions import Blocked
from serval_operator.api.placement import Placement
from serval_operator.api.snapshots import PodView
from serval_operator.cluster.capacity import CapacityVerdict, Supply, judge_capacity, refuses
from serval_operator.cluster.questions import Answers, CapacityQuestion
from serval_operator.cluster.room import Room, look_for_room
from serval_operator.pods.observation import Observed
from serval_operator.pods.refused_pod_backoff import Damping, plan_damping
from serval_operator.reasons import CAPACITY_UNKNOWN, REPLACED
from serval_operator.workload.accelerator_status import waiting_pods
from serval_operator.workload.rollout import Rollout, heading, plan_rollout, replaced, waiting
from serval_operator.workload.turn_taking import (
    Place,
    counted,
    fulfilled,
    kept_records,
    place_taken,
    take_place,
    told,
)
from serval_operator.workload.workload import Workload

WAITING_AGAIN = 30.0
"""Seconds until what holds up a waiting pod is looked at again. Strangers' devices send us no event."""
LOOKS_PER_SECOND = 20
"""Where very many wait, so many are looked at again in a second: each look asks for a pod's events."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, and why.

    Parameters
    ----------
    verdict:
        The capacity verdict while a pod waits or none may be made; else None.
    lacking:
        Pods that have no place.
    records:
        Fields of the status that remember whose place in the queue for devices was taken.
    """

    rollout: Rollout
    damping: Damping
    verdict: CapacityVerdict | None
    lacking: int
    again: float | None
    records: Mapping[str, Any] = field(default_factory=dict)

    @property
    def in_place(self) -> bool:
        """Whether a new pod takes the place of an old one now, which is stopped for it."""
        return self.rollout.strategy == IN_PLACE

    @property
    def is_replaced(self) -> bool:
        """Whether another object took its place in the queue for devices."""
        return self.verdict is not None and self.verdict.reason == REPLACED


def decide(
    observed: Observed,
    workload: Workload,
    answers: Answers,
    *,
    hide_foreign: bool = False,
    crowd: int = 0,
) -> Decision:
    """Decide from one observation; asks for capacity only where it matters.

    Parameters
    ----------
    hide_foreign:
        Whether holders in other namespaces are counted only, and not named.
    crowd:
        How many custom resources wait for a place.

    Raises
    ------
    Unanswered
        Capacity has to be known first.
    """
    capacity = _Capacity(observed, workload.placement, answers, hide_foreign)
    in_place = observed.deployment is not None and not observed.deployment.surge
    waits = waiting_pods(observed, revision=workload.revision, wanted=workload.wanted, in_place=in_place)
    scarcity = _scarcity(observed, workload, capacity, waits)
    allowed = scarcity.place.allows(workload.wanted)
    head = heading(observed, workload)
    # Refusals count in the same way while others have the turn.
    damping = plan_damping(observed, revision=head.revision, wanted=workload.wanted)
    plan = partial(
        plan_rollout,
        observed,
        workload,
        head=head,
        damping=damping,
        refused=scarcity.refused,
        allowed=allowed,
    )
    rollout = plan(room=None)
    if workload.wanted and rollout.needs.capacity:
        rollout = plan(room=capacity.room(rollout.revision, waits))
    # After a revert, pods of the older revision may wait too.
    waits_back = rollout.revision != workload.revision and bool(waiting(observed, rollout.revision))
    looks_again = bool(waits or waits_back or scarcity.changes_unseen)
    pauses = [rollout.again, max(WAITING_AGAIN, crowd / LOOKS_PER_SECOND) if looks_again else None]
    placed = sum(bool(pod.node) for pod in observed.active())
    return Decision(
        rollout=rollout,
        damping=damping,
        verdict=scarcity.verdict,
        lacking=len(waits) if waits and allowed == workload.wanted else max(workload.wanted - placed, 0),
        again=min((pause for pause in pauses if pause is not None), default=None),
        records=fulfilled(scarcity.place.records, placed),
    )


@dataclass(frozen=True, slots=True)
class _Scarcity:
    """What the devices of the cluster mean for the pods.

    Parameters
    ----------
    verdict:
        The capacity verdict while pods wait or may not be made; else None.
    refused:
        Why no pod may be made at all.
    place:
        The place in the queue for devices.
    """

    verdict: CapacityVerdict | None
    refused: Blocked | None
    place: Place

    @property
    def changes_unseen(self) -> bool:
        """Whether what keeps the pods away may end without an event."""
        return self.verdict is not None and self.verdict.reason != REPLACED


def _scarcity(
    observed: Observed, workload: Workload, capacity: _Capacity, waits: tuple[PodView, ...]
) -> _Scarcity:
    """Look for devices, and for the turn to get them."""
    model, name, by = observed.model, workload.placement.resource_name, capacity.answers.outlook.replaced_by
    verdict, refused = None, None
    if not workload.wanted or not name:
        return _Scarcity(None, None, Place(records=kept_records(model)))
    if by:
        gone, records = place_taken(model, by)
        return _Scarcity(CapacityVerdict(gone.reason, gone.message), gone, Place(records=records))
    if waits:
        verdict = capacity.verdict(with_holds=True, waits=waits)
    elif not observed.living():
        verdict, refused = capacity.before_the_first_pod()
    if refused:
        return _Scarcity(verdict, refused, Place(records=kept_records(model)))
    place = take_place(observed, name, capacity.answers)
    limited = place.allows(workload.wanted) < workload.wanted
    if limited:
        verdict = capacity.in_the_queue()
    if not waits and not limited:
        return _Scarcity(None, None, place)
    return _Scarcity(capacity.told(verdict, place, limited=limited), None, place)


@dataclass(frozen=True, slots=True)
class _Capacity:
    """Judges what there is for the pods of a custom resource."""

    observed: Observed
    placement: Placement
    answers: Answers
    hide_foreign: bool

    def verdict(self, *, with_holds: bool, waits: tuple[PodView, ...] = ()) -> CapacityVerdict:
        """Judge what the cluster answered."""
        return self._judged(CapacityQuestion(self.placement.resource_name, with_holds, False, waits))

    def room(self, revision: str, waits: tuple[PodView, ...]) -> Room:
        """Look for room for a new pod of a revision.

        Parameters
        ----------
        waits:
            Pods that wait and of which capacity was judged already; none where it was not.
        """
        name = self.placement.resource_name
        pods = waits or waiting(self.observed, revision)
        # Fresh: a count that misses a device that was taken a second ago stops a pod, and gets no device.
        question = CapacityQuestion(name, bool(name), bool(name) and not waits, pods)
        return look_for_room(
            self.placement,
            self.answers.supply(question),
            self._judged(question).fits if name else None,
            {pod.node for pod in replaced(self.observed, revision)},
        )

    def _judged(self, question: CapacityQuestion) -> CapacityVerdict:
        return self._of(self.answers.supply(question))

    def _of(self, supply: Supply) -> CapacityVerdict:
        return judge_capacity(
            self.placement,
            supply,
            namespace=self.observed.model.namespace,
            hide_foreign=self.hide_foreign,
        )

    def in_the_queue(self) -> CapacityVerdict:
        """Judge what there is for an object that waits for its turn."""
        return self._of(counted(self.observed, self.placement.resource_name, self.answers))

    def told(self, verdict: CapacityVerdict | None, place: Place, *, limited: bool) -> CapacityVerdict | None:
        """The verdict, with the place in the queue."""
        if verdict is None or place.turn is None:
            return verdict
        namespace = self.observed.model.namespace
        return told(verdict, place.turn, namespace, hide_foreign=self.hide_foreign, limited=limited)

    def before_the_first_pod(self) -> tuple[CapacityVerdict, Blocked | None]:
        """Judge before the first pod is made: not whether a device is free, but whether there is one."""
        verdict = self.verdict(with_holds=False)
        if verdict.reason == CAPACITY_UNKNOWN or not refuses(self.placement, verdict):
            return verdict, None
        return verdict, Blocked(verdict.reason, verdict.message)
