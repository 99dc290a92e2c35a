"""ModelDeployment: a model on replicas."""

from __future__ import annotations

from typing import Final

from serval_operator.api.resources import (
    AUTOSCALERS,
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    MODEL_DEPLOYMENTS,
    PODS,
    SERVICES,
)
from serval_operator.kinds.model_deployment.plan import plan
from serval_operator.kinds.model_deployment.status import CONDITIONS
from serval_operator.reconcile.kind import Kind

KIND: Final = Kind(
    resource=MODEL_DEPLOYMENTS,
    plan=plan,
    applies=(DEPLOYMENTS, SERVICES, AUTOSCALERS, DISRUPTION_BUDGETS),
    optional=(AUTOSCALERS, DISRUPTION_BUDGETS),
    watches=(CONTROLLER_REVISIONS, PODS),
    conditions=CONDITIONS,
)
