"""Our own listings: they fill the cache before any work begins, and repair what the watches missed."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

from serval_operator.api.naming import Key
from serval_operator.api.resources import Resource
from serval_operator.errors import KubeError
from serval_operator.runtime.cache import Cache, selector
from serval_operator.runtime.client import Converted
from serval_operator.runtime.kube_api import Object

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0
"""Bounds, in seconds, of the pause before a listing that failed is tried again."""

SPREAD = 0.1
"""Part of the interval by which listings of everything come earlier or later, so that operators that were
started together do not list together for ever."""

COLLECT_SECONDS = 0.2
"""Gaps mostly come together, one for each kind; so long after the first they are handled as one."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Lister(Protocol):
    """The part of the client that listings use."""

    async def list_as(
        self,
        convert: Callable[[Object], _T],
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Converted[_T]:
        """Read all objects of a kind and keep of each what ``convert`` makes of it."""


class ListingMeter(Protocol):
    """Takes the figures of listings."""

    def repaired(self, resource: str, models: int) -> None:
        """A listing of a kind differed from the cache, about so many ModelDeployments."""


class Relister:
    """Lists all watched kinds: at start, every so often, and where a watch had a gap.

    Parameters
    ----------
    kinds:
        What to list.
    owners:
        Those of them that own others: they are listed first, and always.
    namespaces:
        Namespaces to list; a single None for all.
    enqueue:
        Called with each key whose objects differed.
    interval:
        Seconds between two listings of everything, give or take.
    """

    def __init__(
        self,
        lister: Lister,
        cache: Cache,
        kinds: Sequence[Resource],
        owners: Collection[Resource],
        namespaces: Sequence[str | None],
        enqueue: Callable[[Key], None],
        meter: ListingMeter,
        *,
        interval: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._lister = lister
        self._cache = cache
        self._kinds = tuple(kinds)
        self._owners = frozenset(owners)
        self._namespaces = tuple(namespaces)
        self._enqueue = enqueue
        self._meter = meter
        self._interval = interval
        self._sleep = sleep
        self._gaps: dict[Resource, None] = {}
        self._repairs: dict[Resource, asyncio.Future[None]] = {}
        self._wake = asyncio.Event()
        self._everything_at = 0.0

    def gap(self, resource: Resource) -> None:
        """The watch of a kind has missed something: list that kind soon."""
        self._gaps[resource] = None
        self._wake.set()

    async def repair(self, resource: Resource) -> None:
        """List a kind soon; returns once that is done, however often it has to be tried."""
        if resource not in self._repairs:
            self._repairs[resource] = asyncio.get_running_loop().create_future()
        self.gap(resource)
        await asyncio.shield(self._repairs[resource])

    async def fill(self, limit: float) -> None:
        """Fill the cache, however often that takes, and mark it as synced.

        Raises
        ------
        KubeError
            It did not succeed within ``limit`` seconds; what failed last.
        """
        await insist(self._fill, limit, self._sleep)
        self._cache.synced = True

    async def run(self) -> None:
        """Repair the cache for ever. A listing that fails is tried again; the watches go on meanwhile."""
        self._everything_at = self._next()
        while True:
            due = await self._due()
            pause = FIRST_PAUSE
            while due:
                try:
                    await self._repair(due[0])
                    due.pop(0)
                    pause = FIRST_PAUSE
                except KubeError as error:
                    _log.warning("cannot list %s, will try again: %s", due[0].plural, error)
                    await self._sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
                    pause = min(pause * 2, LONGEST_PAUSE)

    async def _fill(self) -> None:
        """List all kinds side by side: while one page is read here, the API server writes another.

        All of them are waited for even when one fails: the next attempt must not meet a listing of this one.
        """
        results = await asyncio.gather(*map(self._list, self._kinds), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _due(self) -> list[Resource]:
        """Wait for a gap or for the interval to pass; the kinds to be listed now."""
        try:
            async with asyncio.timeout_at(self._everything_at):
                await self._wake.wait()
        except TimeoutError:
            self._gaps = dict.fromkeys(self._kinds)
            self._everything_at = self._next()
        else:
            await self._sleep(COLLECT_SECONDS)
        # Custom resources first, and always: what was a child of one that is gone is missed by nobody, and
        # a reconcile that does not know so would make it anew.
        due = [kind for kind in self._kinds if kind in self._gaps or kind in self._owners]
        self._wake.clear()
        self._gaps.clear()
        return due

    def _next(self) -> float:
        spread = random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - no secret
        return asyncio.get_running_loop().time() + self._interval * spread

    async def _repair(self, resource: Resource) -> None:
        keys = await self._list(resource)
        for key in keys:
            self._enqueue(key)
        awaited = self._repairs.pop(resource, None)
        if awaited and not awaited.done():
            awaited.set_result(None)
        if keys:
            self._meter.repaired(resource.plural, len(keys))
            _log.info(
                "a listing of %s told something new about %d ModelDeployments", resource.plural, len(keys)
            )

    async def _list(self, resource: Resource) -> set[Key]:
        """List one kind into the cache; the keys that have to look again."""
        store: Any = self._cache.store(resource)
        changed: set[Key] = set()
        for namespace in resource.places(self._namespaces):
            before = store.newest
            found = await self._lister.list_as(
                store.parse, resource, namespace, label_selector=selector(resource)
            )
            changed |= store.replace(found.items, found.resource_version, namespace, before=before)
        return changed


async def insist(
    attempt: Callable[[], Awaitable[_T]],
    limit: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> _T:
    """Try something at the API server until it succeeds: at the start, roles or a CRD may still be coming.

    Raises
    ------
    KubeError
        It did not succeed within ``limit`` seconds; what failed last.
    """
    last: KubeError | None = None
    pause = FIRST_PAUSE
    try:
        async with asyncio.timeout(limit):
            while True:
                try:
                    return await attempt()
                except KubeError as error:
                    last = error
                    _log.warning("cannot begin yet, will try again: %s", error)
                await sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
    except TimeoutError:
        raise last or KubeError(0, "Timeout", "the API server did not answer in time") from None
