"""Tensors of odd shapes against models of many kinds of kernels, in processes that may end.

No shape may end the process: what shape inference refuses does not reach a kernel. `SERVAL_FUZZ_SEED=<n>`
tries other shapes than the usual ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.whole import amount

SECONDS = 240
ALL = 120
NUMBER = amount(6, ALL)
SEED = os.environ.get("SERVAL_FUZZ_SEED", "1")
MOST_CRASHES = 5
WEIGHTS_BYTES = 3 * 3 * 3 * 64 * 4
"""Size of the weights in the frozen graph."""
KNOWN_CODES = {"OK", "INVALID_ARGUMENT", "ABORTED"}
"""ABORTED is what oneDNN's kernels answer to sizes that they have no primitive for."""


def program(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of this folder to its end."""
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name(name)), *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


@pytest.fixture(scope="module")
def folders(models: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The versions to send tensors to."""
    base = tmp_path_factory.mktemp("kernels")
    made = program("kernel_models.py", str(base))
    assert made.returncode == 0, made.stderr
    others = (models / "zoo" / "0000007", models / "half_plus_two" / "00000123", models / "examples" / "5")
    return [str(path) for path in (base / "kernels" / "1", base / "frozen" / "1", *others)]


def probed(folders: list[str]) -> tuple[list[Any], list[Any], dict[str, int]]:
    """Send the tensors; return cases and their ends, cases that ended the process, and sizes of graphs."""
    came: list[Any] = []
    crashes: list[Any] = []
    skipped = 0
    while len(crashes) < MOST_CRASHES:
        done = program("shape_prober.py", str(NUMBER), SEED, str(skipped), *folders)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines, done.stderr
        came += zip(lines[:-1:2], lines[1::2], strict=False)
        if "cases" in lines[-1]:
            return came, crashes, lines[-1]["sizes"]
        crashes.append((lines[-1], done.returncode, done.stderr[-500:]))
        skipped = lines[-1]["case"]
    return came, crashes, {}


def test_no_shape_ends_the_process(folders: list[str], sampled: Callable[[int, int, str], None]) -> None:
    sampled(NUMBER, ALL, "shapes for each signature")
    came, crashes, sizes = probed(folders)
    assert crashes == []
    unforeseen = [(case, end) for case, end in came if end["came"] not in KNOWN_CODES]
    assert unforeseen == []
    ends = Counter((Path(case["model"]).parent.name, end["came"]) for case, end in came)
    for name in ("kernels", "frozen", "zoo", "half_plus_two"):
        assert ends[name, "OK"] > 0, ends
    for name in ("kernels", "frozen", "zoo"):
        assert ends[name, "INVALID_ARGUMENT"] > 0, ends
    assert 0 < sizes[folders[1]] < WEIGHTS_BYTES, "the weights are not kept a second time"
