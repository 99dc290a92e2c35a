"""The plan of a ModelDeployment: its children, and the records of its revisions. Pure."""

from __future__ import annotations

from functools import partial

from serval_operator.api.actions import Creation, Deletion, Patch
from serval_operator.api.conditions import Blocked, problem
from serval_operator.api.resources import CONTROLLER_REVISIONS, PODS, SERVICE_ACCOUNTS, Children
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
from serval_operator.kinds.model_deployment.service_account_policy import judge_service_account
from serval_operator.kinds.model_deployment.version_pin import pin_creation
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
        return Plan(partial(judge_unusable, unusable), apply=_halted(observed))
    decision = decide(
        observed,
        desired.workload,
        situation.answers,
        hide_foreign=situation.hide_foreign,
        crowd=situation.crowd,
    )
    asks = tuple(reporting(desired, observed))
    barred = _barred(situation, desired)
    if barred:
        judged = partial(judge, desired, decision, None)
        return Plan(judged, apply=_halted(observed), blocked=barred, asks=asks)
    kept = observed.revision(desired.revision)
    failure = failed_now(observed, desired.workload) if kept else None
    pin = pin_creation(desired, observed)
    return Plan(
        partial(judge, desired, decision, failure),
        apply=_children(observed, desired, decision),
        creations=(*_record(observed, desired), *([pin] if pin else [])),
        patches=(*_served(observed, desired), *_given_up(observed, desired, failure)),
        deletions=_deletions(observed, desired, decision),
        asks=asks,
    )


def _halted(observed: Observed) -> Children | None:
    """The Deployment without pods, where a spec asks for that though nothing else of it can be done."""
    model, held = observed.model, observed.deployment
    asked = model.spec.get("suspend") is True or model.spec.get("replicas") == 0
    kept = observed.revision(held.revision) if held else None
    return halted(model, held, kept) if asked and held and kept else None


def _barred(situation: Situation, desired: Desired) -> Blocked | None:
    """Why the pods of a new revision may not run as the ServiceAccount that the spec names.

    It is asked once, before the revision is recorded: what runs is not stopped by it.
    """
    name = desired.service_account
    if situation.observed.revision(desired.revision) or not name:
        return None
    account = situation.answers.account(name)
    if isinstance(account, KubeError):
        return problem(f"{SERVICE_ACCOUNTS.kind}/{name}", account)
    return judge_service_account(name, account)


def _children(observed: Observed, desired: Desired, decision: Decision) -> Children:
    rollout = decision.rollout
    return children(
        observed.model,
        desired,
        template=template_of(desired, rollout.revision, observed.revision(rollout.revision)),
        revision=rollout.revision,
        replicas=rollout.replicas,
        strategy=rollout.strategy,
        placeless=placeless_replicas(observed, desired.resolved.spec, rollout.replicas),
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
    )
