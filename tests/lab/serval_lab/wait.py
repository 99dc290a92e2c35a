"""Waiting on conditions: every wait has a limit, says what it waits for and shows the log that explains."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from serval_lab.errors import LabError, with_log

T = TypeVar("T")


def wait_for(
    what: str,
    check: Callable[[], T | None],
    limit: float,
    *,
    log: Path | None = None,
    alive: Callable[[], bool] | None = None,
    every: float = 0.05,
) -> T:
    """Ask until the answer is true.

    Parameters
    ----------
    what
        What is waited for, as a noun: it stands in the error.
    check
        Returns something true once the condition holds. What it raises ends the wait.
    limit
        Seconds.
    log
        Log whose end explains a failure.
    alive
        Whether the process that should bring it about is still there.
    every
        Seconds between two questions.

    Raises
    ------
    LabError
        After `limit`, or at once when `alive` says no.
    """
    deadline = time.monotonic() + limit
    while True:
        answer = check()
        if answer:
            return answer
        if alive is not None and not alive():
            raise LabError(with_log(f"{what}: the process has ended", log))
        if time.monotonic() > deadline:
            raise LabError(with_log(f"{what}: not within {limit:.0f} s", log))
        time.sleep(every)
