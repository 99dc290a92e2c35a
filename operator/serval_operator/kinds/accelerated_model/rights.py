"""The kinds of objects that belong to AcceleratedModels, and the rights that they need."""

from __future__ import annotations

from typing import Final

from serval_operator.api.resources import (
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from serval_operator.api.rights import APPLIED, Right, applied_rights
from serval_operator.constants import LABEL_ALLOWED

APPLIES: Final = (DEPLOYMENTS, SERVICES)
"""Kinds of children that are applied."""
WATCHES: Final = (CONTROLLER_REVISIONS, JOBS, PODS)
"""Other kinds of objects that belong to an AcceleratedModel."""
RIGHTS: Final = (
    *applied_rights(
        APPLIES,
        (),
        {
            DEPLOYMENTS: "A Deployment runs the pods of an AcceleratedModel.",
            SERVICES: "Services are the endpoints of an AcceleratedModel.",
        },
    ),
    Right(
        CONTROLLER_REVISIONS,
        (*APPLIED, "delete"),
        "They are the history of pod templates, each with its artifact. The oldest are deleted.",
    ),
    Right(
        JOBS,
        ("get", "list", "watch", "create", "patch", "delete"),
        "A Job converts a model. It is suspended and resumed with its owner, and deleted when a newer one "
        "replaces it.",
    ),
    Right(
        PODS,
        ("list", "watch", "delete"),
        "Their states make up the status. Pods that a node refused are deleted before there are hundreds, "
        "and a pod whose device stays unhealthy is deleted if another device is free.",
    ),
    Right(
        SERVICE_ACCOUNTS,
        ("get",),
        f"A ServiceAccount that a spec names must have the label `{LABEL_ALLOWED}`.",
    ),
)
"""Rights beside those on the custom resource itself."""
