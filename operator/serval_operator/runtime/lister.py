"""Our own listings: they fill the cache before any work begins, and repair what the watches missed."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

from serval_operator.api.naming import Key
from serval_operator.api.resources import Resource
from serval_operator.errors import KubeError
from serval_operator.runtime.availability import Availability, Source, is_refusal
from serval_operator.runtime.cache import Cache, selector
from serval_operator.runtime.kube_api import KubeApi
from serval_operator.runtime.metrics import Metrics

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0
"""Bounds, in seconds, of the pause before a listing that failed for a passing reason is tried again."""

SPREAD = 0.1
"""Part of the interval by which listings of everything come earlier or later, so that operators that were
started together do not list together for ever."""

COLLECT_SECONDS = 0.2
"""Gaps mostly come together; those of a source that come so soon after the first are handled as one."""

OWNERS_FIRST_SECONDS = 2.0
"""How long the listing of a child waits for those of the custom resources, which may fail."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class _Due:
    """A source that may have to be listed.

    Attributes
    ----------
    event:
        Set when it has to be listed.
    """

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self._next: asyncio.Future[None] | None = None
        self._under_way: asyncio.Future[None] | None = None

    def ask(self) -> asyncio.Future[None]:
        """Ask for a listing; returns a future that is resolved after it."""
        self.event.set()
        self._next = self._next or asyncio.get_running_loop().create_future()
        return self._next

    def begin(self) -> None:
        """A listing begins. The next one answers requests that come from now on."""
        self.event.clear()
        self._under_way, self._next = self._next, None

    def end(self) -> None:
        """The listing has succeeded."""
        if self._under_way is not None and not self._under_way.done():
            self._under_way.set_result(None)

    def pending(self) -> list[asyncio.Future[None]]:
        """Futures that are resolved after the listings that are asked for or under way."""
        return [one for one in (self._under_way, self._next) if one is not None and not one.done()]


