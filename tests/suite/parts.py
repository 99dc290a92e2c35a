"""The parts of a test run: which pytest process runs what, and which of them run side by side."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from suite.results import LAB_TESTS

WORKERS = 2
"""Processes of the unit tests: the machine that the limits of tests are for has two cores."""


@dataclass(frozen=True)
class Part:
    """One pytest process.

    Attributes
    ----------
    name
        For people.
    layer
        The layer that its time belongs to.
    arguments
        Of pytest.
    """

    name: str
    layer: str
    arguments: tuple[str, ...]


Stage = tuple[Part, ...]
"""Parts that run side by side."""

UNIT = Part(
    "unit",
    "unit",
    ("tests/unit", "-m", "not serial", "-n", str(WORKERS), "--dist", "loadfile"),
)
UNIT_SERIAL = Part("unit, one at a time", "unit", ("tests/unit", "-m", "serial"))
INTEGRATION = Part("integration", "integration", ("tests/integration",))
LAB = Part("lab", "lab", (LAB_TESTS,))
E2E = Part("e2e", "e2e", ("tests/e2e", f"--ignore={LAB_TESTS}"))
STAGES: tuple[Stage, ...] = ((UNIT,), (UNIT_SERIAL,), (INTEGRATION, E2E), (LAB,))
"""Integration and end-to-end tests mostly wait, each for a cluster of its own, so they share the cores."""


def stages(layers: Collection[str]) -> list[Stage]:
    """Return what runs for these layers, in order; parts of a stage run side by side."""
    chosen = (tuple(part for part in stage if part.layer in layers) for stage in STAGES)
    return [stage for stage in chosen if stage]
