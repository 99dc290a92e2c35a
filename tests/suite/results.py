"""What one pytest process ran: written as JSON by conftest.py, added up over processes by the runner."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.whole import PROPERTY

VARIABLE = "SERVAL_TEST_RESULTS"
"""Names the file that a pytest process writes its results to; unset, none is written."""
LAB_TESTS = "tests/e2e/test_lab_lifecycle.py"
"""The lab's own tests on real nodes, a layer of their own: they run when the lab changed."""
LAYERS = ("unit", "integration", "lab", "e2e")
OUTCOMES = ("passed", "failed", "error", "skipped")


def layer_of(nodeid: str) -> str:
    """Return the layer of a test: the folder under tests/ that it lies in, but for the lab's own tests."""
    if nodeid.startswith(LAB_TESTS):
        return "lab"
    parts = Path(nodeid.partition("::")[0]).parts
    return parts[1] if len(parts) > 1 and parts[0] == "tests" else "?"


@dataclass
class Results:
    """Results of one process, or of several.

    Attributes
    ----------
    counts
        Number of tests by layer and outcome.
    seconds
        What each test took, setup and teardown included.
    sampled
        For each test that ran a part of its cases: how many.
    """

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)
    sampled: dict[str, str] = field(default_factory=dict)

    def add(self, other: Results) -> None:
        """Add the results of another process."""
        for layer, counter in other.counts.items():
            self.counts.setdefault(layer, Counter()).update(counter)
        self.seconds.update(other.seconds)
        self.sampled |= other.sampled

    def dump(self, path: Path) -> None:
        """Write them as JSON."""
        path.write_text(json.dumps({"counts": self.counts, "seconds": self.seconds, "sampled": self.sampled}))

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read them; a process that ended before it wrote its results has none."""
        if not path.exists():
            return cls()
        read: dict[str, Any] = json.loads(path.read_text())
        counts = {layer: Counter(counter) for layer, counter in read["counts"].items()}
        return cls(counts, Counter(read["seconds"]), read["sampled"])


def collected(stats: Mapping[str, Iterable[Any]]) -> Results:
    """Gather the results of a process from the reports that its terminal reporter kept.

    Parameters
    ----------
    stats
        Reports by outcome; those of successful setups and teardowns have the empty string.
    """
    found = Results()
    for outcome, reports in stats.items():
        for report in reports:
            if not isinstance(report, pytest.TestReport):
                continue
            found.seconds[report.nodeid] += report.duration
            told = dict(report.user_properties).get(PROPERTY)
            if told is not None:
                found.sampled[report.nodeid] = str(told)
            if outcome in OUTCOMES:
                found.counts.setdefault(layer_of(report.nodeid), Counter())[outcome] += 1
    return found


def count_lines(results: Results) -> list[str]:
    """Return one line for each layer: how many tests ran, and how they ended."""
    lines = []
    for layer in LAYERS:
        counter = results.counts.get(layer, Counter())
        lines.append(f"{layer}: {', '.join(f'{counter[outcome]} {outcome}' for outcome in OUTCOMES)}")
    return lines


def sampled_lines(results: Results) -> list[str]:
    """Return how many tests ran a sample of their cases, and how much of them."""
    if not results.sampled:
        return ["0 tests sampled"]
    first = f"{len(results.sampled)} tests sampled (make test-all runs them whole):"
    return [first, *(f"  {nodeid}: {words}" for nodeid, words in sorted(results.sampled.items()))]
