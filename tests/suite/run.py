"""Runs the parts, each a pytest process, and adds up their results."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from suite.parts import Part, Stage
from suite.results import LAYERS, VARIABLE, Results, count_lines, sampled_lines

LIMIT_SECONDS = 3600.0
"""Of one part; each test has a limit of its own."""
SLOWEST = 20


class Run:
    """A test run.

    Parameters
    ----------
    root
        The checkout.

    Attributes
    ----------
    results
        Of all parts that have ended.
    seconds
        Wall time by layer. Parts that run side by side count in full, so the sum may be above the whole.
    status
        1 where a part failed, else 0.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.results = Results()
        self.seconds: Counter[str] = Counter()
        self.status = 0
        self._failed: set[str] = set()
        self._ran: set[str] = set()
        self._whole = 0.0
        self._lock = threading.Lock()

    def all(self, stages: Iterable[Stage]) -> None:
        """Run every stage, also after one that failed: one run tells of everything that is wrong."""
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="serval-tests-") as folder:
            for stage in stages:
                self._stage(stage, Path(folder))
        self._whole = time.monotonic() - begin

    def passed(self, layer: str) -> bool:
        """Whether all parts of a layer ran and passed."""
        return layer in self._ran and layer not in self._failed

    def summary(self) -> list[str]:
        """Return what ran and what it took, for people."""
        slowest = [
            f"  {seconds:6.1f} s  {nodeid}" for nodeid, seconds in self.results.seconds.most_common(SLOWEST)
        ]
        times = [f"{layer} {self.seconds[layer] / 60:.1f}" for layer in LAYERS if layer in self._ran]
        return [
            f"{f' {SLOWEST} slowest tests ':=^100}",
            *slowest,
            f"{' tests ':=^100}",
            *count_lines(self.results),
            *sampled_lines(self.results),
            f"minutes: {', '.join(times)}; in all {self._whole / 60:.1f}",
        ]

    def _stage(self, stage: Stage, folder: Path) -> None:
        """Run the parts of a stage side by side."""
        with ThreadPoolExecutor(len(stage)) as pool:
            for ended in [pool.submit(self._part, part, folder, len(stage) > 1) for part in stage]:
                ended.result()

    def _part(self, part: Part, folder: Path, aside: bool) -> None:
        """Run one part; its lines carry its name where others run beside it."""
        file = folder / f"{part.name}.json"
        print(f"{f' {part.name} ':=^100}", flush=True)
        begin = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-m", "pytest", *part.arguments],
            cwd=self.root,
            env={**os.environ, VARIABLE: str(file)},
            stdout=subprocess.PIPE if aside else None,
            stderr=subprocess.STDOUT if aside else None,
            text=True,
        ) as process:
            killer = threading.Timer(LIMIT_SECONDS, process.kill)
            killer.daemon = True
            killer.start()
            for line in process.stdout or ():
                print(f"[{part.name}] {line}", end="", flush=True)
            code = process.wait()
            killer.cancel()
        self._note(part, code, time.monotonic() - begin, Results.load(file))

    def _note(self, part: Part, code: int, seconds: float, results: Results) -> None:
        with self._lock:
            self.results.add(results)
            self.seconds[part.layer] += seconds
            self._ran.add(part.layer)
            if code:
                self._failed.add(part.layer)
                self.status = 1
