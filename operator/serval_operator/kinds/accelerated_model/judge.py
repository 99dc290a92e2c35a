"""The judgement of an AcceleratedModel: its conversion, its device, and what all served models have. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from serval_contract.devices import DEVICE_REASONS, EMULATOR
from serval_operator.api.conditions import Blocked, Condition, both
from serval_operator.api.facts import Facts
from serval_operator.api.judgement import Judgement, Status
from serval_operator.api.snapshots import OwnerView
from serval_operator.constants import (
    ACCELERATOR_AVAILABLE,
    ACCELERATOR_IN_USE,
    AVAILABLE,
    CONVERTED,
    DEVICE_PROGRAMMED,
    ENDPOINT_READY,
    EVENT_POD_MOVED,
    EVENT_RANDOM_WEIGHTS,
    MODEL_FETCHED,
    MODEL_LOADED,
    READY,
    RECONCILING,
    SCHEDULED,
    STALLED,
    UPDATE_AVAILABLE,
)
from serval_operator.conversion_reasons import EMULATED
from serval_operator.jobs.plan import JobsDecision
from serval_operator.kinds.accelerated_model.artifact import Made
from serval_operator.kinds.accelerated_model.spec import RANDOM, AcceleratedSpec
from serval_operator.pods.device_moves import MOVES
from serval_operator.pods.device_report import Answer
from serval_operator.pods.observation import Observed
from serval_operator.reasons import DONE, PROGRESSING
from serval_operator.reconcile.plan import Outcome
from serval_operator.workload.desired import Desired, running
from serval_operator.workload.device_care import Care
from serval_operator.workload.judge import judge_served, judge_unusable
from serval_operator.workload.readiness import Expected, assess
from serval_operator.workload.rollout_decider import Decision
from serval_operator.workload.status import addresses, build_status, service_host
from serval_operator.workload.turn_taking import kept_records

CONDITIONS: Final = (
    READY,
    AVAILABLE,
    CONVERTED,
    ACCELERATOR_AVAILABLE,
    SCHEDULED,
    MODEL_FETCHED,
    MODEL_LOADED,
    DEVICE_PROGRAMMED,
    ENDPOINT_READY,
    ACCELERATOR_IN_USE,
    UPDATE_AVAILABLE,
    RECONCILING,
    STALLED,
)
"""Types of the conditions of an AcceleratedModel, in their order."""
TOLD: Final = (CONVERTED, DEVICE_PROGRAMMED, ACCELERATOR_IN_USE, UPDATE_AVAILABLE)
"""Types of conditions beside `Ready` of which Events tell."""
RANDOM_WORDS: Final = "the weights are random, so the answers of the model mean nothing"
_KEPT: Final = ("jobs", "conversion", "weights", "device", "engine", MOVES)
"""Fields of the status that stay while the spec cannot be used."""
_DEVICE_WORDS: Final = re.compile(rf"\b({'|'.join(DEVICE_REASONS)}): ")


@dataclass(frozen=True, slots=True)
class Story:
    """How the artifact of the newest spec comes to be.

    Parameters
    ----------
    revision:
        Key of the revision that the newest spec asks for.
    made:
        The artifact; None until it is there.
    condition:
        Condition `Converted`.
    held_up:
        What keeps the artifact from being there.
    decision:
        About the Job; None if there is none to decide about.
    jobs:
        The whole of `status.jobs`.
    progress:
        Stage and percent of a conversion that runs, by field of `status.conversion`.
    """

    revision: str
    made: Made | None
    condition: Condition
    held_up: Blocked | None = None
    decision: JobsDecision | None = None
    jobs: Sequence[Mapping[str, Any]] = ()
    progress: Mapping[str, Any] = field(default_factory=dict)


def judge(
    spec: AcceleratedSpec,
    desired: Desired,
    story: Story,
    care: Care,
    decision: Decision,
    failure: Blocked | None,
    observed: Observed,
    outcome: Outcome,
) -> Judgement:
    """Judge an AcceleratedModel of which pods run, or may run.

    Parameters
    ----------
    desired:
        What should run now: what the newest spec asks for, or what runs until that is converted.
    care:
        What the plan does about pods that cannot use their devices.
    failure:
        Why the newest revision has failed for good, if the plan wrote that down.
    """
    observed = care.seen(observed)
    served = judge_served(
        desired,
        decision,
        failure,
        observed,
        outcome,
        endpoints=lambda _: endpoints(observed.model, desired),
        held_up=story.held_up,
        told=TOLD,
    )
    facts = running(desired, observed.revision(decision.rollout.revision))
    programmed = _programmed(desired, served, observed, outcome.devices)
    told = _told(spec, story, served, observed, facts, outcome.devices, programmed)
    return _cared(told, care)


def _cared(judged: Judgement, care: Care) -> Judgement:
    """A judgement with what is done about pods that cannot use their devices."""
    move = care.move
    warnings, status = judged.warnings, judged.status
    if move.pod is not None:
        warnings = (*warnings, (EVENT_POD_MOVED, care.faults[move.pod.uid].message))
    if move.record is not None:
        status = {**status, MOVES: move.record.as_json()}
    pauses = [pause for pause in (judged.again, move.again) if pause is not None]
    return replace(judged, status=status, warnings=warnings, again=min(pauses, default=None))


def judge_waiting(spec: AcceleratedSpec, story: Story, observed: Observed, outcome: Outcome) -> Judgement:
    """Judge an AcceleratedModel that has no pods yet, since its artifact is not there."""
    blocked = both(story.held_up, outcome.blocked)
    expected = Expected(wanted=spec.wanted_replicas, revision="", suspended=spec.suspend, blocked=blocked)
    readiness = assess(observed, expected)
    status = build_status(observed, readiness, spec, story.revision) | kept_records(observed.model)
    return _told(spec, story, Judgement(status, readiness.conditions), observed, None, {}, None)


def judge_refused(refused: Blocked, observed: Observed, outcome: Outcome) -> Judgement:
    """Judge an AcceleratedModel whose spec cannot be used."""
    found = judge_unusable(refused, observed, outcome)
    kept = {name: observed.model.status[name] for name in _KEPT if name in observed.model.status}
    return replace(found, status={**found.status, **kept}, told=TOLD)


def endpoints(owner: OwnerView, desired: Desired) -> dict[str, str]:
    """`status.endpoints`: the scoring address is one that Azure ML's clients take apart, without a path."""
    return {**addresses(owner, desired.model), "scoring": f"http://{service_host(owner)}/"}


