"""Notes of what ModelDeployments said of failures that tests made, from which the docs' table is written."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from support.cluster import Object, condition

VARIABLE = "SERVAL_FAILURES_FILE"
"""Names the file that gets one line of JSON for each failure; unset, nothing is noted."""
CURRENT_TEST = "PYTEST_CURRENT_TEST"


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
