"""The chart as it is after a change of the registry."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tools.generate import generate

from serval_operator.reconcile.kind import Kind
from support.chart import CHART, ROOT


def generated_for(kinds: Sequence[Kind], folder: Path) -> Path:
    """Copy the chart to a folder and generate its files for some kinds; returns its path."""
    copy = folder / CHART.relative_to(ROOT)
    shutil.copytree(CHART, copy, ignore=shutil.ignore_patterns("files"))
    generate(folder, kinds, check=False)
    return copy
