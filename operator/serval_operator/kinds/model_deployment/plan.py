"""The plan of a ModelDeployment: its children, and the records of its revisions. Pure."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from serval_operator.api.actions import Creation, Deletion, Patch
from serval_operator.api.blocks.rollout import IN_PLACE, REVERT, SURGE
from serval_operator.api.conditions import Blocked, problem
from serval_operator.api.resources import CONTROLLER_REVISIONS, PODS, SERVICE_ACCOUNTS, Children
from serval_operator.api.unstructured import mapping
from serval_operator.constants import (
    ANNOTATION_FAILED_MESSAGE,
    ANNOTATION_FAILED_REASON,
    ANNOTATION_SERVED,
)
from serval_operator.errors import InvalidSpec, KubeError
from serval_operator.kinds.model_deployment.desired import (
    Desired,
    children,
    compute_desired,
    halted,
    reporting,
    template_of,
)
from serval_operator.kinds.model_deployment.judge import judge, judge_unusable
from serval_operator.kinds.model_deployment.manifests.disruption import placeless_replicas
from serval_operator.kinds.model_deployment.manifests.revision import revision_record
from serval_operator.kinds.model_deployment.resolve import refused_priority
from serval_operator.kinds.model_deployment.service_account_policy import judge_service_account
from serval_operator.kinds.model_deployment.version_pin import compare_replicas, pin_creation, replaced
from serval_operator.pods.failed_pods import surplus_failed
from serval_operator.pods.observation import Observed
from serval_operator.reconcile.plan import Plan, Situation
from serval_operator.workload.revision_history import next_number, surplus
from serval_operator.workload.rollout import failed_now
from serval_operator.workload.rollout_decider import Decision, decide

TRUE = "true"


def plan(situation: Situation) -> Plan:
    """Plan one ModelDeployment.

    Raises
    ------
    Unanswered
        The capacity of the cluster or a ServiceAccount has to be known first.
    """
    observed = situation.observed
    try:
        desired = compute_desired(
            observed.model, situation.configuration, observed.revisions, situation.nodes
        )
    except InvalidSpec as error:
        unusable = Blocked(error.reason, error.message)
        judged = partial(judge_unusable, unusable)
        return Plan(judged, apply=_halted(observed), deletions=_failed_pods(observed))
    decision = decide(
        observed,
        desired.workload,
        situation.answers,
        hide_foreign=situation.hide_foreign,
        crowd=situation.crowd,
    )
    barred = _barred(situation, desired, decision)
    if barred:
        return _hold(observed, desired, decision, barred)
    return _bring_out(observed, desired, decision)


def _hold(observed: Observed, desired: Desired, decision: Decision, barred: Blocked) -> Plan:
    """The plan while the pods lack a permission: nothing new, and what runs stays or becomes less."""
    held = _held(observed, desired, decision)
    failure = _failure(observed, desired)
    return Plan(
        partial(judge, desired, held or decision, failure),
        apply=_children(observed, desired, held) if held else None,
        patches=_given_up(observed, desired, failure),
        deletions=_failed_pods(observed),
        blocked=barred,
        asks=tuple(reporting(desired, observed)),
    )


def _bring_out(observed: Observed, desired: Desired, decision: Decision) -> Plan:
    """The plan that brings out what the spec asks for, as far as the decision goes."""
    failure = _failure(observed, desired)
    agreement = compare_replicas(desired, observed)
    pin = pin_creation(desired, observed, agreement)
    return Plan(
        partial(judge, desired, decision, failure),
        apply=_children(observed, desired, decision),
        creations=(*_record(observed, desired), *([pin] if pin else [])),
        patches=(
            *_served(observed, desired),
            *_given_up(observed, desired, failure),
            *_tried_again(observed, desired),
        ),
        deletions=(
            *_deletions(observed, desired, decision),
            *replaced(desired, observed, agreement),
        ),
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

    Fewer pods need no permission, so the spec's number is obeyed where it is lower.
    """
    held = observed.deployment
    if held is None or observed.revision(held.revision) is None:
        return None
    rollout = replace(
        decision.rollout,
        revision=held.revision,
        replicas=min(held.replicas, desired.wanted),
        strategy=SURGE if held.surge else IN_PLACE,
    )
    return replace(decision, rollout=rollout)


def _children(observed: Observed, desired: Desired, decision: Decision) -> Children:
    rollout = decision.rollout
    return children(
        observed.model,
        desired,
        template=template_of(desired, observed.revision(rollout.revision)),
        revision=rollout.revision,
        replicas=rollout.replicas,
        strategy=rollout.strategy,
        placeless=placeless_replicas(observed, desired.spec, rollout.replicas),
    )


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
