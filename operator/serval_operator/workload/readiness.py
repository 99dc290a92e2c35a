"""Conditions and counts of a ModelDeployment out of one observation: what the user reads.

`Ready` carries the reason of the first step that fails, in the order in which a model comes to serve: spec,
children, scheduling, fetch, load, endpoint. Pods of the newest revision decide; of those, the worst does.
A pod that its node refused explains its successor until a node has taken that one or something else holds it
up: so a refusal that healed leaves no trace, and one that repeats at once does not flicker.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from serval_operator.api.conditions import Blocked, Condition
from serval_operator.api.resources import SERVICES
from serval_operator.api.snapshots import PodView
from serval_operator.api.text import scrub
from serval_operator.constants import (
    ACCELERATOR_AVAILABLE,
    ACCELERATOR_IN_USE,
    AVAILABLE,
    ENDPOINT_READY,
    MODEL_FETCHED,
    MODEL_LOADED,
    READY,
    RECONCILING,
    SCHEDULED,
    STALLED,
    UPDATE_AVAILABLE,
)
from serval_operator.pods.observation import Observed
from serval_operator.pods.pod_state import Stage, Verdict, is_accepted
from serval_operator.pods.quota_words import quota_cure
from serval_operator.reasons import (
    AVAILABLE_REASON,
    CREDENTIALS_NOT_FOUND,
    DONE,
    MODEL_VERSION_SKEW,
    POD_CREATE_FAILED,
    POD_SECURITY_VIOLATION,
    PROGRESSING,
    QUOTA_EXCEEDED,
    ROLLOUT_PAUSED,
    RUNTIME_CHANGED,
    SCALED_TO_ZERO,
    SERVING,
    STALLING_REASONS,
    START_DEADLINE_EXCEEDED,
    SUSPENDED,
    UNSCHEDULABLE,
    VOLUME_FAILED,
)

REFUSALS_COUNT_FOR = timedelta(seconds=90)
"""How long a refused pod explains why its successor is not running yet."""

WAIT_CREATE = "the pods are being created"
WAIT_ROOM = "waiting for the place of a pod that is stopped for it"
WAIT_EARLIER = "earlier steps are not complete"
OUTDATED = (
    "the operator or its configuration would create other pods today; to roll them out, give "
    "`spec.rollout.trigger` a new value"
)
NOT_RENDERED = "the pods stay as their revision recorded them, and a change of them cannot be rolled out"

_FORBIDDEN_POD = re.compile(r'^pods "[^"]*" is forbidden: ')
"""Begins the API server's refusals; the pod's name in it is another one at each attempt."""
_QUOTA_WORDS = ("quota", "maximum ", "minimum ", "max limit to request ratio")
"""Of ResourceQuota and LimitRange."""
_STEPS = ((SCHEDULED, Stage.SCHEDULE), (MODEL_FETCHED, Stage.FETCH), (MODEL_LOADED, Stage.LOAD))


@dataclass(frozen=True, slots=True)
class Readiness:
    """The judgement: conditions, counts, and the newest failure with a time (None where there is none)."""

    conditions: tuple[Condition, ...]
    replicas: int
    ready_replicas: int
    updated_replicas: int
    failure: Verdict | None

    @property
    def ready(self) -> Condition:
        """The `Ready` condition."""
        return self.conditions[0]

    @property
    def in_use(self) -> Condition | None:
        """The condition `AcceleratorInUse`, where there is one."""
        return next((one for one in self.conditions if one.type == ACCELERATOR_IN_USE), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What should be, and what is known beside the observation.

    Parameters
    ----------
    wanted:
        Pods that should run.
    revision:
        Name of the newest revision; empty when the spec gives none.
    blocked:
        Why the children could not be made, if so. Pods that run keep serving and keep being counted.
    in_place:
        Whether a new pod takes the place of an old one, which is stopped for it.
    accelerator:
        What is known of the devices that the pods ask for; None where they ask for none.
    deadline:
        Seconds from its scheduling on within which a pod should have answered, where one did not; else None.
    credentials:
        Name of the Secret with the credentials of the model's store; empty for none.
    outdated:
        Whether the operator would render other pods today than those of the newest revision.
    unavailable:
        Why the operator could not render the pods of the newest revision today; None where it can. The pods
        that run do not need it.
    in_use:
        Whether the model runs on the devices that its pods hold; None where there is nothing to say. It does
        not affect `Ready`: a model that fell back to the CPU answers correctly, but later. Were it not
        ready, rollouts and `helm --wait` would wait for what no waiting cures.
    skewed:
        What to say of pods that fetched another model than their revision serves, by uid. They do not count
        as pods that serve the newest spec.
    """

    wanted: int
    revision: str
    suspended: bool
    blocked: Blocked | None
    in_place: bool = False
    accelerator: Condition | None = None
    deadline: int | None = None
    credentials: str = ""
    outdated: bool = False
    unavailable: Blocked | None = None
    in_use: Condition | None = None
    skewed: Mapping[str, str] = field(default_factory=dict)


