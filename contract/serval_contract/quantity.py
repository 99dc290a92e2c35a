"""Quantities as Kubernetes writes them: 500m, 1.5Gi, 20G, 1e3."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

LONGEST: Final = 40
"""Characters of a quantity that is parsed: the largest number that Kubernetes stores is far shorter."""

_UNITS: Final = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}
_QUANTITY: Final = re.compile(rf"(\d+(?:\.\d+)?(?:[eE][+-]?\d{{1,2}})?)({'|'.join(_UNITS)})", re.ASCII)


def parse_quantity(text: str) -> Decimal | None:
    """Return the number that a quantity stands for; None if it is no quantity, or negative.

    The micro and nano units of Kubernetes are left out: neither bytes nor devices come in them.
    """
    match = _QUANTITY.fullmatch(text) if len(text) <= LONGEST else None
    return Decimal(match[1]) * _UNITS[match[2]] if match else None


def parse_whole(text: str) -> int:
    """Return a quantity as a whole number, rounded down; 0 if it is no quantity."""
    number = parse_quantity(text)
    return int(number) if number is not None else 0
