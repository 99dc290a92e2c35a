"""Amounts of extended resources: devices, as nodes offer them and pods ask for them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from serval_contract.quantity import parse_whole


def is_extended(name: str) -> bool:
    """Whether a resource's name is that of an extended resource.

    As `IsExtendedResourceName` of Kubernetes decides: it has a domain, which is not Kubernetes' own.
    """
    return "/" in name and "kubernetes.io/" not in name and not name.startswith("requests.")


def amount(value: object) -> int:
    """A Kubernetes quantity as a whole number, rounded down; 0 if it is none.

    The API server writes 1000 as ``1k``, so that the short forms do occur.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return max(value, 0)
    return parse_whole(value) if isinstance(value, str) else 0


def extended(resources: Mapping[str, Any]) -> dict[str, int]:
    """The extended resources of a resource list, those with an amount of 0 included."""
    return {sys.intern(name): amount(value) for name, value in resources.items() if is_extended(name)}
