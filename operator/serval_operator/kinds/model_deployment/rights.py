"""Rights that ModelDeployments need, beside those on the custom resource itself."""

from __future__ import annotations

from typing import Final

from serval_operator.api.resources import (
    AUTOSCALERS,
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from serval_operator.api.rights import APPLIED, Right, applied_rights
from serval_operator.constants import LABEL_ALLOWED
from serval_operator.kinds.model_deployment.reconciler import OPTIONAL, OWNS

RIGHTS: Final = (
    *applied_rights(
        OWNS,
        OPTIONAL,
        {
            DEPLOYMENTS: "A Deployment runs the pods of a ModelDeployment.",
            SERVICES: "Services are the endpoints of a ModelDeployment.",
            AUTOSCALERS: "`spec.autoscaling` asks for one; it is deleted when the spec no longer does.",
            DISRUPTION_BUDGETS: "`spec.disruption` asks for one; it is deleted when the spec no longer does.",
        },
    ),
    Right(
        CONTROLLER_REVISIONS,
        (*APPLIED, "delete"),
        "They are the history of pod templates. The oldest are deleted.",
    ),
    Right(
        PODS,
        ("list", "watch", "delete"),
        "Their states make up the status. Pods that a node refused are deleted before there are hundreds.",
    ),
    Right(
        CONFIG_MAPS,
        ("create",),
        "A ConfigMap binds all replicas to the model version that the first one found. The operator never "
        "reads it.",
    ),
    Right(
        SERVICE_ACCOUNTS,
        ("get",),
        f"A ServiceAccount that a spec names must have the label `{LABEL_ALLOWED}`.",
    ),
)
