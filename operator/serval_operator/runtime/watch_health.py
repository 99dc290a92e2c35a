"""Signs of life of the watches, taken from the requests that the watcher sends.

Event handlers learn neither when the watcher listed anew nor whether it still runs. Its requests tell both,
and it sends them through a session that we gave it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiohttp

from serval_operator.runtime.availability import Availability, Source


class WatchMonitor:
    """Follows the LIST and watch requests of all sources. Those that are off are not expected to send any.

    Parameters
    ----------
    availability:
        The sources. Records which watches were accepted.
    on_gap:
        Called with a source each time the watcher has listed it and begins to watch. What ended before that
        listing was never told by an event, so the source has to be listed once more.
    clock:
        Monotonic seconds.
    prefix:
        Path of the API server's URL, with which the path of each request starts.
    """

    def __init__(
        self,
        availability: Availability,
        on_gap: Callable[[Source], None],
        clock: Callable[[], float] = time.monotonic,
        prefix: str = "",
    ) -> None:
        self._prefix = prefix
        self._availability = availability
        self._paths = {source.resource.path(source.namespace): source for source in availability.sources}
        self._on_gap = on_gap
        self._clock = clock
        self._listed: set[str] = set()
        self._silent = set(self._paths)
        self._heard = dict.fromkeys(self._paths, clock())
        self._tried = dict.fromkeys(self._paths, clock())

    def expect(self, source: Source) -> None:
        """A source came on: its watch is expected from now on."""
        path = source.resource.path(source.namespace)
        self._heard[path] = self._tried[path] = self._clock()

    def tried(self, source: Source) -> None:
        """A source is being listed by us, which its watch waits for."""
        self._tried[source.resource.path(source.namespace)] = self._clock()

    def staleness(self) -> dict[str, float]:
        """By plural, seconds since the API server last answered a request of that kind's watch.

        A watch is renewed at least once in its time limit, so a healthy one stays below that.
        """
        return self._ages(self._heard)

    def idleness(self) -> float:
        """Seconds since the watch of the most idle source last sent a request, answered or not.

        That much more than a watch's time limit means that the watcher itself has stopped.
        """
        return max(self._ages(self._tried).values(), default=0.0)

    def tried_since(self, source: Source, moment: float) -> bool:
        """Whether a request of a source was sent since a moment of the clock."""
        return self._tried[source.resource.path(source.namespace)] > moment

    def silent(self) -> list[str]:
        """Paths whose watch the API server has never accepted yet, without those that are off."""
        return sorted(path for path in self._silent if self._availability.is_on(self._paths[path]))

    def trace(self) -> aiohttp.TraceConfig:
        """What a session needs so that its requests are followed."""
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(self._on_start)
        trace.on_request_end.append(self._on_end)
        return trace

    async def _on_start(
        self,
        _session: aiohttp.ClientSession,
        _context: SimpleNamespace,
        params: aiohttp.TraceRequestStartParams,
    ) -> None:
        path = params.url.path.removeprefix(self._prefix)
        if path not in self._paths:
            return
        self._tried[path] = self._clock()
        if "watch" not in params.url.query:
            self._listed.add(path)
        elif path in self._listed:
            self._listed.discard(path)
            self._on_gap(self._paths[path])

    async def _on_end(
        self,
        _session: aiohttp.ClientSession,
        _context: SimpleNamespace,
        params: aiohttp.TraceRequestEndParams,
    ) -> None:
        path = params.url.path.removeprefix(self._prefix)
        if path in self._paths and params.response.status < 400:
            self._heard[path] = self._clock()
            if "watch" in params.url.query:
                self._silent.discard(path)
                self._availability.watch_accepted(self._paths[path])

    def _ages(self, times: dict[str, Any]) -> dict[str, float]:
        now = self._clock()
        ages: dict[str, float] = {}
        for path, moment in times.items():
            source = self._paths[path]
            if self._availability.is_on(source):
                plural = source.resource.plural
                ages[plural] = max(ages.get(plural, 0.0), now - moment)
        return ages
