"""The plan of a ModelDeployment. Pure."""

from __future__ import annotations

from functools import partial

from serval_operator.api.conditions import Blocked
from serval_operator.api.naming import Manifest
from serval_operator.api.resources import AUTOSCALERS, DISRUPTION_BUDGETS, SERVICES, Children, Resource
from serval_operator.errors import InvalidSpec
from serval_operator.kinds.model_deployment.desired import desired_of
from serval_operator.kinds.model_deployment.judge import judge
from serval_operator.kinds.model_deployment.manifests.autoscaler import autoscaler
from serval_operator.kinds.model_deployment.manifests.disruption import (
    disruption_budget,
    placeless_replicas,
)
from serval_operator.kinds.model_deployment.spec import ModelSpec, parse_spec
from serval_operator.kinds.model_deployment.version_pin import compare_replicas, pin_creation, replaced
from serval_operator.pods.observation import Observed
from serval_operator.reconcile.plan import Plan, Situation
from serval_operator.workload.judge import judge_unusable
from serval_operator.workload.manifests.service import headless_service, service
from serval_operator.workload.plan import Manner, plan_served, plan_unusable


def plan(situation: Situation) -> Plan:
    """Plan one ModelDeployment.

    Raises
    ------
    Unanswered
        The capacity of the cluster or a ServiceAccount has to be known first.
    """
    observed = situation.observed
    try:
        spec = parse_spec(observed.model.name, observed.model.spec)
        desired = desired_of(
            observed.model, spec, situation.configuration, observed.revisions, situation.nodes
        )
    except InvalidSpec as error:
        return plan_unusable(situation, partial(judge_unusable, Blocked(error.reason, error.message)))
    agreement = compare_replicas(desired, observed)
    pin = pin_creation(desired, observed, agreement)
    manner = Manner(
        judge=partial(judge, desired),
        beside=partial(_beside, observed, spec),
        creations=(pin,) if pin else (),
        deletions=replaced(desired, observed, agreement),
    )
    return plan_served(situation, desired, manner)


def _beside(observed: Observed, spec: ModelSpec, replicas: int) -> Children:
    """Whole manifests of the children beside the Deployment, in the order of their making."""
    model = observed.model
    made: list[tuple[Resource, Manifest]] = [
        (SERVICES, service(model)),
        (SERVICES, headless_service(model)),
    ]
    scaler = autoscaler(model, spec)
    budget = disruption_budget(model, spec, placeless_replicas(observed, spec, replicas))
    if scaler is not None:
        made.append((AUTOSCALERS, scaler))
    if budget is not None:
        made.append((DISRUPTION_BUDGETS, budget))
    return tuple(made)
