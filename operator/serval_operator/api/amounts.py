"""Amounts of extended resources: devices, as nodes offer them and pods ask for them."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

LONGEST_AMOUNT = 40
"""Characters of an amount that are looked at: the largest number that Kubernetes stores is far shorter."""

_UNITS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2})?)(m|k|[KMGTPE]i?)?", re.ASCII)


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
    if not isinstance(value, str) or len(value) > LONGEST_AMOUNT:
        return 0
    match = _AMOUNT.fullmatch(value)
    unit = _UNITS.get(match[2] or "") if match else None
    return int(Decimal(match[1]) * unit) if match and unit else 0


def extended(resources: Mapping[str, Any]) -> dict[str, int]:
    """The extended resources of a resource list, those with an amount of 0 included."""
    return {sys.intern(name): amount(value) for name, value in resources.items() if is_extended(name)}
