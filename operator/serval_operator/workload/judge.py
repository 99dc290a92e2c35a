"""The judgement of what serves a model: readiness and status out of one observation. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serval_operator.api.conditions import Blocked, Condition, both
from serval_operator.api.facts import Facts
from serval_operator.api.judgement import Judgement
from serval_operator.api.resources import CONTROLLER_REVISIONS
from serval_operator.constants import ACCELERATOR_IN_USE, UPDATE_AVAILABLE
from serval_operator.pods.device_report import in_use_condition
from serval_operator.pods.observation import Observed
from serval_operator.pods.start_deadline import overdue
from serval_operator.reconcile.plan import Outcome
from serval_operator.workload.accelerator_status import (
    accelerator_condition,
    accelerator_status,
    volatile_fields,
)
from serval_operator.workload.desired import Desired, outdated, reporting, running
from serval_operator.workload.readiness import Expected, Readiness, assess
from serval_operator.workload.rollout_decider import Decision
from serval_operator.workload.status import Served, build_status
from serval_operator.workload.turn_taking import kept_records

TOLD = (ACCELERATOR_IN_USE, UPDATE_AVAILABLE)
"""Types of conditions beside `Ready` of which Events tell."""


def judge_unusable(unusable: Blocked, observed: Observed, outcome: Outcome) -> Judgement:
    """Judge an object whose spec cannot be used, though it may still ask for a stop."""
    blocked = both(unusable, outcome.blocked)
    readiness = assess(observed, Expected(wanted=0, revision="", suspended=False, blocked=blocked))
    status = build_status(observed, readiness, None, "") | kept_records(observed.model)
    return Judgement(status, readiness.conditions, told=TOLD)


def judge_served(
    desired: Desired,
    decision: Decision,
    failure: Blocked | None,
    observed: Observed,
    outcome: Outcome,
    *,
    endpoints: Callable[[Facts], Mapping[str, str]],
    skewed: Mapping[str, str] | None = None,
    pinned: bool = False,
    held_up: Blocked | None = None,
    told: tuple[str, ...] = TOLD,
) -> Judgement:
    """Judge an object after its plan was carried out.

    Parameters
    ----------
    failure:
        Why the newest revision has failed for good, if the plan wrote that down.
    endpoints:
        Addresses of the model, for pods of which these facts are known.
    skewed:
        What to say of pods that fetched another model than their revision serves, by uid.
    pinned:
        Whether replicas to come are bound to the version that the first one found.
    held_up:
        What must come first, so that these are not the pods that the newest spec asks for.
    told:
        Types of conditions beside `Ready` of which Events tell.
    """
    skewed = skewed or {}
    late, due = overdue(observed, desired.revision, desired.workload.deadline_seconds)
    blocked = outcome.blocked or held_up or decision.rollout.blocked
    readiness = _readiness(desired, decision, observed, outcome, blocked=blocked, late=late, skewed=skewed)
    carried = decision.rollout.revision
    facts = running(desired, observed.revision(carried))
    status = build_status(
        observed,
        readiness,
        desired.spec,
        desired.revision,
        served=Served(desired.model, endpoints(facts), facts),
        carried=carried,
        strategy=decision.rollout.strategy,
        accelerator=accelerator_status(desired.placement, decision.verdict, lacking=decision.lacking),
        pinned=pinned,
        skewed=skewed,
    )
    kept = observed.revision(desired.revision)
    gave_up = failure is not None and kept is not None and outcome.did(CONTROLLER_REVISIONS, kept.name)
    # What was given up is gone back from at once.
    pauses = [decision.again, due, 0.0 if gave_up else None]
    return Judgement(
        {**status, **decision.records},
        readiness.conditions,
        told=told,
        volatile=volatile_fields(status),
        again=min((pause for pause in pauses if pause is not None), default=None),
    )


def _readiness(
    desired: Desired,
    decision: Decision,
    observed: Observed,
    outcome: Outcome,
    *,
    blocked: Blocked | None,
    late: bool,
    skewed: Mapping[str, str],
) -> Readiness:
    return assess(
        observed,
        Expected(
            wanted=desired.wanted,
            revision=desired.revision,
            suspended=desired.spec.suspend,
            blocked=blocked,
            in_place=decision.in_place,
            accelerator=accelerator_condition(
                observed,
                desired.placement,
                decision.verdict,
                revision=desired.revision,
                wanted=desired.wanted,
            ),
            deadline=desired.workload.deadline_seconds if late else None,
            credentials=desired.credentials,
            outdated=outdated(desired, observed.revision(desired.revision)),
            unavailable=desired.unavailable,
            skewed=skewed,
            in_use=_in_use(desired, observed, outcome),
        ),
    )


def _in_use(desired: Desired, observed: Observed, outcome: Outcome) -> Condition | None:
    """Condition `AcceleratorInUse`, as far as pods said what they run on."""
    pods = reporting(desired, observed)
    ready = [pod for pod in pods if pod.ready and pod.uid in outcome.devices]
    return in_use_condition(observed.model, ready, outcome.devices, desired.placement)
