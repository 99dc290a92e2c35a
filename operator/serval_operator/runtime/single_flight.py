"""Concurrent callers share one request: its answer, or its failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class SingleFlight(Generic[_T]):
    """Sends one request at a time for all callers.

    A request that fails does so for all callers that wait for it, at the same moment: if each of them sent
    the request again, the last one would wait for as many time limits as there are callers. The request
    belongs to no caller, so a caller that is cancelled takes nothing from the others. It is cancelled after
    its last caller.

    Parameters
    ----------
    request:
        Sends the request.
    clock:
        Monotonic seconds.
    """

    def __init__(self, request: Callable[[], Awaitable[_T]], clock: Callable[[], float]) -> None:
        self._request = request
        self._clock = clock
        self._flight: _Flight[_T] | None = None

    async def get(self, least: float) -> _T:
        """Return the answer to a request that was sent at ``least`` or later.

        If an older request is under way, a new one follows it. All callers that need the new one share it.
        """
        while (flight := self._under_way()) and flight.sent < least:
            await asyncio.wait([flight.task])
        if flight is None:
            flight = self._flight = _Flight(asyncio.ensure_future(self._request()), self._clock())
        return await flight.answer()

    def _under_way(self) -> _Flight[_T] | None:
        return None if self._flight is None or self._flight.over() else self._flight


class _Flight(Generic[_T]):
    """One request, when it was sent, and the number of callers that wait for it."""

    def __init__(self, task: asyncio.Future[_T], sent: float) -> None:
        self.task = task
        self.sent = sent
        self._callers = 0
        self._abandoned = False

    def over(self) -> bool:
        """Whether it is too late to wait for its answer."""
        return self._abandoned or self.task.done()

    async def answer(self) -> _T:
        """Wait for the answer."""
        self._callers += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self._callers -= 1
            if not self._callers and not self.task.done():
                self._abandoned = True
                self.task.cancel()
