"""The rollout: which revision the Deployment carries, with how many pods, and how a change goes out.

Pure, and level-triggered: what goes on already is read from the observed Deployment, so that the same
observation gives the same plan, whoever ran before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from serval_operator.api.blocks.names import AUTO
from serval_operator.api.blocks.rollout import IN_PLACE, REVERT, SURGE, Strategy
from serval_operator.api.conditions import Blocked
from serval_operator.api.snapshots import PodView
from serval_operator.pods.observation import Observed
from serval_operator.pods.pod_state import Stage, Verdict, is_permanent
from serval_operator.pods.refused_pod_backoff import Damping
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

_WANTS_DEVICE = re.compile(r"Insufficient [^\s,]+/[^\s,]+")
"""The scheduler's words for a missing extended resource, whose name holds a slash; `cpu` has none."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What has to be known before a plan is good.

    Parameters
    ----------
    capacity:
        How many more pods would find a free device now.
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
    fits: int | None,
    capacity_asked: bool,
    damping: Damping,
    refused: Blocked | None,
) -> Rollout:
    """Plan from one observation.

    Parameters
    ----------
    head:
        What `heading` gives.
    fits:
        How many more pods would find a free device now; None while that is not known.
    capacity_asked:
        Whether ``fits`` is all that can be found out. Then None means that nobody knows.
    damping:
        Made for the revision of ``head``.
    refused:
        Why no pod may be made at all.
    """
    carried, run = head.revision, damping.run
    if damping.instead:
        if observed.revision(damping.instead):
            carried = damping.instead
        else:
            # Its template is lost. Repeated refusals cost less than the pods that serve.
            run = None
    strategy, needs = _strategy(observed, workload, carried, fits=fits, known=capacity_asked)
    if damping.beside and run is not None:
        strategy, needs = SURGE, Needs()
    return Rollout(
        revision=carried,
        replicas=0 if refused else workload.wanted if run is None else min(run, workload.wanted),
        strategy=strategy,
        blocked=refused or damping.cause or head.blocked,
        needs=Needs() if refused else needs,
        again=damping.again,
    )


def failed_now(observed: Observed, workload: Workload) -> Blocked | None:
    """Why the newest revision has failed for good now; None while it has not, and where nobody would revert.

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

    A pod without a place does not, nor does one whose node was lost: another revision would fare no better.
    """
    if verdict.stage in (Stage.SCHEDULE, Stage.SERVE) or verdict.reason == NODE_NOT_READY:
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
    observed: Observed, workload: Workload, carried: str, *, fits: int | None, known: bool
) -> tuple[Strategy, Needs]:
    """How the change goes out, and what has to be known to say so.

    What free devices allow is decided when a rollout starts, and once more when its new pod finds none. In
    between the strategy stays: it would change with every device in the cluster that comes free. Where nobody
    knows what is free, the new pod finds out: that costs nothing, and stopping a pod first may.
    """
    deployment = observed.deployment
    if workload.rollout.strategy != AUTO:
        return workload.rollout.strategy, Needs()
    if not workload.placement.resource_name:
        return SURGE, Needs()
    if deployment is None:
        return IN_PLACE, Needs()
    kept: Strategy = SURGE if deployment.surge else IN_PLACE
    starts = deployment.revision != carried
    if not _others(observed, carried) or not (starts or (kept == SURGE and _lacks_device(observed, carried))):
        return kept, Needs()
    if fits is None and not known:
        return kept, Needs(capacity=True)
    return SURGE if fits or (fits is None and starts) else IN_PLACE, Needs()


def _others(observed: Observed, revision: str) -> bool:
    """Whether there are pods of another revision, that a rollout has to replace."""
    return any(pod.revision != revision and pod.phase != "Failed" for pod in observed.living())


def _lacks_device(observed: Observed, revision: str) -> bool:
    """Whether a new pod has no place for want of a device, and none is being given up for it."""
    waits = (pod for pod in observed.newest(revision) if not pod.node)
    return not observed.making_room and any(_WANTS_DEVICE.search(pod.unschedulable) for pod in waits)
