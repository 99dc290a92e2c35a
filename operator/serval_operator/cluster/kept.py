"""A value that is requested on demand, kept for a time, and shared by all callers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, TypeVar

from serval_operator.errors import KubeError

PATIENCE = 5.0
"""Seconds after its start for which callers wait for a request. No answer is worth more to a reconcile."""
REST = 2.0
"""Pause after a request, as a multiple of its duration: a request that takes long is repeated seldom."""
OLDEST = 60.0
"""Seconds for which an answer is given in place of one that is late or fails, at least."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Fault:
    """Logs a fault that lasts once when it begins, and once when it has ended.

    Parameters
    ----------
    text:
        What is wrong, and what follows from it.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._sources: set[str] = set()

    @property
    def lasts(self) -> bool:
        """Whether the last request of any source failed."""
        return bool(self._sources)

    def failed(self, source: str, error: Exception) -> None:
        """A request of a source failed."""
        if not self._sources:
            _log.warning("%s: %s", self._text, error)
        self._sources.add(source)

    def passed(self, source: str) -> None:
        """A request of a source succeeded, or the source is not asked any more."""
        if source in self._sources:
            self._sources.remove(source)
            if not self._sources:
                _log.info("no longer: %s", self._text)


@dataclass(frozen=True, slots=True)
class _Answer(Generic[_T]):
    """A value, when its request was sent, and for how long it needs no other."""

    value: _T
    sent: float
    good_for: float


@dataclass(frozen=True, slots=True)
class _Flight:
    """A request under way, and when it was sent."""

    task: asyncio.Task[None]
    sent: float


class Kept(Generic[_T]):
    """Keeps one value; all callers share one request.

    A request belongs to no caller: it goes on when they stop waiting, so that one that takes long serves
    later callers. At most one is under way, and the pause after it follows its duration.

    Parameters
    ----------
    request:
        Requests the value.
    seconds:
        How long a value is valid, at least. If its request took long, it is valid until the pause is over.
    clock:
        Monotonic seconds.
    fault, source:
        Told of requests that fail and that succeed, and what it calls them.
    late:
        Called when a value arrives after a caller left without one.
    patience:
        Seconds after its start for which callers wait for a request.
    """

    def __init__(
        self,
        request: Callable[[], Awaitable[_T]],
        seconds: float,
        clock: Callable[[], float],
        fault: Fault,
        source: str,
        *,
        late: Callable[[], None] = lambda: None,
        patience: float = PATIENCE,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._request = request
        self._seconds = seconds
        self._clock = clock
        self._fault = fault
        self._source = source
        self._late = late
        self._patience = patience
        self._sleep = sleep
        self._answer: _Answer[_T] | None = None
        self._flight: _Flight | None = None
        self._took = 0.0
        self._rests_until = float("-inf")
        self._failed = False
        self._missed = False
        self._dropped = False

    def drop(self) -> None:
        """The value is not needed any more: what its request tells now is no fault."""
        self._dropped = True
        self._fault.passed(self._source)

    async def get(self, *, fresh: bool = False) -> _T | None:
        """Return the value; None if the request fails or takes too long, and no older value will do.

        Parameters
        ----------
        fresh:
            Whether the value must be requested after this call.
        """
        asked = self._clock()
        while (found := self._current(asked, fresh=fresh)) is None:
            if not await self._wait(asked):
                return None if fresh else self._older(asked)
        return found.value

    def _current(self, asked: float, *, fresh: bool) -> _Answer[_T] | None:
        """The last answer, if it needs no request."""
        found = self._answer
        if found is None:
            return None
        valid = found.sent >= asked if fresh else asked - found.sent <= found.good_for
        return found if valid else None

    def _older(self, asked: float) -> _T | None:
        found = self._answer
        if found is not None and asked - found.sent <= max(OLDEST, 2 * found.good_for):
            return found.value
        self._missed = True
        return None

    async def _wait(self, asked: float) -> bool:
        """Wait for the request under way, a new one, or the end of the pause; False if that is hopeless."""
        flight = self._under_way()
        left = self._time_left(asked, flight)
        if flight is not None:
            return left > 0 and await _ends(flight.task, left)
        if self._failed or left <= 0:
            return False
        await self._sleep(min(left, self._rests_until - self._clock()))
        return True

    def _under_way(self) -> _Flight | None:
        """The request under way, or a new one; None during the pause."""
        if self._flight is not None and not self._flight.task.done():
            return self._flight
        now = self._clock()
        if now < self._rests_until:
            return None
        # Its log lines must not name the caller that came first.
        task = asyncio.create_task(self._send(now), context=Context())
        self._flight = _Flight(task, now)
        return self._flight

    def _time_left(self, asked: float, flight: _Flight | None) -> float:
        """Seconds for which a caller waits: none if the last request took longer than callers wait."""
        if self._took > self._patience:
            return 0.0
        begin = asked if flight is None else min(asked, flight.sent)
        return begin + self._patience - self._clock()

    async def _send(self, sent: float) -> None:
        try:
            value = await self._request()
        except KubeError as error:
            self._failed = True
            if not self._dropped:
                self._fault.failed(self._source, error)
            self._rest(sent, self._seconds)
            return
        self._failed = False
        self._fault.passed(self._source)
        self._rest(sent, 0.0)
        self._answer = _Answer(value, sent, max(self._seconds, self._rests_until - sent))
        if self._missed:
            self._missed = False
            self._late()

    def _rest(self, sent: float, least: float) -> None:
        """Begin the pause."""
        now = self._clock()
        self._took = now - sent
        self._rests_until = now + max(least, REST * self._took)


async def _ends(task: asyncio.Task[None], limit: float) -> bool:
    """Wait for a task without being its only reason; whether it ended in time."""
    done, _ = await asyncio.wait([task], timeout=limit)
    for one in done:
        one.result()
    return bool(done)
