"""How much of an expensive check runs: a sample in `make test`, all of it in `make test-all`."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

VARIABLE = "SERVAL_WHOLE"
"""Set to anything but the empty string, everything runs whole."""
SEED_VARIABLE = "SERVAL_SAMPLE_SEED"
"""Any text; a failure of a sample names the one that repeats it."""
PROPERTY = "sampled"
"""Name of the property of a test's report that says how much of it ran."""


T = TypeVar("T")


def whole() -> bool:
    """Whether this run leaves nothing out."""
    return bool(os.environ.get(VARIABLE))


def seed() -> str:
    """Return what decides which cases a sample takes: the day in UTC, or `SEED_VARIABLE` to repeat one."""
    return os.environ.get(SEED_VARIABLE) or datetime.now(UTC).date().isoformat()


def sample(cases: Sequence[T], number: int) -> list[T]:
    """Return the cases that run, in their order: all of them, or `number` that change from day to day."""
    if whole() or number >= len(cases):
        return list(cases)
    chosen = random.Random(seed()).sample(range(len(cases)), number)  # noqa: S311 - no secret
    return [cases[index] for index in sorted(chosen)]


def amount(number: int, total: int) -> int:
    """Return how many of `total` cases run: all of them, or `number`."""
    return total if whole() else min(number, total)


def note(record_property: Callable[[str, object], None], ran: int, total: int, what: str) -> None:
    """Record that a test ran a part of its cases; says nothing where it ran all of them.

    Parameters
    ----------
    record_property
        pytest's fixture.
    ran, total
        Cases that ran, and cases that there are.
    what
        What the cases are, in the plural.
    """
    if ran < total:
        record_property(PROPERTY, f"{ran} of {total} {what}")
