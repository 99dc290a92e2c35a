"""Conversions in the test's own process: TensorFlow is imported once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from serval_serving.accel.convert import photos, pipeline, steps
from serval_serving.accel.convert.children import StepDone
from serval_serving.accel.convert.steps import STEPS


def run_here(step: str, request: Mapping[str, Any], work: Path, **options: Any) -> StepDone:
    """What `serval_serving.accel.convert.children.run_step` does, without a child."""
    assert work.is_dir()
    assert options["seconds"] > 0
    return StepDone(STEPS[step](request, options["progress"]), 0.5, 1 << 20)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Callable[..., StepDone]:
    monkeypatch.setattr(pipeline, "run_step", run_here)
    monkeypatch.setattr(steps, "CALIBRATION_IMAGES", 5)
    monkeypatch.setattr(steps, "HELD_OUT_IMAGES", 4)
    # Whether a package with photos is installed makes no difference.
    monkeypatch.setattr(photos, "packaged", list)
    return run_here


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes import what the test imports."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
