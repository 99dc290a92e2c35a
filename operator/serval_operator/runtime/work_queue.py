"""The work queue: which key is reconciled when.

A key waits at most once and is never reconciled twice at the same time. Known keys go before new
ones, and some workers take only known keys, so that a burst of new objects, which take many requests
each, delays no news of those that run. In each lane, namespaces and kinds take turns. What fails comes
again with growing pauses. A key has at most one timer, and the earliest time wins: each reconcile says
again when it wants to come again, so an older wish would only start a second chain of wake-ups.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from serval_operator.api.naming import Key
from serval_operator.errors import Conflict, Fenced, KubeError, Transient
from serval_operator.logs import bound
from serval_operator.runtime.fair_queue import FairQueue
from serval_operator.runtime.metrics import Metrics

FIRST_BACKOFF = 0.25
LONGEST_BACKOFF = 60.0
"""Bounds, in seconds, of the pause after a failure. It doubles with each failure in a row."""
SHORTEST_PAUSE = 1.0
"""An event brings a failed key forward, but not to earlier than this many seconds after the failure: our own
writes are events too, and a reconcile that writes and then fails must not run hot."""

REST = 0.03
"""Seconds for which a key rests after a reconcile: events of one pod come in twos and threes, and our own
writes are events too. The first event of a calm key waits for nothing."""
MANY_RESTS = 1024
"""Rests that are noted before those that are over are removed."""
NEW_EVERY = 4
"""If both wait, one of this many keys is a new one."""
KEPT_FREE = 3
"""One of this many workers takes only known keys."""

DONE = "done"
AGAIN = "again"
"""Outcomes of a reconcile that did not fail: nothing left to do, or to be called again later."""

_log = logging.getLogger(__name__)


class TimerHandle(Protocol):
    """A call that was put off."""

    def cancel(self) -> None:
        """Do not call."""


class Clock(Protocol):
    """Time as an event loop has it, so that the running loop is one."""

    def time(self) -> float:
        """Seconds, monotonic."""

    def call_later(self, delay: float, callback: Callable[[Key], None], key: Key, /) -> TimerHandle:
        """Schedule ``callback`` after ``delay`` seconds."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """A look at the queue; times in seconds.

    Parameters
    ----------
    workers:
        Workers alive.
    waiting, active:
        Keys that wait for a worker, and keys being reconciled.
    oldest, longest:
        How long the oldest of the former waits, and the longest of the latter runs.
    stalled:
        How long no reconcile has ended though there was work.
    """

    workers: int
    waiting: int
    active: int
    oldest: float
    longest: float
    stalled: float


class WorkQueue:
    """Hands keys to workers.

    Parameters
    ----------
    reconcile:
        Reconciles one key; returns the seconds until it wants to be called again, or None. An exception
        counts as a failure.
    is_known:
        Whether a key was reconciled before, by whomever.
    jitter:
        Factor by which a back-off is multiplied, so that what failed together does not come back together.
    """

    def __init__(
        self,
        reconcile: Callable[[Key], Awaitable[float | None]],
        *,
        workers: int,
        meter: Metrics,
        clock: Clock,
        is_known: Callable[[Key], bool] = lambda _: True,
        jitter: Callable[[], float] = lambda: random.uniform(0.8, 1.2),  # noqa: S311 - no secret
    ) -> None:
        self._reconcile = reconcile
        self._wanted_workers = workers
        self._meter = meter
        self._clock = clock
        self._jitter = jitter
        self._lanes = _Lanes()
        self._is_known = is_known
        self._waiting: dict[Key, float] = {}
        self._active: dict[Key, float] = {}
        self._again: set[Key] = set()
        self._timers: dict[Key, tuple[float, TimerHandle]] = {}
        self._failures: dict[Key, int] = {}
        self._not_before: dict[Key, float] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._progress = clock.time()
        self._stopping = False

    def add(self, key: Key) -> None:
        """Reconcile a key as soon as a worker is free; once, however often it is added meanwhile."""
        if self._stopping or key in self._waiting:
            return
        if key in self._active:
            self._again.add(key)
            return
        now = self._clock.time()
        hold = self._not_before.get(key, now) - now
        if hold > 0:
            self._arm(key, hold)
            return
        if not self._waiting and not self._active:
            self._progress = now
        self._waiting[key] = now
        self._lanes.put(key, known=self._is_known(key))

    def add_after(self, key: Key, delay: float) -> None:
        """Reconcile a key after ``delay`` seconds, or earlier if that was requested already."""
        if not self._stopping:
            self._arm(key, delay)

    def state(self) -> QueueState:
        """How the queue does now."""
        now = self._clock.time()
        busy = bool(self._waiting or self._active)
        return QueueState(
            workers=sum(not worker.done() for worker in self._workers),
            waiting=len(self._waiting),
            active=len(self._active),
            oldest=now - next(iter(self._waiting.values()), now),
            longest=now - min(self._active.values(), default=now),
            stalled=now - self._progress if busy else 0.0,
        )

    async def run(self) -> None:
        """Work until `stop`. Raises what ended a worker, which a failing reconcile never does."""
        kept_free = self._wanted_workers // KEPT_FREE
        self._workers = [
            asyncio.create_task(self._work(known_only=number < kept_free), name=f"worker {number}")
            for number in range(self._wanted_workers)
        ]
        try:
            done, _ = await asyncio.wait(self._workers, return_when=asyncio.FIRST_EXCEPTION)
            for worker in done:
                if not worker.cancelled():
                    worker.result()
        finally:
            for worker in self._workers:
                worker.cancel()

    async def stop(self, grace: float) -> bool:
        """Take no more keys and wait for running reconciles.

        Returns whether all of them ended within ``grace`` seconds.
        """
        self._stopping = True
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()
        self._lanes.close()
        if not self._workers:
            return True
        _, late = await asyncio.wait(self._workers, timeout=grace)
        for worker in late:
            worker.cancel()
        if late:
            await asyncio.wait(late)
        return not late

    async def _work(self, *, known_only: bool) -> None:
        while (key := await self._lanes.get(known_only=known_only)) is not None:
            del self._waiting[key]
            self._active[key] = self._clock.time()
            self._disarm(key)
            try:
                with bound(str(key)):
                    delay = await self._attempt(key)
            finally:
                del self._active[key]
                self._progress = self._clock.time()
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            elif delay is not None:
                self.add_after(key, delay)

    async def _attempt(self, key: Key) -> float | None:
        """Reconcile once; the seconds after which to come again."""
        started = self._clock.time()
        try:
            delay = await self._reconcile(key)
        except Exception as error:  # noqa: BLE001 - one key must not stop the others
            outcome = type(error).__name__
            delay = self._failed(key, error)
            _report(error, delay)
        else:
            outcome = DONE if delay is None else AGAIN
            self._failures.pop(key, None)
            self._rest(key)
        self._meter.reconciled(key.kind, outcome, self._clock.time() - started)
        return delay

    def _rest(self, key: Key) -> None:
        now = self._clock.time()
        if len(self._not_before) >= MANY_RESTS:
            self._not_before = {one: until for one, until in self._not_before.items() if until > now}
        self._not_before[key] = now + REST

    def _failed(self, key: Key, error: Exception) -> float:
        if isinstance(error, Fenced):
            # No fault of the key. As soon as the Lease is renewed, it has to go on.
            self._not_before[key] = self._clock.time() + SHORTEST_PAUSE
            return SHORTEST_PAUSE * self._jitter()
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        doubled = FIRST_BACKOFF * float(2 ** min(failures - 1, 20))
        backoff = min(doubled, LONGEST_BACKOFF) * self._jitter()
        asked = (error.retry_after if isinstance(error, Transient) else None) or 0.0
        self._not_before[key] = self._clock.time() + max(asked, min(backoff, SHORTEST_PAUSE))
        return max(asked, backoff)

    def _arm(self, key: Key, delay: float) -> None:
        when = self._clock.time() + delay
        armed = self._timers.get(key)
        if armed is not None and armed[0] <= when:
            return
        self._disarm(key)
        self._timers[key] = (when, self._clock.call_later(delay, self._due, key))

    def _disarm(self, key: Key) -> None:
        armed = self._timers.pop(key, None)
        if armed is not None:
            armed[1].cancel()

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)


class _Lanes:
    """Keys that wait, in two lanes, and the workers that wait for them."""

    def __init__(self) -> None:
        self._known = FairQueue()
        self._new = FairQueue()
        self._for_known: deque[asyncio.Future[None]] = deque()
        self._for_any: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self._turn = 0

    def put(self, key: Key, *, known: bool) -> None:
        """Add a key at the end of its lane."""
        (self._known if known else self._new).put(key)
        self._wake()

    async def get(self, *, known_only: bool) -> Key | None:
        """Wait for a key; None once closed."""
        waiting = self._for_known if known_only else self._for_any
        # Another worker may have taken the key before the one that was woken.
        while not (self._known or self._closed or (self._new and not known_only)):
            woken = asyncio.get_running_loop().create_future()
            waiting.append(woken)
            await woken
        if self._closed:
            return None
        self._turn += not known_only
        takes_new = not known_only and self._new and (not self._known or self._turn % NEW_EVERY == 0)
        key = (self._new if takes_new else self._known).take()
        self._wake()
        return key

    def _wake(self) -> None:
        """Wake one for what waits: for a key that comes, and when one is taken, for those that are left.

        A worker that was woken for one key may take another one.
        """
        if not (self._known and _woke(self._for_known)) and (self._known or self._new):
            _woke(self._for_any)

    def close(self) -> None:
        """Forget all keys and release all workers that wait."""
        self._known.clear()
        self._new.clear()
        self._closed = True
        while _woke(self._for_known) or _woke(self._for_any):
            pass


def _woke(waiting: deque[asyncio.Future[None]]) -> bool:
    """Wake the first of those who wait; whether there was one."""
    while waiting:
        woken = waiting.popleft()
        if not woken.done():
            woken.set_result(None)
            return True
    return False


async def resync(
    queue: WorkQueue,
    keys: Callable[[], Collection[Key]],
    interval: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Add every key once in each interval, evenly spread so that no load comes in waves. Never returns."""
    while True:
        known = tuple(keys())
        pause = interval / max(len(known), 1)
        for key in known:
            await sleep(pause)
            queue.add(key)
        if not known:
            await sleep(pause)


def _report(error: Exception, delay: float) -> None:
    """Log a failure: in a line where the cluster is the cause, with its trace where we are."""
    if isinstance(error, Conflict):
        _log.info("another client wrote at the same time; again in %.1f s: %s", delay, error.message)
    elif isinstance(error, KubeError):
        _log.warning("the API server refused or failed; again in %.1f s: %s", delay, error)
    else:
        _log.error("reconcile failed; again in %.1f s", delay, exc_info=error)