class Relister:
    """Lists all sources: at start, every so often, and where a watch had a gap.

    Each source is listed by a separate task with its own pauses, so that one that fails delays no other.

    Parameters
    ----------
    availability:
        The sources. Records which of them can be listed.
    owners:
        Kinds of custom resources. They are listed before a child of the same namespace: a child of an owner
        that is gone must not be created again.
    enqueue:
        Called with each key whose objects differed.
    interval:
        Seconds between two listings of everything, give or take.
    before_on:
        Called with a kind of custom resources before one of its sources comes on. It must not fail.
    on_try:
        Called with a source before each listing of it.
    """

    def __init__(
        self,
        lister: KubeApi,
        cache: Cache,
        availability: Availability,
        owners: Collection[Resource],
        enqueue: Callable[[Key], None],
        meter: Metrics,
        *,
        interval: float,
        before_on: Callable[[Resource], Awaitable[None]] | None = None,
        on_try: Callable[[Source], None] = lambda _: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._lister = lister
        self._cache = cache
        self._availability = availability
        self._owners = tuple(source for source in availability.sources if source.resource in owners)
        self._enqueue = enqueue
        self._meter = meter
        self._interval = interval
        self._before_on = before_on
        self._on_try = on_try
        self._sleep = sleep
        self._due = {source: _Due() for source in availability.sources}
        self._errors: dict[Source, KubeError] = {}

    def gap(self, source: Source) -> None:
        """The watch of a source has missed something: list it soon."""
        for one in (*self._owners_of(source), source):
            self._due[one].ask()

    async def repair(self, source: Source) -> None:
        """List a source soon; returns once that is done, however often it has to be tried."""
        self.gap(source)
        await asyncio.shield(self._due[source].ask())

    async def fill(self, limit: float) -> None:
        """Fill the cache with all that can be listed, and mark it as synced.

        It leaves out sources that are refused again and again, and waits for those that fail otherwise.

        Raises
        ------
        KubeError
            No custom resources could be listed within ``limit`` seconds; what failed last.
        """
        wanted = [source for source in self._availability.sources if self._availability.is_wanted(source)]
        tasks = [asyncio.create_task(self._list_until_done(source)) for source in wanted]
        try:
            async with asyncio.timeout(limit):
                await self._availability.until(self._availability.can_begin)
        except TimeoutError:
            if not self._availability.some_listed():
                raise self._failure() from None
            missing = ", ".join(str(one) for one in wanted if not self._availability.is_listed(one))
            _log.warning("work begins without what could not be listed in %.0f s: %s", limit, missing)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled():
                task.result()
        self._cache.synced = True

    async def run(self) -> None:
        """Repair the cache for ever. A listing that fails is tried again; the watches go on meanwhile."""
        async with asyncio.TaskGroup() as group:
            for source in self._availability.sources:
                if self._availability.is_wanted(source) and not self._availability.is_listed(source):
                    self.gap(source)
                group.create_task(self._keep(source), name=f"listing of {source}")
            group.create_task(self._list_everything(), name="regular listings")

    async def _list_everything(self) -> None:
        while True:
            spread = random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - no secret
            await self._sleep(self._interval * spread)
            for source in self._availability.sources:
                if self._availability.is_wanted(source):
                    self.gap(source)

    async def _keep(self, source: Source) -> None:
        """List a source each time that it is due."""
        due = self._due[source]
        while True:
            await due.event.wait()
            await self._sleep(max(COLLECT_SECONDS, self._availability.pause(source)))
            await self._let_owners_come_first(source)
            due.begin()
            keys = await self._list_until_done(source)
            due.end()
            if keys:
                self._meter.repaired(source.resource.plural, keys)
                _log.info("a listing of %s told something new about %d objects", source, keys)

    async def _let_owners_come_first(self, source: Source) -> None:
        """Wait a moment for the listings of custom resources that are due and not off."""
        listed = filter(self._availability.is_listed, self._owners_of(source))
        due = [done for owner in listed for done in self._due[owner].pending()]
        limit = asyncio.ensure_future(self._sleep(OWNERS_FIRST_SECONDS))
        try:
            while not limit.done() and (open_ := [done for done in due if not done.done()]):
                await asyncio.wait([limit, *open_], return_when=asyncio.FIRST_COMPLETED)
        finally:
            limit.cancel()

    def _owners_of(self, source: Source) -> list[Source]:
        """Sources of the custom resources whose children are in a source; nodes have none."""
        if source in self._owners or not source.resource.namespaced:
            return []
        return [owner for owner in self._owners if source.namespace in (None, owner.namespace)]

    async def _list_until_done(self, source: Source) -> int:
        """List one source however often that takes; returns the number of keys that have to look again."""
        failures = 0
        while True:
            try:
                return await self._list(source)
            except KubeError as error:
                pause = self._failed(source, error, min(FIRST_PAUSE * 2**failures, LONGEST_PAUSE))
            failures = min(failures + 1, 10)
            await self._sleep(pause)

    def _failed(self, source: Source, error: KubeError, pause: float) -> float:
        """Take note of a listing that failed; returns the pause before the next one."""
        self._errors[source] = error
        if is_refusal(error):
            self._availability.refused(source, error.message)
            return self._availability.pause(source)
        self._availability.failed(source, str(error))
        _log.warning("cannot list %s, will try again: %s", source, error)
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - no secret

    async def _list(self, source: Source) -> int:
        """List one source into the cache, and enqueue the keys that have to look again."""
        self._on_try(source)
        store: Any = self._cache.store(source.resource)
        before = store.newest
        found, _ = await asyncio.gather(
            self._lister.list_as(
                store.parse, source.resource, source.namespace, label_selector=selector(source.resource)
            ),
            self._prepare(source),
        )
        changed = store.replace(found.items, found.resource_version, source.namespace, before=before)
        self._errors.pop(source, None)
        self._availability.listed(source)
        if self._cache.synced:
            for key in changed:
                self._enqueue(key)
        return len(changed)

    async def _prepare(self, source: Source) -> None:
        """Do what must be done before a source of custom resources comes on."""
        if self._before_on and source in self._owners and not self._availability.is_listed(source):
            await self._before_on(source.resource)

    def _failure(self) -> KubeError:
        """The error to end with: of custom resources, where one of them failed."""
        for source in (*self._owners, *self._availability.sources):
            if source in self._errors:
                return self._errors[source]
        return KubeError(0, "Timeout", "the API server did not answer in time")


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
