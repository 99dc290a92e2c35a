"""Waiting in tests: on a condition, with a limit, and with words for what did not come."""

from __future__ import annotations

import asyncio
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


async def until_while_running(
    what: str, check: Callable[[], object], task: asyncio.Future[None] | None, limit: float = 20.0
) -> None:
    """Let a task run until something holds; fail at once if the task ends before that.

    Raises
    ------
    AssertionError
        The task ended, or it did not come within ``limit`` seconds. What the task raised is raised first.
    """
    try:
        async with asyncio.timeout(limit):
            while not check():
                if task is not None and task.done():
                    task.result()
                    raise AssertionError(f"it ended while waiting for {what}")
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"{what}: not in time") from None