def assess(observed: Observed, expected: Expected) -> Readiness:
    """Judge an observation."""
    wanted, blocked = expected.wanted, expected.blocked
    living = observed.active()
    newest = observed.newest(expected.revision)
    answering = [pod for pod in living if pod.ready]
    verdicts = _verdicts(observed, newest, expected)
    steps = _steps(observed, verdicts, newest, wanted, expected.revision)
    if expected.deadline is not None:
        steps = [_late(step, expected.deadline) for step in steps]
    endpoint = _endpoint(observed, answering, wanted)
    first = [expected.accelerator] if expected.accelerator and wanted > 0 else []
    ready = _ready(
        blocked,
        [*first, *steps, endpoint],
        living,
        newest,
        wanted=wanted,
        suspended=expected.suspended,
        paused=_paused(observed),
    )
    conditions = [ready, _available(ready, answering, living), *first]
    if blocked is None and wanted > 0:
        conditions += [*steps, endpoint, *([expected.in_use] if expected.in_use else [])]
    return Readiness(
        conditions=(*conditions, *_update_available(expected), *_kstatus(ready, blocked)),
        replicas=len(living),
        ready_replicas=len(answering),
        updated_replicas=len(newest),
        failure=_newest([*verdicts, *_refusals(observed, expected.revision)]),
    )


def _verdicts(observed: Observed, newest: Sequence[PodView], expected: Expected) -> list[Verdict]:
    """Verdicts of the pods of the newest revision, with what only their owner knows of them."""
    verdicts = [_missing_secret(observed.verdict(pod), expected.credentials) for pod in newest]
    verdicts = [_skewed(verdict, pod, expected.skewed) for verdict, pod in zip(verdicts, newest, strict=True)]
    if is_patient(observed, wanted=expected.wanted, in_place=expected.in_place):
        verdicts = [_patient(verdict) for verdict in verdicts]
    return verdicts


def _update_available(expected: Expected) -> list[Condition]:
    if expected.unavailable:
        text = f"{expected.unavailable.message}; {NOT_RENDERED}"
        return [Condition(UPDATE_AVAILABLE, "False", expected.unavailable.reason, text)]
    if expected.outdated:
        return [Condition(UPDATE_AVAILABLE, "True", RUNTIME_CHANGED, OUTDATED)]
    return []


def is_patient(observed: Observed, *, wanted: int, in_place: bool) -> bool:
    """Whether a pod without a place may hope for that of one that is stopped for it."""
    living = len(observed.active())
    return observed.making_room or (in_place and living > wanted and not _paused(observed))


def _missing_secret(verdict: Verdict, credentials: str) -> Verdict:
    """Name the missing Secret with credentials as the reason of a volume that cannot be mounted."""
    if verdict.reason != VOLUME_FAILED or not credentials or f'secret "{credentials}"' not in verdict.message:
        return verdict
    return replace(verdict, reason=CREDENTIALS_NOT_FOUND)