def _told(
    spec: AcceleratedSpec,
    story: Story,
    judged: Judgement,
    observed: Observed,
    facts: Facts | None,
    devices: Mapping[str, Answer],
    programmed: Condition | None,
) -> Judgement:
    """A judgement with what is an AcceleratedModel's own."""
    random = spec.weights == RANDOM
    status: Status = {**judged.status, "revision": story.revision}
    if story.made is None:
        # What runs is of an older revision.
        status["updatedReplicas"] = 0
    optional = {
        "conversion": _conversion(story),
        "weights": RANDOM if random else "",
        "device": facts.placement.accelerator if facts else "",
        "engine": _engine(facts, devices),
        "jobs": [dict(one) for one in story.jobs],
    }
    status |= {name: value for name, value in optional.items() if value}
    pauses = [judged.again, story.decision.again if story.decision else None]
    news = random and observed.model.status.get("weights") != RANDOM
    return replace(
        judged,
        status=status,
        conditions=(*judged.conditions, story.condition, *([programmed] if programmed else [])),
        told=TOLD,
        warnings=((EVENT_RANDOM_WEIGHTS, RANDOM_WORDS),) if news else (),
        again=min((pause for pause in pauses if pause is not None), default=None),
    )


def _conversion(story: Story) -> dict[str, Any]:
    if story.made is None:
        return dict(story.progress)
    return {"artifact": story.made.uri, **story.made.report}


def _engine(facts: Facts | None, devices: Mapping[str, Answer]) -> str:
    """What runs the device: as the pods report it, else as the profile said when their revision was made."""
    told = (one.report.engine for one in devices.values() if one.report)
    known = str(facts.own.get("engine") or "") if facts else ""
    return next((engine for engine in told if engine), known)


def _programmed(
    desired: Desired, judged: Judgement, observed: Observed, devices: Mapping[str, Answer]
) -> Condition | None:
    """Condition `DeviceProgrammed`; None where no pod of the newest spec is to run."""
    loaded = judged.condition(MODEL_LOADED)
    if loaded is None:
        return None
    ready = [pod for pod in observed.newest(desired.revision) if pod.ready]
    count = f"{len(ready)} of {desired.wanted} pods"
    if loaded.status == "True":
        emulated = any(one.report and one.report.emulated for one in devices.values())
        if emulated or _engine(desired.facts, devices) == EMULATOR:
            text = f"{count} run the model in an emulator; no device is programmed"
            return Condition(DEVICE_PROGRAMMED, "True", EMULATED, text)
        return Condition(DEVICE_PROGRAMMED, "True", DONE, f"{count} programmed their devices")
    if loaded.status == "False" and loaded.reason != PROGRESSING:
        words = _DEVICE_WORDS.search(loaded.message)
        reason = words[1] if words else loaded.reason
        return Condition(DEVICE_PROGRAMMED, "False", reason, loaded.message)
    return Condition(DEVICE_PROGRAMMED, "Unknown", PROGRESSING, f"{count} programmed their devices")
