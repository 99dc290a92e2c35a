"""Where the time of requests went, as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from serval_serving.cli.tables import table
from serval_serving.client.timing import Timing

PARTS: Final = ("total", "network", "queue", "engine", "server")
UNKNOWN: Final = "-"
"""Stands for what the server does not tell."""
_PERCENTILES: Final = (50, 99)


def as_json(timing: Timing) -> dict[str, float | None]:
    """Return the milliseconds of one request, for programs."""
    seconds = {part: getattr(timing, part) for part in PARTS}
    return {part: None if value is None else round(value * 1000, 3) for part, value in seconds.items()}


def as_table(timings: Sequence[Timing]) -> str:
    """Return the milliseconds of one request; of several the percentiles, of each part by itself."""
    columns = {part: [getattr(timing, part) for timing in timings] for part in PARTS}
    if len(timings) == 1:
        rows = [("1 request", *(_milliseconds(column[0]) for column in columns.values()))]
    else:
        rows = [
            (f"p{percent} of {len(timings)}", *(_percentile(column, percent) for column in columns.values()))
            for percent in _PERCENTILES
        ]
    return table(("MILLISECONDS", *(part.upper() for part in PARTS)), rows)


def percentile(seconds: Sequence[float], percent: int) -> float | None:
    """Return the milliseconds that so many percent of all do not exceed; None of none."""
    ordered = sorted(seconds)
    return round(ordered[_rank(len(ordered), percent)] * 1000, 3) if ordered else None


def _rank(count: int, percent: int) -> int:
    """Return the index of a percentile among so many sorted values."""
    return math.ceil(count * percent / 100) - 1


def _percentile(values: Sequence[float | None], percent: int) -> str:
    """Return the least value that so many percent of all do not exceed."""
    known = sorted(value for value in values if value is not None)
    if len(known) < len(values):
        return UNKNOWN
    return _milliseconds(known[_rank(len(known), percent)])


def _milliseconds(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else f"{seconds * 1000:.2f}"
