"""The kinds of objects that belong to ModelDeployments, and the rights that they need."""

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

OPTIONAL: Final = (AUTOSCALERS, DISRUPTION_BUDGETS)
"""Kinds of children that a spec may ask for and take back."""
APPLIES: Final = (DEPLOYMENTS, SERVICES, *OPTIONAL)
"""Kinds of children that are applied."""
WATCHES: Final = (CONTROLLER_REVISIONS, PODS)
"""Other kinds of objects that belong to a ModelDeployment."""
RIGHTS: Final = (
    *applied_rights(
        APPLIES,
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
"""Rights beside those on the custom resource itself."""
