"""Notes of what was said of failures and faults that tests made, from which the docs' tables are written."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
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


def lasts(_broken: str) -> Callable[[_Test], _Test]:
    """Declare a fault that a test makes, lets last and ends.

    It becomes a row of docs/failures.md, with what the test notes by a `LastingFault`.
    `benchmarks.failure_cases` reads it from the test's source, so the argument must be a literal.

    Parameters
    ----------
    _broken:
        What is broken, for the first column of the table.
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
            "test": _test(),
            "status": ready["status"],
            "reason": ready["reason"],
            "message": ready["message"],
            "available": condition(obj, "Available")["status"],
            "stalled": bool(condition(obj, "Stalled")),
            "seconds": round(time.monotonic() - self.acted, 1),
        }
        _write(self.file, line)


class LastingFault:
    """Notes a fault that begins now: what told of it and when, how long it lasted, and when all was well."""

    def __init__(self) -> None:
        self._file = _file()
        self._began = time.monotonic()
        self._note: dict[str, object] = {}
        self._ended = self._began

    def told(self, teller: str, message: str) -> None:
        """Something tells of it now. The first one counts.

        Parameters
        ----------
        teller:
            Who tells, in Markdown.
        """
        after = round(time.monotonic() - self._began, 1)
        self._note = self._note or {"teller": teller, "message": message, "after": after}

    def told_by(self, obj: Object) -> None:
        """A ModelDeployment's `Ready` tells of it now."""
        ready = condition(obj, "Ready")
        self.told(f"`Ready` {ready['status']}, `{ready['reason']}`", ready["message"])

    def end(self) -> None:
        """It ends now."""
        self._ended = time.monotonic()

    def overcome(self) -> None:
        """All is well again now: write the note."""
        assert self._note, "nothing told of it"
        if self._file is not None:
            lasted, recovery = self._ended - self._began, time.monotonic() - self._ended
            times = {"lasted": round(lasted, 1), "recovery": round(recovery, 1)}
            _write(self._file, {"test": _test(), **self._note, **times})


def _test() -> str:
    """Id of the test that runs."""
    return os.environ.get(CURRENT_TEST, "").partition(" ")[0]


def _write(file: Path, line: Mapping[str, object]) -> None:
    with file.open("a") as stream:
        stream.write(json.dumps(line) + "\n")
