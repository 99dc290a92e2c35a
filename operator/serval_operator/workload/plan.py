"""The plan of an object that serves a model: its children, and the records of its revisions. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from serval_operator.api.actions import Creation, Deletion, Patch
from serval_operator.api.blocks.rollout import IN_PLACE, REVERT, SURGE
from serval_operator.api.conditions import Blocked, problem
from serval_operator.api.judgement import Judgement
from serval_operator.api.resources import CONTROLLER_REVISIONS, DEPLOYMENTS, PODS, SERVICE_ACCOUNTS, Children
from serval_operator.api.unstructured import mapping
from serval_operator.constants import (
    ANNOTATION_FAILED_MESSAGE,
    ANNOTATION_FAILED_REASON,
    ANNOTATION_SERVED,
)
from serval_operator.errors import KubeError
from serval_operator.pods.failed_pods import surplus_failed
from serval_operator.pods.observation import Observed
from serval_operator.reconcile.plan import Outcome, Plan, Situation
from serval_operator.workload.desired import (
    Desired,
    halted,
    reporting,
    template_of,
)
from serval_operator.workload.manifests.deployment import deployment
from serval_operator.workload.manifests.revision import revision_record
from serval_operator.workload.resolve import refused_priority
from serval_operator.workload.revision_history import next_number, surplus
from serval_operator.workload.rollout import failed_now
from serval_operator.workload.rollout_decider import Decision, decide
from serval_operator.workload.service_account_policy import judge_service_account

TRUE = "true"
Judge = Callable[[Observed, Outcome], Judgement]


@dataclass(frozen=True, slots=True)
class Manner:
    """What a kind adds to the plan of what it serves.

    Parameters
    ----------
    judge:
        Judges the object after its plan was carried out. It also takes the decision, and why the newest
        revision has failed for good, if the plan wrote that down.
    beside:
        Children beside the Deployment, for its number of pods.
    creations, deletions:
        What else is sent, unless the pods lack a permission.
    """

    judge: Callable[[Decision, Blocked | None, Observed, Outcome], Judgement]
    beside: Callable[[int], Children]
    creations: tuple[Creation, ...] = ()
    deletions: tuple[Deletion, ...] = ()


def plan_unusable(situation: Situation, judge: Judge) -> Plan:
    """Plan an object whose spec cannot be used: nothing new, and what runs stays, unless it is to stop.

    Parameters
    ----------
    judge:
        Judges it afterwards.
    """
    observed = situation.observed
    return Plan(judge, apply=_halted(observed), deletions=_failed_pods(observed))


def plan_served(situation: Situation, desired: Desired, manner: Manner) -> Plan:
    """Plan the pods, and what belongs to them.

    Raises
    ------
    Unanswered
        The capacity of the cluster or a ServiceAccount has to be known first.
    """
    decision = decide(
        situation.observed,
        desired.workload,
        situation.answers,
        hide_foreign=situation.hide_foreign,
        crowd=situation.crowd,
    )
    barred = _barred(situation, desired, decision)
    if barred:
        return _hold(situation.observed, desired, decision, barred, manner)
    return _bring_out(situation.observed, desired, decision, manner)


def _hold(observed: Observed, desired: Desired, decision: Decision, barred: Blocked, manner: Manner) -> Plan:
    """The plan while the pods lack a permission: nothing new, and what runs stays or becomes less."""
    held = _held(observed, desired, decision)
    failure = _failure(observed, desired)
    return Plan(
        partial(manner.judge, held or decision, failure),
        apply=_children(observed, desired, held, manner) if held else None,
        patches=_given_up(observed, desired, failure),
        deletions=_failed_pods(observed),
        blocked=barred,
        asks=tuple(reporting(desired, observed)),
    )


def _bring_out(observed: Observed, desired: Desired, decision: Decision, manner: Manner) -> Plan:
    """The plan that brings out what the spec asks for, as far as the decision goes."""
    failure = _failure(observed, desired)
    return Plan(
        partial(manner.judge, decision, failure),
        apply=_children(observed, desired, decision, manner),
        creations=(*_record(observed, desired), *manner.creations),
        patches=(
            *_served(observed, desired),
            *_given_up(observed, desired, failure),
            *_tried_again(observed, desired),
        ),
        deletions=(*_deletions(observed, desired, decision), *manner.deletions),
        asks=tuple(reporting(desired, observed)),
    )


def _failure(observed: Observed, desired: Desired) -> Blocked | None:
    """Why the newest revision failed for good now, if it is recorded, so that this can be written down."""
    return failed_now(observed, desired.workload) if observed.revision(desired.revision) else None


def _halted(observed: Observed) -> Children | None:
    """The Deployment without pods, where a spec asks for that though nothing else of it can be done."""
    model, held = observed.model, observed.deployment
    asked = model.spec.get("suspend") is True or model.spec.get("replicas") == 0
    kept = observed.revision(held.revision) if held else None
    return halted(model, held, kept) if asked and held and kept else None


def _barred(situation: Situation, desired: Desired, decision: Decision) -> Blocked | None:
    """Why the Deployment may not get another revision, or more pods, as it would by the plan.

    What the pods need permission for is in the template that is about to be carried, recorded or new. It is
    asked for at each such change, so a permission that was taken back holds from then on. Otherwise nothing
    is asked, and what runs is not stopped by it.
    """
    observed, rollout = situation.observed, decision.rollout
    held = observed.deployment
    if held and held.revision == rollout.revision and held.replicas >= rollout.replicas:
        return None
    spec = mapping(template_of(desired, observed.revision(rollout.revision)), "spec")
    refused = refused_priority(str(spec.get("priorityClassName") or ""), situation.configuration)
    name = str(spec.get("serviceAccountName") or "")
    if refused or not name:
        return refused
    account = situation.answers.account(name)
    if isinstance(account, KubeError):
        return problem(f"{SERVICE_ACCOUNTS.kind}/{name}", account)
    return judge_service_account(name, account)


def _held(observed: Observed, desired: Desired, decision: Decision) -> Decision | None:
    """The decision to keep the Deployment's revision with no more pods than it has; None without one.

    Fewer pods need no permission, so the spec's number is obeyed where it is lower. For the same reason, an
    object whose place was taken stops its pods.
    """
    held = observed.deployment
    if held is None or observed.revision(held.revision) is None:
        return None
    rollout = replace(
        decision.rollout,
        revision=held.revision,
        replicas=0 if decision.is_replaced else min(held.replicas, desired.wanted),
        strategy=SURGE if held.surge else IN_PLACE,
    )
    return replace(decision, rollout=rollout)


def _children(observed: Observed, desired: Desired, decision: Decision, manner: Manner) -> Children:
    rollout = decision.rollout
    manifest = deployment(
        observed.model,
        template=template_of(desired, observed.revision(rollout.revision)),
        revision=rollout.revision,
        replicas=rollout.replicas,
        strategy=rollout.strategy,
        rollout=desired.spec.rollout,
    )
    return ((DEPLOYMENTS, manifest), *manner.beside(rollout.replicas))


def _record(observed: Observed, desired: Desired) -> tuple[Creation, ...]:
    """The record of the newest revision, unless there is one."""
    if observed.revision(desired.revision):
        return ()
    record = revision_record(
        observed.model,
        key=desired.revision,
        template=desired.template,
        facts=desired.facts,
        number=next_number(observed.revisions),
    )
    return (Creation(CONTROLLER_REVISIONS, record),)


def _served(observed: Observed, desired: Desired) -> tuple[Patch, ...]:
    """Mark the revision that served until a new one came, so that it can be gone back to."""
    if observed.revision(desired.revision):
        return ()
    serving = observed.revision(str(observed.model.status.get("servingRevision") or ""))
    if serving is None or serving.served:
        return ()
    return (Patch(CONTROLLER_REVISIONS, serving, {"metadata": {"annotations": {ANNOTATION_SERVED: TRUE}}}),)


def _given_up(observed: Observed, desired: Desired, failure: Blocked | None) -> tuple[Patch, ...]:
    """Write down why a revision failed for good, so that it is not tried again."""
    kept = observed.revision(desired.revision)
    if kept is None or failure is None:
        return ()
    said = {ANNOTATION_FAILED_REASON: failure.reason, ANNOTATION_FAILED_MESSAGE: failure.message}
    return (Patch(CONTROLLER_REVISIONS, kept, {"metadata": {"annotations": said}}),)


def _tried_again(observed: Observed, desired: Desired) -> tuple[Patch, ...]:
    """Take the mark of a failure off every revision that is not, or no longer, gone back from.

    A mark holds only for the newest revision, while a failure is gone back from. So a spec that failed is
    tried again when it is applied after another one, and scaling alone tries nothing again.
    """
    reverts = desired.spec.rollout.on_failure == REVERT
    unmark = {"metadata": {"annotations": {ANNOTATION_FAILED_REASON: None, ANNOTATION_FAILED_MESSAGE: None}}}
    return tuple(
        Patch(CONTROLLER_REVISIONS, one, unmark)
        for one in observed.revisions
        if one.failed_reason and not (reverts and one.key == desired.revision)
    )


def _deletions(observed: Observed, desired: Desired, decision: Decision) -> tuple[Deletion, ...]:
    """Revisions beyond the history, and dead pods that tell nothing any more."""
    in_use = {desired.revision, decision.rollout.revision}
    in_use.add(str(observed.model.status.get("servingRevision") or ""))
    in_use |= {pod.revision for pod in observed.pods}
    if observed.deployment:
        in_use.add(observed.deployment.revision)
    old = surplus(observed.revisions, in_use=in_use)
    return (
        *(Deletion(CONTROLLER_REVISIONS, record) for record in old),
        *(Deletion(PODS, pod) for pod in decision.damping.trim),
        *_failed_pods(observed),
    )


def _failed_pods(observed: Observed) -> tuple[Deletion, ...]:
    """Pods that failed as a whole, beyond those that stay for a reader."""
    return tuple(Deletion(PODS, pod) for pod in surplus_failed(observed))
