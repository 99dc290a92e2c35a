"""Time that passes only when a test says so."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Any

CYCLES = 50
"""Turns of the event loop in which everything that can go on without time passing has gone on."""


class Timer:
    """A call that was put off."""

    def __init__(self, callback: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.callback = callback
        self.arguments = arguments
        self.cancelled = False

    def cancel(self) -> None:
        """Do not call."""
        self.cancelled = True


class FakeClock:
    """A clock as an event loop has it, started at ``start`` seconds."""

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def __call__(self) -> float:
        """The time, for code that takes a function."""
        return self.now

    def time(self) -> float:
        """The time, for code that takes a loop."""
        return self.now

    def call_later(self, delay: float, callback: Callable[..., Any], *arguments: Any) -> Timer:
        """Call back once so much time has passed."""
        timer = Timer(callback, arguments)
        heapq.heappush(self._timers, (self.now + delay, next(self._order), timer))
        return timer

    async def sleep(self, delay: float) -> None:
        """Wait until so much time has passed."""
        over = asyncio.Event()
        timer = self.call_later(delay, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    def pending(self) -> list[float]:
        """Seconds until each call that is still to come."""
        return sorted(when - self.now for when, _, timer in self._timers if not timer.cancelled)

    async def advance(self, seconds: float) -> None:
        """Let time pass, and let everything happen that becomes due in it, in order."""
        until = self.now + seconds
        await settle()
        while self._timers and self._timers[0][0] <= until:
            when, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            if not timer.cancelled:
                timer.callback(*timer.arguments)
                await settle()
        self.now = until
        await settle()


async def settle() -> None:
    """Let all tasks go on as far as they get without time passing or anything arriving from outside."""
    for _ in range(CYCLES):
        await asyncio.sleep(0)
