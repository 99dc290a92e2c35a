"""The rollout: which revision the Deployment carries, with how many pods, and how a change goes out.

Pure, and level-triggered: what goes on already is read from the observed Deployment, so that the same
observation gives the same plan, whoever ran before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from serval_operator.api.blocks.names import AUTO
from serval_operator.api.blocks.rollout import IN_PLACE, REVERT, SURGE, Strategy
from serval_operator.api.conditions import Blocked
from serval_operator.api.snapshots import PodView
from serval_operator.cluster.room import Room
from serval_operator.conversion_reasons import DEVICE_FAULTS
from serval_operator.pods.observation import Observed
from serval_operator.pods.pod_state import Stage, Verdict, is_permanent
from serval_operator.pods.refused_pod_backoff import Damping
from serval_operator.pods.scheduler_words import is_held_by_pods, lacks_device
from serval_operator.pods.start_deadline import time_left
from serval_operator.reasons import (
    NODE_NOT_READY,
    PROGRESSING,
    RESTART_REASONS,
    STALLING_REASONS,
    START_DEADLINE_EXCEEDED,
)
from serval_operator.workload.revision_history import last_served
from serval_operator.workload.workload import Workload

RESTARTS = 3
"""Starts after the first one that a container may fail before its revision counts as failed."""
TRY_AGAIN = "to try again, change the spec or give `spec.rollout.trigger` a new value"

SURGE_PATIENCE = timedelta(seconds=30)
"""How long a new pod beside the old ones may be without a place before it takes that of an old one.
Autoscalers look every ten seconds, so by then they have said whether they add a node."""

_ATTACHED_TO = re.compile(r"Volume is already used by pod\(s\) ([a-z0-9.-]+(?:, [a-z0-9.-]+)*)")
"""Of the attach-detach controller's Multi-Attach error: pods on other nodes that use a volume which only one
node can have (ReadWriteOnce)."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What has to be known before a plan is good.

    Parameters
    ----------
    capacity:
        What room there is for a new pod.
    """

    capacity: bool = False


@dataclass(frozen=True, slots=True)
class Rollout:
    """What the Deployment should be.

    Parameters
    ----------
    revision:
        Key of the revision that it carries.
    blocked:
        What to say of a plan that is not what the spec asks for. It is no reason not to act.
    needs:
        Where something is needed, this plan is not to be acted upon; ask again with it.
    again:
        Seconds after which to plan again although nothing happened, or None.
    """

    revision: str
    replicas: int
    strategy: Strategy
    blocked: Blocked | None
    needs: Needs
    again: float | None


@dataclass(frozen=True, slots=True)
class Heading:
    """The revision to bring out, and why it is not the newest."""

    revision: str
    blocked: Blocked | None = None


def heading(observed: Observed, workload: Workload) -> Heading:
    """The newest revision; where it failed and `onFailure` is Revert, the last one that served.

    A revision that serves now has not failed, whatever was said of it earlier. Where nothing ever served,
    there is nothing to go back to.
    """
    serving = str(observed.model.status.get("servingRevision") or "")
    newest = observed.revision(workload.revision)
    if (
        workload.rollout.on_failure != REVERT
        or newest is None
        or not newest.failed_reason
        or serving == newest.key
    ):
        return Heading(workload.revision)
    back = last_served(observed.revisions, besides=workload.revision, serving=serving)
    if back is None:
        return Heading(workload.revision)
    text = f"revision {workload.revision} failed and revision {back.key} serves again; {TRY_AGAIN}"
    return Heading(back.key, Blocked(newest.failed_reason, f"{text}: {newest.failed_message}", final=True))


def plan_rollout(
    observed: Observed,
    workload: Workload,
    *,
    head: Heading,
    room: Room | None,
    damping: Damping,
    refused: Blocked | None,
    allowed: int,
) -> Rollout:
    """Plan from one observation.

    Parameters
    ----------
    head:
        What `heading` gives.
    room:
        What room there is for a new pod; None while no one has looked.
    damping:
        Made for the revision of ``head``.
    refused:
        Why no pod may be made at all.
    allowed:
        How many of the wanted pods may be made, as others wait for the same devices.
    """
    carried, run = head.revision, damping.run
    if damping.instead:
        if observed.revision(damping.instead):
            carried = damping.instead
        else:
            # Its template is lost. Repeated refusals cost less than the pods that serve.
            run = None
    strategy, needs = _strategy(observed, workload, carried, room)
    if damping.beside and run is not None:
        strategy, needs = SURGE, Needs()
    return Rollout(
        revision=carried,
        replicas=0 if refused else allowed if run is None else min(run, allowed),
        strategy=strategy,
        blocked=refused or damping.cause or (head.blocked if workload.wanted else None),
        needs=Needs() if refused else needs,
        again=_sooner(damping.again, _patience_left(observed, workload, carried)),
    )


def waiting(observed: Observed, revision: str) -> tuple[PodView, ...]:
    """Pods of a revision that no node takes."""
    return tuple(pod for pod in observed.newest(revision) if not pod.node and pod.unschedulable)


def replaced(observed: Observed, revision: str) -> list[PodView]:
    """Pods of other revisions, which a rollout has to replace."""
    return [pod for pod in observed.active() if pod.revision != revision]


def failed_now(observed: Observed, workload: Workload) -> Blocked | None:
    """Why the newest revision has failed for good now; None while it has not, and where no one would revert.

    A revision all of whose replicas answered once is rolled out, and never fails in this sense.
    """
    record = observed.revision(workload.revision)
    served = observed.model.status.get("servingRevision") == workload.revision or (record and record.served)
    if workload.rollout.on_failure != REVERT or served or (record and record.failed_reason):
        return None
    judged = [(pod, observed.verdict(pod)) for pod in observed.newest(workload.revision)]
    judged.sort(key=lambda pair: (pair[1].stage, pair[1].reason, pair[1].message, pair[1].pod))
    found = (_failure(pod, verdict, workload, observed) for pod, verdict in judged)
    return next((one for one in found if one), None)


def _failure(pod: PodView, verdict: Verdict, workload: Workload, observed: Observed) -> Blocked | None:
    """Why a pod speaks against its revision; None where it does not, or not yet.

    A pod without a place does not, nor does one whose node was lost or whose device is of no use: another
    revision would fare no better.
    """
    if verdict.stage in (Stage.SCHEDULE, Stage.SERVE) or verdict.reason in {NODE_NOT_READY, *DEVICE_FAULTS}:
        return None
    left = time_left(pod, workload.deadline_seconds, observed.now)
    late = left is not None and left <= 0
    if verdict.reason == PROGRESSING:
        text = f"{verdict.message}, for more than {workload.deadline_seconds} s since a node took the pod"
        return Blocked(START_DEADLINE_EXCEEDED, text) if late else None
    hopeless = verdict.reason in STALLING_REASONS or (verdict.stage is Stage.FETCH and is_permanent(pod))
    worn = verdict.reason in RESTART_REASONS and _restarts(pod, verdict.stage) >= RESTARTS
    return Blocked(verdict.reason, verdict.message) if hopeless or worn or late else None


def _restarts(pod: PodView, stage: Stage) -> int:
    containers = (pod.fetch,) if stage is Stage.FETCH else (pod.server, pod.front)
    return max((one.restarts for one in containers if one), default=0)


def _strategy(
    observed: Observed, workload: Workload, carried: str, room: Room | None
) -> tuple[Strategy, Needs]:
    """How the change goes out, and what has to be known to say so.

    What free devices allow is decided when a rollout starts, and once more when its new pod finds none. In
    between the strategy stays: it would change with every device in the cluster that comes free. Where no one
    knows the free devices, the new pod finds out: that costs nothing, and stopping a pod first may.

    A new pod that stays without a place takes that of an old one, where pods hold what it needs and no node
    is on its way. An old pod is never stopped for a place that its successor could not have.
    """
    deployment, devices = observed.deployment, bool(workload.placement.resource_name)
    if workload.rollout.strategy != AUTO:
        return workload.rollout.strategy, Needs()
    if deployment is None:
        return IN_PLACE if devices else SURGE, Needs()
    kept: Strategy = SURGE if deployment.surge else IN_PLACE
    starts = deployment.revision != carried
    old = replaced(observed, carried)
    if not devices and (starts or not old):
        return SURGE, Needs()
    if kept == SURGE and _lacks_volume(observed, carried, old):
        return IN_PLACE, Needs()
    lacks = kept == SURGE and _lacks_device(observed, carried)
    stuck = kept == SURGE and _is_stuck(observed, carried)
    if not old or not (starts or lacks or stuck):
        return kept, Needs()
    if room is None:
        return kept, Needs(capacity=True)
    if not any(room.cures(pod.node) for pod in old):
        return SURGE, Needs()
    if stuck and not room.coming:
        return IN_PLACE, Needs()
    if not (starts or lacks):
        return kept, Needs()
    return SURGE if room.fits or (room.fits is None and starts) else IN_PLACE, Needs()


def _lacks_device(observed: Observed, revision: str) -> bool:
    """Whether a new pod has no place because a device is missing, and no pod is being stopped for it."""
    waits = waiting(observed, revision)
    return not observed.making_room and any(lacks_device(pod.unschedulable) for pod in waits)


def _lacks_volume(observed: Observed, revision: str, old: Sequence[PodView]) -> bool:
    """Whether a new pod cannot start because one old pod on another node has its volume.

    Where several pods have it, the end of one does not release it.
    """
    said = (event for pod in observed.newest(revision) for event in observed.warnings.get(pod.uid, ()))
    found = (match for match in (_ATTACHED_TO.search(event.message) for event in said) if match)
    names = {name for match in found for name in match[1].split(", ")}
    return len(names) == 1 and names <= {pod.name for pod in old}


def _is_stuck(observed: Observed, revision: str) -> bool:
    """Whether a new pod has waited long for what pods hold, and no pod is being stopped for it."""
    return not observed.making_room and any(left <= 0 for left in _waits_left(observed, revision))


def _patience_left(observed: Observed, workload: Workload, carried: str) -> float | None:
    """Seconds until a new pod beside the old ones has waited long; None where none will have."""
    deployment = observed.deployment
    surges = deployment is not None and deployment.surge and workload.rollout.strategy == AUTO
    if not surges or not replaced(observed, carried):
        return None
    return min((left for left in _waits_left(observed, carried) if left > 0), default=None)


def _waits_left(observed: Observed, revision: str) -> Sequence[float]:
    """Seconds until each pod that waits for what pods hold has waited long; zero or less where it has."""
    return [
        min(pod.created + SURGE_PATIENCE - observed.now, SURGE_PATIENCE).total_seconds()
        for pod in waiting(observed, revision)
        if pod.created and is_held_by_pods(pod.unschedulable)
    ]


def _sooner(*pauses: float | None) -> float | None:
    return min((pause for pause in pauses if pause is not None), default=None)
