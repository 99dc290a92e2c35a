"""Conditions and counts of a ModelDeployment out of one observation: what the user reads.

`Ready` carries the reason of the first step that fails, in the order in which a model comes to serve: spec,
children, scheduling, fetch, load, endpoint. Pods of the newest revision decide; of those, the worst does.
Pods that the node refused are remembered only while nothing better is known, so that a refusal that healed
leaves no trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from serval_operator.api.conditions import Condition
from serval_operator.api.text import scrub
from serval_operator.api.views import PodView
from serval_operator.constants import (
    AVAILABLE,
    AVAILABLE_REASON,
    DONE,
    ENDPOINT_READY,
    MODEL_FETCHED,
    MODEL_LOADED,
    POD_CREATE_FAILED,
    POD_SECURITY_VIOLATION,
    PROGRESSING,
    QUOTA_EXCEEDED,
    READY,
    RECONCILING,
    SCALED_TO_ZERO,
    SCHEDULED,
    SERVING,
    STALLED,
    STALLING_REASONS,
    SUSPENDED,
)
from serval_operator.planning.observed import Observed
from serval_operator.planning.podstate import Stage, Verdict, judge

REFUSALS_COUNT_FOR = timedelta(seconds=90)
"""How long a refused pod explains why its successor is not there yet."""

WAIT_CREATE = "the pods are being created"
WAIT_EARLIER = "earlier steps are not complete"

_STEPS = ((SCHEDULED, Stage.SCHEDULE), (MODEL_FETCHED, Stage.FETCH), (MODEL_LOADED, Stage.LOAD))


@dataclass(frozen=True, slots=True)
class Blocked:
    """What keeps the operator from making the children: an invalid spec, a conflict, a refusal."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """The judgement: conditions, counts, and the failure to remember (None where there is none)."""

    conditions: tuple[Condition, ...]
    replicas: int
    ready_replicas: int
    updated_replicas: int
    failure: Verdict | None

    @property
    def ready(self) -> Condition:
        """The `Ready` condition."""
        return self.conditions[0]


def assess(
    observed: Observed, *, wanted: int, revision: str, suspended: bool, blocked: Blocked | None
) -> Readiness:
    """Judge an observation.

    Parameters
    ----------
    wanted:
        Pods that should run.
    revision:
        Name of the newest revision; empty when the spec gives none.
    blocked:
        Why the children could not be made, if so. Pods that run keep serving and keep being counted.
    """
    living = [pod for pod in observed.living() if pod.phase != "Failed"]
    newest = [pod for pod in living if pod.revision == revision]
    answering = [pod for pod in living if pod.ready]
    verdicts = [judge(pod, observed.warnings.get(pod.uid, ())) for pod in newest]
    steps = _steps(observed, verdicts, newest, wanted, revision)
    endpoint = _endpoint(observed, answering, wanted)
    ready = _ready(blocked, [*steps, endpoint], living, newest, wanted=wanted, suspended=suspended)
    conditions = [ready, _available(ready, answering, living)]
    if blocked is None and wanted > 0:
        conditions += [*steps, endpoint]
    return Readiness(
        conditions=(*conditions, *_kstatus(ready)),
        replicas=len(living),
        ready_replicas=len(answering),
        updated_replicas=len(newest),
        failure=_worst([one for one in (*verdicts, *_refusals(observed, revision)) if one.failed]),
    )


def _steps(
    observed: Observed, verdicts: Sequence[Verdict], newest: Sequence[PodView], wanted: int, revision: str
) -> list[Condition]:
    """Scheduled, ModelFetched and ModelLoaded over the pods of the newest revision."""
    refused = _refusals(observed, revision) if not any(one.failed for one in verdicts) else []
    missing = max(wanted - len(newest), 0)
    conditions = []
    for kind, stage in _STEPS:
        passed = sum(one.stage > stage for one in verdicts)
        here = [one for one in verdicts if one.stage == stage]
        if stage is Stage.SCHEDULE and missing:
            here = [*here, *refused, *_uncreated(observed)]
        if passed >= wanted and not missing:
            conditions.append(Condition(kind, "True", DONE, f"{passed} of {wanted} pods"))
            continue
        worst = _worst([one for one in here if one.failed])
        if worst:
            count = sum(one.reason == worst.reason for one in here)
            text = f"{min(count, wanted)} of {wanted} pods: {worst.message}"
            conditions.append(Condition(kind, "False", worst.reason, text))
        else:
            idle = WAIT_CREATE if stage is Stage.SCHEDULE else WAIT_EARLIER
            doing = here[0].message if here else idle
            conditions.append(Condition(kind, "Unknown", PROGRESSING, f"{passed} of {wanted} pods; {doing}"))
    return conditions


def _uncreated(observed: Observed) -> list[Verdict]:
    """A pod that the cluster refuses to create, as a verdict."""
    text = observed.deployment.create_failure if observed.deployment else ""
    if not text:
        return []
    if "exceeded quota" in text or "maximum" in text or "minimum" in text:
        reason = QUOTA_EXCEEDED
    elif "violates PodSecurity" in text:
        reason = POD_SECURITY_VIOLATION
    else:
        reason = POD_CREATE_FAILED
    return [Verdict("", Stage.SCHEDULE, reason, scrub(text), failed=True)]


def _refusals(observed: Observed, revision: str) -> list[Verdict]:
    """Verdicts of pods that a node refused a short while ago."""
    since = observed.now - REFUSALS_COUNT_FOR
    return [
        judge(pod)
        for pod in observed.living()
        if pod.phase == "Failed" and pod.revision == revision and pod.created and pod.created >= since
    ]


def _endpoint(observed: Observed, answering: Sequence[PodView], wanted: int) -> Condition:
    if observed.model.name not in observed.services:
        return Condition(ENDPOINT_READY, "Unknown", PROGRESSING, "the Service is not there yet")
    if not answering:
        return Condition(ENDPOINT_READY, "False", PROGRESSING, f"0 of {wanted} pods behind the Service")
    return Condition(ENDPOINT_READY, "True", DONE, f"{len(answering)} pods behind the Service")


def _ready(
    blocked: Blocked | None,
    steps: Sequence[Condition],
    living: Sequence[PodView],
    newest: Sequence[PodView],
    *,
    wanted: int,
    suspended: bool,
) -> Condition:
    if blocked:
        return Condition(READY, "False", blocked.reason, blocked.message)
    if wanted == 0:
        return _at_rest(living, suspended=suspended)
    failing = next((one for one in steps if one.status == "False" and one.reason != PROGRESSING), None)
    if failing:
        return Condition(READY, "False", failing.reason, failing.message)
    behind = next((one for one in steps if one.status != "True"), None)
    if behind:
        return Condition(READY, "False", PROGRESSING, behind.message)
    old = len(living) - len(newest)
    if old:
        return Condition(READY, "False", PROGRESSING, f"{old} pods of older revisions are being replaced")
    if len(newest) > wanted:
        return Condition(
            READY, "False", PROGRESSING, f"{len(newest) - wanted} pods too many are being stopped"
        )
    return Condition(READY, "True", SERVING, f"{wanted} of {wanted} replicas serve the newest spec")


def _at_rest(living: Sequence[PodView], *, suspended: bool) -> Condition:
    """Ready at zero replicas: True, or tools that wait for Ready would wait for ever."""
    if living:
        return Condition(READY, "False", PROGRESSING, f"{len(living)} pods are being stopped")
    if suspended:
        return Condition(READY, "True", SUSPENDED, "suspended: no pod runs")
    return Condition(READY, "True", SCALED_TO_ZERO, "scaled to zero: no pod runs")


def _available(ready: Condition, answering: Sequence[PodView], living: Sequence[PodView]) -> Condition:
    if answering:
        text = f"{len(answering)} of {len(living)} running pods answer"
        return Condition(AVAILABLE, "True", AVAILABLE_REASON, text)
    return Condition(AVAILABLE, "False", ready.reason, ready.message)


def _kstatus(ready: Condition) -> list[Condition]:
    if ready.status == "True":
        return []
    kind = STALLED if ready.reason in STALLING_REASONS else RECONCILING
    return [Condition(kind, "True", ready.reason, ready.message)]


def _worst(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The failure to name: the earliest step; within it a stable choice, so that the status does not flap."""
    return min(verdicts, key=lambda one: (one.stage, one.reason, one.pod), default=None)
