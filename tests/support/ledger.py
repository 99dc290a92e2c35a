"""Notes of what ModelDeployments said of failures that tests made, from which the docs' table is written."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from support.cluster import Object, condition

VARIABLE = "SERVAL_FAILURES_FILE"
"""Names the file that gets one line of JSON for each failure; unset, nothing is noted."""
CURRENT_TEST = "PYTEST_CURRENT_TEST"

_Test = TypeVar("_Test", bound=Callable[..., None])


def provokes(_reason: str, _made: str) -> Callable[[_Test], _Test]:
    """Declare a failure that an end-to-end test provokes.

    It becomes a row of docs/failures.md. `benchmarks.failure_cases` reads it from the test's source, so both
    arguments must be literals.

    Parameters
    ----------
    _reason:
        Reason that `Ready` has.
    _made:
        What the test does, for the first column of the table.
    """
    return lambda test: test


def _file() -> Path | None:
    path = os.environ.get(VARIABLE)
    return Path(path) if path else None


@dataclass
class Ledger:
    """Notes failures beside the time since the last thing that a test did.

    Attributes
    ----------
    file:
        Where the notes go, or None.
    acted:
        Monotonic time of what caused the next failure.
    """

    file: Path | None = field(default_factory=_file)
    acted: float = field(default_factory=time.monotonic)

    def act(self) -> None:
        """Something is done now that may make something fail."""
        self.acted = time.monotonic()

    def note(self, obj: Object) -> None:
        """Note what a ModelDeployment's `Ready` says now."""
        if self.file is None:
            return
        ready = condition(obj, "Ready")
        line = {
            "test": os.environ.get(CURRENT_TEST, "").partition(" ")[0],
            "status": ready["status"],
            "reason": ready["reason"],
            "message": ready["message"],
            "available": condition(obj, "Available")["status"],
            "stalled": bool(condition(obj, "Stalled")),
            "seconds": round(time.monotonic() - self.acted, 1),
        }
        with self.file.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
