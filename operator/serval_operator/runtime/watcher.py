"""Our own watch of the kinds whose objects change often: children, pods and nodes.

It begins where a listing ended, so nothing is listed twice, and goes on where it was cut off. Each line of
the answer is parsed once and goes to the store of its kind. Beside kopf's watch, which keeps a queue and a
task for each object, an event costs a tenth.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson
from yarl import URL

from serval_operator.api.naming import Key
from serval_operator.api.unstructured import mapping, whole
from serval_operator.errors import Gone, KubeError, Transient
from serval_operator.runtime.authentication import CONNECT_SECONDS, Connection
from serval_operator.runtime.availability import Availability, Source, is_refusal
from serval_operator.runtime.cache import Cache, selector
from serval_operator.runtime.client import answered_with
from serval_operator.runtime.kube_api import Object
from serval_operator.runtime.lister import Relister

INACTIVITY_SECONDS = 130.0
"""A watch that is silent for so long is renewed. The API server sends a bookmark each minute; for a kind that
is not used, it may send nothing in its first two minutes."""
CLIENT_SLACK_SECONDS = 10.0
"""How much longer than the API server we wait for the end of a watch request."""
SHORT_SECONDS = 1.0
"""Watches that end sooner and told nothing are repeated with pauses: a proxy may close each one at once."""
BOOKMARK, ERROR = "BOOKMARK", "ERROR"

_log = logging.getLogger(__name__)


class Watcher:
    """Watches sources, each by a separate task, without an end.

    Parameters
    ----------
    sources:
        The sources to watch.
    availability:
        Told which sources can be watched.
    enqueue:
        Called with each key whose objects changed.
    repairer:
        Lists a source again when the API server has forgotten what happened since, or refused the watch.
    seconds:
        Length of one watch request.
    backoffs:
        Pauses after failures in a row; the last one goes on.
    trace:
        Follows the requests.
    clock:
        Monotonic seconds.
    """

    def __init__(
        self,
        connection: Connection,
        cache: Cache,
        sources: Sequence[Source],
        availability: Availability,
        enqueue: Callable[[Key], None],
        repairer: Relister,
        *,
        seconds: int,
        backoffs: Sequence[float],
        trace: aiohttp.TraceConfig,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._cache = cache
        self._sources = tuple(sources)
        self._availability = availability
        self._enqueue = enqueue
        self._repairer = repairer
        self._seconds = seconds
        self._backoffs = tuple(backoffs)
        self._trace = trace
        self._sleep = sleep
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(
            total=seconds + CLIENT_SLACK_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=INACTIVITY_SECONDS
        )

    async def run(self) -> None:
        """Watch until cancelled. What was not listed yet is watched once it was."""
        async with self._connection.session(traces=[self._trace]) as session, asyncio.TaskGroup() as group:
            for source in self._sources:
                group.create_task(self._keep(session, source), name=f"watch of {source}")

    async def _keep(self, session: aiohttp.ClientSession, source: Source) -> None:
        """Watch one source, without an end."""
        await self._availability.until(lambda: self._availability.is_listed(source))
        watch = _Watch(source, self._listed_at(source))
        failures = short = 0
        while True:
            started, version = self._clock(), watch.version
            try:
                if failures or not self._availability.is_listed(source):
                    # The API server was gone, and may be back with an older state. A watch that went on would
                    # miss what was undone, and where the data have not come so far again, everything.
                    await self._list(watch)
                    started, version = self._clock(), watch.version
                await self._once(session, watch)
                failures = 0
            except Gone:
                # A listing moves the version and takes its time; neither makes the watch a useful one.
                lasted = self._clock() - started
                await self._list(watch)
                failures = 0
                started, version = self._clock() - lasted, watch.version
            except KubeError as error:
                if is_refusal(error):
                    # The listing that follows waits as long as it should.
                    self._availability.watch_refused(source, error.message)
                    continue
                pause = self._pause(failures)
                failures += 1
                _log.warning("the watch of %s broke, again in %.1f s: %s", source, pause, error)
                await self._sleep(pause)
                continue
            useful = watch.version != version or self._clock() - started >= SHORT_SECONDS
            short = 0 if useful else short + 1
            if short > 1:
                await self._sleep(self._pause(short - 2))

    def _pause(self, failures: int) -> float:
        pause = self._backoffs[min(failures, len(self._backoffs) - 1)]
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - no secret

    async def _list(self, watch: _Watch) -> None:
        await self._repairer.repair(watch.source)
        watch.version = self._listed_at(watch.source)

    def _listed_at(self, source: Source) -> int:
        return self._cache.store(source.resource).listed_at(source.namespace)

    async def _once(self, session: aiohttp.ClientSession, watch: _Watch) -> None:
        """Send one watch request, and handle its events until the API server ends it.

        Raises
        ------
        Gone
            The API server does not know any more what happened since.
        KubeError
            The request failed or was cut off.
        """
        target = watch.target(self._seconds)
        try:
            async with session.get(
                URL(self._connection.server + target, encoded=True), timeout=self._timeout
            ) as response:
                if response.status >= 400:
                    retry_after = response.headers.get("Retry-After", "")
                    raise answered_with(response.status, await response.read(), retry_after)
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for event in _events(lines, target):
                        self._take(watch, event)
        except TimeoutError as error:
            raise Transient(0, "Timeout", f"{target}: silent for too long") from error
        except (aiohttp.ClientError, OSError) as error:
            # Only the words: the error's other parts can hold the request's headers.
            raise Transient(0, "Unreachable", f"{target}: {error}") from error

    def _take(self, watch: _Watch, event: Object) -> None:
        kind, obj = event.get("type"), mapping(event, "object")
        if kind == ERROR:
            code = whole(obj.get("code"))
            raise answered_with(code or 500, orjson.dumps(obj), "")
        version = str(mapping(obj, "metadata").get("resourceVersion", ""))
        if kind != BOOKMARK:
            for key in self._cache.store(watch.source.resource).observe(kind, obj):
                self._enqueue(key)
        watch.version = int(version) if version.isdecimal() else watch.version


class _Watch:
    """A source, and the version up to which everything of it was told."""

    def __init__(self, source: Source, version: int) -> None:
        self.source = source
        self.version = version

    def target(self, seconds: int) -> str:
        """Path and query of the request that goes on."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(self.version),
            "timeoutSeconds": str(seconds),
        }
        labels = selector(self.source.resource)
        if labels:
            query["labelSelector"] = labels
        return f"{self.source.resource.path(self.source.namespace)}?{urlencode(query)}"


def _events(lines: Sequence[bytes], target: str) -> Iterator[dict[str, Any]]:
    for line in lines:
        if not line:
            continue
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise Transient(0, "NoJSON", f"{target}: an event is no JSON") from error
        if isinstance(event, dict):
            yield event
