"""Waiting in tests: on a condition, with a limit, and with words for what did not come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(what: str, check: Callable[[], T | None], limit: float = 30.0, every: float = 0.05) -> T:
    """Ask ``check`` until it gives something true, and return that.

    Parameters
    ----------
    what:
        What is waited for; stands in the failure, together with what ``check`` gave last.
    limit, every:
        Seconds until it fails, and between two questions.

    Raises
    ------
    AssertionError
        It did not come within ``limit``.
    """
    deadline = time.monotonic() + limit
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {limit:.0f} s; last seen: {answer!r}")
        time.sleep(every)
