"""Judges a device by its runs, where its run time has no call that tells how it is."""

from __future__ import annotations

import threading
from typing import Final

FAILURES: Final = 3
"""Runs in a row that fail until the device counts as unhealthy; a single one may have a cause that passes."""


class RunFaults:
    """Counts runs that fail one after another. Its methods may be called from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._words = ""

    def failed(self, words: str) -> None:
        """Note that a run failed."""
        with self._lock:
            self._failures += 1
            self._words = words

    def passed(self) -> None:
        """Note that a run, or programming, was successful."""
        with self._lock:
            self._failures = 0

    @property
    def fault(self) -> str:
        """The fault; empty if there is none."""
        with self._lock:
            if self._failures < FAILURES:
                return ""
            return f"{self._failures} runs failed, the last one with: {self._words}"