def _skewed(verdict: Verdict, pod: PodView, skewed: Mapping[str, str]) -> Verdict:
    """A pod with another model than its revision's has not fetched the model, whatever it answers."""
    if pod.uid not in skewed:
        return verdict
    ended = pod.fetch.terminated if pod.fetch else None
    when = ended.finished if ended else None
    return Verdict(pod.name, Stage.FETCH, MODEL_VERSION_SKEW, skewed[pod.uid], failed=True, when=when)


def _late(step: Condition, deadline: int) -> Condition:
    """Report a step that is longer than the deadline. A named failure tells more than the deadline.

    Waiting for a place does not count: the deadline begins when a node has taken the pod.
    """
    if step.reason != PROGRESSING or step.type == SCHEDULED or WAIT_EARLIER in step.message:
        return step
    text = f"{step.message}, for more than {deadline} s since a node took the pod"
    return Condition(step.type, "False", START_DEADLINE_EXCEEDED, text)


def _patient(verdict: Verdict) -> Verdict:
    """Report waiting for a predecessor's place as progress, not as a failure."""
    if verdict.reason != UNSCHEDULABLE:
        return verdict
    return replace(verdict, reason=PROGRESSING, message=f"{WAIT_ROOM}: {verdict.message}", failed=False)


def _steps(
    observed: Observed, verdicts: Sequence[Verdict], newest: Sequence[PodView], wanted: int, revision: str
) -> list[Condition]:
    """Scheduled, ModelFetched and ModelLoaded over the pods of the newest revision."""
    missing = max(wanted - len(newest), 0)
    explained = sum(is_accepted(pod) or verdict.failed for pod, verdict in zip(newest, verdicts, strict=True))
    refused = _refusals(observed, revision)[: max(wanted - explained, 0)]
    conditions = []
    for kind, stage in _STEPS:
        passed = sum(one.stage > stage for one in verdicts)
        here = [one for one in verdicts if one.stage == stage]
        if stage is Stage.SCHEDULE:
            here += [*refused, *_uncreated(observed, missing)]
        worst = _worst([one for one in here if one.failed])
        if passed >= wanted and not refused:
            conditions.append(Condition(kind, "True", DONE, f"{passed} of {wanted} pods"))
        elif worst:
            count = sum(one.reason == worst.reason for one in here)
            text = f"{min(count, wanted)} of {wanted} pods: {worst.message}"
            conditions.append(Condition(kind, "False", worst.reason, text))
        else:
            idle = WAIT_CREATE if stage is Stage.SCHEDULE else WAIT_EARLIER
            doing = min((one.message for one in here), default=idle)
            conditions.append(Condition(kind, "Unknown", PROGRESSING, f"{passed} of {wanted} pods; {doing}"))
    return conditions


def _uncreated(observed: Observed, missing: int) -> list[Verdict]:
    """Pods that the cluster refuses to create, as verdicts."""
    text = observed.deployment.create_failure if observed.deployment else ""
    if not text:
        paused = _paused(observed)
        return [Verdict("", Stage.SCHEDULE, ROLLOUT_PAUSED, paused, failed=True)] * missing if paused else []
    if "violates PodSecurity" in text:
        reason = POD_SECURITY_VIOLATION
    elif any(word in text for word in _QUOTA_WORDS):
        reason = QUOTA_EXCEEDED
    else:
        reason = POD_CREATE_FAILED
    words = _FORBIDDEN_POD.sub("", text)
    cure = quota_cure(words) if reason == QUOTA_EXCEEDED else ""
    told = scrub(f"{words}: {cure}" if cure else words)
    return [Verdict("", Stage.SCHEDULE, reason, told, failed=True)] * missing


def _paused(observed: Observed) -> str:
    """What to say of a Deployment that a user paused; empty if it is not.

    `spec.paused` is not a field of ours, so no apply takes it back: a user who pauses a rollout means it.
    """
    deployment = observed.deployment
    if deployment is None or not deployment.paused:
        return ""
    name = f"{deployment.namespace} rollout resume deployment/{deployment.name}"
    return f"Deployment/{deployment.name} is paused, so nothing is rolled out; resume it: `kubectl -n {name}`"


