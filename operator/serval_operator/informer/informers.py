"""One kopf for each kind and namespace of custom resources, started when it can be watched.

kopf looks for its kinds once, and what ends one watch (a CRD that is deleted) ends all watches of that kopf.
With one for each source, one that is missing or forbidden stops no other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

import aiohttp

from serval_operator.api.naming import Key
from serval_operator.informer.kopf_informer import Informer
from serval_operator.runtime.authentication import Connection
from serval_operator.runtime.availability import Availability, Source
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.watch_health import WatchMonitor
from serval_operator.settings import Settings

FIRST_PATIENCE = 5.0
LONGEST_PATIENCE = 60.0
"""Bounds, in seconds, of the time in which kopf must send its first request for a source. It does not find a
kind that discovery does not list yet, and does not look again."""

_log = logging.getLogger(__name__)


class Informers:
    """Runs a kopf for each source that was listed, until `stop`.

    Parameters
    ----------
    sources:
        The custom resources to watch.
    signs:
        Tells whether a kopf has begun.
    trace:
        Follows the requests of the watches.
    on_refused:
        Called with a source whose listing or watch was refused, and with words.
    on_started:
        Called each time kopf has taken over the process's signals, so that they can be taken back.
    """

    def __init__(
        self,
        connection: Connection,
        cache: Cache,
        sources: Sequence[Source],
        enqueue: Callable[[Key], None],
        settings: Settings,
        availability: Availability,
        signs: WatchMonitor,
        trace: aiohttp.TraceConfig,
        on_refused: Callable[[Source, str], None],
        on_started: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._cache = cache
        self._sources = tuple(sources)
        self._enqueue = enqueue
        self._settings = settings
        self._availability = availability
        self._signs = signs
        self._trace = trace
        self._on_refused = on_refused
        self._on_started = on_started
        self._clock = clock
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Let `run` return soon."""
        self._stop.set()

    async def run(self) -> None:
        """Watch until `stop`."""
        async with asyncio.TaskGroup() as group:
            for source in self._sources:
                group.create_task(self._keep(source), name=f"kopf for {source}")

    async def _keep(self, source: Source) -> None:
        """Run kopf for a source whenever it is listed, and again where kopf ended."""
        patience, failures = FIRST_PATIENCE, 0
        while not self._stop.is_set():
            await _first(
                self._availability.until(lambda: self._availability.is_listed(source)), self._stop.wait()
            )
            if self._stop.is_set():
                return
            began = self._clock()
            problem = await self._watch(source, patience)
            if not problem:
                patience, failures = FIRST_PATIENCE, 0
                continue
            if self._clock() - began > LONGEST_PATIENCE:
                failures = 0
            pause = self._settings.watch_backoffs[min(failures, len(self._settings.watch_backoffs) - 1)]
            patience, failures = min(2 * patience, LONGEST_PATIENCE), failures + 1
            _log.warning("the watch of %s ended, again in %.1f s: %s", source, pause, problem)
            await _first(asyncio.sleep(pause), self._stop.wait())

    async def _watch(self, source: Source, patience: float) -> str:
        """Run kopf for a source until that is off, or until `stop`; returns why it ended otherwise."""
        began = self._clock()
        informer = self._informer(source)
        running = asyncio.create_task(informer.run())
        off = asyncio.create_task(self._availability.until(lambda: not self._availability.is_listed(source)))
        stopping = asyncio.create_task(self._stop.wait())
        ends = {running, off, stopping}
        try:
            done, _ = await asyncio.wait(ends, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if not done and not self._signs.tried_since(source, began):
                return "kopf has not begun to watch"
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            informer.stop()
            off.cancel()
            stopping.cancel()
            await asyncio.wait(ends)
        error = running.exception()
        return str(error) if error is not None and self._availability.is_listed(source) else ""

    def _informer(self, source: Source) -> Informer:
        places = (source.namespace,) if source.namespace else ()
        return Informer(
            self._connection,
            self._cache,
            (source.resource,),
            self._enqueue,
            replace(self._settings, watch_namespaces=places),
            self._trace,
            self._on_started,
            partial(self._on_refused, source),
        )


async def _first(*waits: Awaitable[object]) -> None:
    """Wait for the first of several."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
