"""The kinds of objects that belong to Toys, and the rights that they need."""

from __future__ import annotations

from typing import Final

from serval_operator.api.resources import DEPLOYMENTS, JOBS, PODS
from serval_operator.api.rights import Right, applied_rights

APPLIES: Final = (DEPLOYMENTS,)
WATCHES: Final = (JOBS, PODS)
TOY_RIGHTS: Final = (
    *applied_rights(APPLIES, (), {DEPLOYMENTS: "A Deployment runs the pods that watch a Toy."}),
    Right(JOBS, ("get", "list", "watch", "create", "patch", "delete"), "A Job plays the steps."),
    Right(PODS, ("list", "watch"), "Their states make up the status."),
)
