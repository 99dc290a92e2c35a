"""Compares the outputs of two models, reply by reply."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]
Outputs = Mapping[str, Array]

MISSING: Final = "only one of both has it"
SHAPES: Final = "shapes differ"
TYPES: Final = "types differ"
VALUES: Final = "values differ"
"""Why an output cannot be compared by numbers. Strings have no difference but this."""


@dataclass(slots=True)
class OutputComparison:
    """One output in all replies.

    Attributes
    ----------
    compared:
        How many replies of both had it.
    equal:
        In how many of these all elements were equal; NaN equals NaN.
    largest:
        Largest absolute difference of two elements; infinite where only one of them is a number.
    worst:
        Name of the record with that difference; empty if there is none.
    other:
        Number of replies in which numbers do not say the difference, by the reason.
    """

    compared: int = 0
    equal: int = 0
    largest: float = 0.0
    worst: str = ""
    other: dict[str, int] = field(default_factory=dict)

    def add(self, record: str, first: Array | None, second: Array | None) -> None:
        """Compare the output in the replies to one record; None for a reply without it."""
        self.compared += 1
        reason = _reason(first, second)
        if first is None or second is None or reason:
            self.other[reason] = self.other.get(reason, 0) + 1
            self.worst = self.worst or record
            return
        difference = largest_difference(first, second)
        if difference == 0:
            self.equal += 1
        elif difference > self.largest:
            self.largest, self.worst = difference, record

    def within(self, tolerance: float) -> bool:
        """Whether no reply differs by more than `tolerance`."""
        return not self.other and self.largest <= tolerance


def compare(found: dict[str, OutputComparison], record: str, first: Outputs, second: Outputs) -> None:
    """Compare the replies to one record, and add the result to that of the others, by output."""
    for name in sorted({*first, *second}):
        found.setdefault(name, OutputComparison()).add(record, first.get(name), second.get(name))


def largest_difference(first: Array, second: Array) -> float:
    """Return the largest absolute difference of the elements of two arrays of one shape.

    Strings that are compared here are equal.
    """
    if first.dtype.kind in "OSU":
        return 0.0
    if first.dtype.kind in "iub" and second.dtype.kind in "iub":
        pairs = first != second
        # Integers of 64 bits do not fit into floats.
        one, two = first[pairs].tolist(), second[pairs].tolist()
        return float(max((abs(int(a) - int(b)) for a, b in zip(one, two, strict=True)), default=0))
    wide = np.complex128 if "c" in (first.dtype.kind, second.dtype.kind) else np.float64
    one, two = first.astype(wide), second.astype(wide)
    differs = ~((one == two) | (np.isnan(one) & np.isnan(two)))
    if not differs.any():
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        largest = float(np.max(np.abs(one[differs] - two[differs])))
    return math.inf if math.isnan(largest) else largest


def _reason(first: Array | None, second: Array | None) -> str:
    """Say why numbers do not say the difference; empty if they do, or if strings are equal."""
    if first is None or second is None:
        return MISSING
    if first.shape != second.shape:
        return SHAPES
    strings = [array.dtype.kind in "OSU" for array in (first, second)]
    if not any(strings):
        return ""
    if not all(strings):
        return TYPES
    return "" if np.array_equal(first, second) else VALUES