def _refusals(observed: Observed, revision: str) -> list[Verdict]:
    """Verdicts of pods that a node refused or gave up a short while ago, the newest first."""
    since = observed.now - REFUSALS_COUNT_FOR
    dead = (pod for pod in observed.living() if pod.ended and pod.revision == revision)
    failed = [observed.verdict(pod) for pod in dead]
    recent = [(one.when, one.pod, one) for one in failed if one.when and one.when >= since]
    return [one for _, _, one in sorted(recent, key=lambda entry: entry[:2], reverse=True)]


def _endpoint(observed: Observed, answering: Sequence[PodView], wanted: int) -> Condition:
    if observed.child(SERVICES, observed.model.name) is None:
        return Condition(ENDPOINT_READY, "Unknown", PROGRESSING, "the Service is not there yet")
    if not answering:
        return Condition(ENDPOINT_READY, "False", PROGRESSING, f"0 of {wanted} pods behind the Service")
    return Condition(ENDPOINT_READY, "True", DONE, f"{_pods(len(answering))} behind the Service")


def _ready(
    blocked: Blocked | None,
    steps: Sequence[Condition],
    living: Sequence[PodView],
    newest: Sequence[PodView],
    *,
    wanted: int,
    suspended: bool,
    paused: str,
) -> Condition:
    if blocked:
        return Condition(READY, "False", blocked.reason, blocked.message)
    if wanted == 0:
        return _at_rest(living, suspended=suspended)
    failing = next((one for one in steps if one.status == "False" and one.reason != PROGRESSING), None)
    if failing:
        return Condition(READY, "False", failing.reason, failing.message)
    # That devices are not handed out yet says less than what `Scheduled` says of the same pods.
    tells = (one for one in steps if (one.type, one.reason) != (ACCELERATOR_AVAILABLE, PROGRESSING))
    behind = next((one for one in tells if one.status != "True"), None)
    if behind:
        return Condition(READY, "False", PROGRESSING, behind.message)
    old = len(living) - len(newest)
    if old:
        text = f"replacing {_pods(old)} of older revisions"
        if paused:
            return Condition(READY, "False", ROLLOUT_PAUSED, f"{text}: {paused}")
        return Condition(READY, "False", PROGRESSING, text)
    if len(newest) > wanted:
        surplus = len(newest) - wanted
        return Condition(READY, "False", PROGRESSING, f"stopping {_pods(surplus)} too many")
    return Condition(READY, "True", SERVING, f"{wanted} of {wanted} replicas serve the newest spec")


def _at_rest(living: Sequence[PodView], *, suspended: bool) -> Condition:
    """Ready at zero replicas: True, because tools that wait for Ready would never return otherwise."""
    if living:
        return Condition(READY, "False", PROGRESSING, f"stopping {_pods(len(living))}")
    if suspended:
        return Condition(READY, "True", SUSPENDED, "suspended: no pod runs")
    return Condition(READY, "True", SCALED_TO_ZERO, "scaled to zero: no pod runs")


def _available(ready: Condition, answering: Sequence[PodView], living: Sequence[PodView]) -> Condition:
    if answering:
        text = f"{len(answering)} of {len(living)} pods answer"
        return Condition(AVAILABLE, "True", AVAILABLE_REASON, text)
    return Condition(AVAILABLE, "False", ready.reason, ready.message)


def _kstatus(ready: Condition, blocked: Blocked | None) -> list[Condition]:
    if ready.status == "True":
        return []
    stalled = ready.reason in STALLING_REASONS or (blocked is not None and blocked.final)
    kind = STALLED if stalled else RECONCILING
    return [Condition(kind, "True", ready.reason, ready.message)]


def _pods(number: int) -> str:
    return "1 pod" if number == 1 else f"{number} pods"


def _worst(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The failure to name: the earliest step; within it a choice by the failure, not by the pod.

    Pods come and go, and the status should not change with their names.
    """
    return min(verdicts, key=lambda one: (one.stage, one.reason, one.message, one.pod), default=None)


def _newest(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The failure that happened last, of those whose time is known."""
    dated = [(one.when, one.pod, one) for one in verdicts if one.failed and one.when]
    return max(dated, key=lambda entry: entry[:2])[2] if dated else None
