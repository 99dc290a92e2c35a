"""Rights that the machinery needs, whatever kinds the operator reconciles."""

from __future__ import annotations

from typing import Final

from serval_operator.api.resources import EVENTS, LEASES
from serval_operator.api.rights import Right

LEASE_NAME: Final = "$(SERVAL_LEASE_NAME)"
"""Stands for the name of the Lease, which is known at installation. The chart replaces it."""

EVENT_RIGHTS: Final = (
    Right(
        EVENTS,
        ("list", "create"),
        "The operator posts Events about its objects, and reads those that explain why a pod does not start.",
    ),
)
LEASE_RIGHTS: Final = (
    Right(LEASES, ("create",), "RBAC cannot restrict the creation of an object by its name."),
    Right(
        LEASES, ("get", "update"), "The active operator renews the Lease, the others read it.", (LEASE_NAME,)
    ),
)
