"""Our own watch of the kinds whose objects change often: children, pods and nodes.

It begins where a listing ended, so nothing is listed twice, and goes on where it was cut off. Each line of
the answer is parsed once and goes to the store of its kind. Beside kopf's watch, which keeps a queue and a
task for each object, an event costs a tenth.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

import aiohttp
import orjson
from yarl import URL

from serval_operator.api.naming import Key
from serval_operator.api.resources import Resource
from serval_operator.api.unstructured import mapping, whole
from serval_operator.errors import Gone, KubeError, Transient
from serval_operator.runtime.authentication import CONNECT_SECONDS, Connection
from serval_operator.runtime.cache import Cache, selector
from serval_operator.runtime.client import answered_with
from serval_operator.runtime.kube_api import Object

INACTIVITY_SECONDS = 130.0
"""A watch that is silent for so long is renewed. The API server sends a bookmark each minute; for a kind that
is not used, it may send nothing in its first two minutes."""
CLIENT_SLACK_SECONDS = 10.0
"""How much longer than the API server we wait for the end of a watch request."""
BOOKMARK, ERROR = "BOOKMARK", "ERROR"

_log = logging.getLogger(__name__)


class Repairer(Protocol):
    """Lists a kind where a watch cannot go on."""

    async def repair(self, resource: Resource) -> None:
        """List a kind into the cache; returns once that is done."""


class Watcher:
    """Watches kinds, each in each namespace by a separate task, without an end.

    Parameters
    ----------
    kinds, namespaces:
        What is watched; a single None for all namespaces.
    enqueue:
        Called with each key whose objects changed.
    repairer:
        Lists a kind again when the API server has forgotten what happened since.
    seconds:
        Length of one watch request.
    backoffs:
        Pauses after failures in a row; the last one goes on.
    trace:
        Follows the requests.
    """

    def __init__(
        self,
        connection: Connection,
        cache: Cache,
        kinds: Sequence[Resource],
        namespaces: Sequence[str | None],
        enqueue: Callable[[Key], None],
        repairer: Repairer,
        *,
        seconds: int,
        backoffs: Sequence[float],
        trace: aiohttp.TraceConfig,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connection = connection
        self._cache = cache
        self._places = [(kind, place) for kind in kinds for place in kind.places(namespaces)]
        self._enqueue = enqueue
        self._repairer = repairer
        self._seconds = seconds
        self._backoffs = tuple(backoffs)
        self._trace = trace
        self._sleep = sleep
        self._timeout = aiohttp.ClientTimeout(
            total=seconds + CLIENT_SLACK_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=INACTIVITY_SECONDS
        )

    async def run(self) -> None:
        """Watch until cancelled. The cache must have been filled."""
        async with self._connection.session(traces=[self._trace]) as session, asyncio.TaskGroup() as group:
            for kind, place in self._places:
                watch = _Watch(kind, place, self._cache.store(kind).listed_at(place))
                group.create_task(self._keep(session, watch), name=f"watch of {kind.plural}")

    async def _keep(self, session: aiohttp.ClientSession, watch: _Watch) -> None:
        """Watch one kind in one namespace, without an end."""
        failures = 0
        while True:
            try:
                if failures:
                    # The API server was gone, and may be back with an older state. A watch that went on would
                    # miss what was undone, and where the data have not come so far again, everything.
                    await self._list(watch)
                await self._once(session, watch)
                failures = 0
            except Gone:
                await self._list(watch)
            except KubeError as error:
                pause = self._backoffs[min(failures, len(self._backoffs) - 1)]
                failures += 1
                _log.warning("the watch of %s broke, again in %.1f s: %s", watch.kind.plural, pause, error)
                await self._sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret

    async def _list(self, watch: _Watch) -> None:
        await self._repairer.repair(watch.kind)
        watch.version = self._cache.store(watch.kind).listed_at(watch.place)

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
            for key in self._cache.store(watch.kind).observe(kind, obj):
                self._enqueue(key)
        watch.version = int(version) if version.isdecimal() else watch.version


class _Watch:
    """One kind in one place, and the version up to which everything of it was told."""

    def __init__(self, kind: Resource, place: str | None, version: int) -> None:
        self.kind = kind
        self.place = place
        self.version = version

    def target(self, seconds: int) -> str:
        """Path and query of the request that goes on."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(self.version),
            "timeoutSeconds": str(seconds),
        }
        labels = selector(self.kind)
        if labels:
            query["labelSelector"] = labels
        return f"{self.kind.path(self.place)}?{urlencode(query)}"


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
