"""Signs of life of the watches, taken from the requests that the watcher sends.

Event handlers learn neither when the watcher listed anew nor whether it still runs. Its requests tell both,
and it sends them through a session that we gave it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import aiohttp

from serval_operator.api.resources import Resource


class WatchMonitor:
    """Follows the LIST and watch requests of all watched kinds.

    Parameters
    ----------
    resources, namespaces:
        What is watched; a single None for all namespaces.
    on_gap:
        Called with a kind each time the watcher has listed it and begins to watch. What ended before that
        listing was never told by an event, so the kind has to be listed once more.
    clock:
        Monotonic seconds.
    prefix:
        Path of the API server's URL, with which the path of each request starts.
    """

    def __init__(
        self,
        resources: Iterable[Resource],
        namespaces: Iterable[str | None],
        on_gap: Callable[[Resource], None],
        clock: Callable[[], float] = time.monotonic,
        prefix: str = "",
    ) -> None:
        self._prefix = prefix
        places = tuple(namespaces)
        self._paths = {kind.path(place): kind for kind in resources for place in kind.places(places)}
        self._on_gap = on_gap
        self._clock = clock
        self._listed: set[str] = set()
        self._silent = set(self._paths)
        self._heard = dict.fromkeys(self._paths, clock())
        self._tried = dict.fromkeys(self._paths, clock())

    def staleness(self) -> dict[str, float]:
        """By plural, seconds since the API server last answered a request of that kind's watch.

        A watch is renewed at least once in its time limit, so a healthy one stays below that.
        """
        return self._ages(self._heard)

    def idleness(self) -> float:
        """Seconds since the watch of the most idle kind last sent a request, answered or not.

        That much more than a watch's time limit means that the watcher itself has stopped.
        """
        return max(self._ages(self._tried).values(), default=0.0)

    def silent(self) -> list[str]:
        """Paths whose watch the API server has never accepted yet."""
        return sorted(self._silent)

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

    def _ages(self, times: dict[str, Any]) -> dict[str, float]:
        now = self._clock()
        ages: dict[str, float] = {}
        for path, moment in times.items():
            plural = self._paths[path].plural
            ages[plural] = max(ages.get(plural, 0.0), now - moment)
        return ages
