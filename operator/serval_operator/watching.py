"""What an operator sees of the cluster: listings, watches and what they may read, wired together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from serval_operator.api.naming import Key
from serval_operator.api.resources import NODES, Resource
from serval_operator.informer.informers import Informers
from serval_operator.reconcile.kind import Kind
from serval_operator.runtime.access_review import Access, AccessReviewer
from serval_operator.runtime.authentication import Connection
from serval_operator.runtime.availability import Availability, Source, sources
from serval_operator.runtime.cache import Cache, watched
from serval_operator.runtime.client import KubeClient
from serval_operator.runtime.lister import Relister
from serval_operator.runtime.metrics import Metrics
from serval_operator.runtime.schema_check import SchemaCheck
from serval_operator.runtime.watch_health import WatchMonitor
from serval_operator.runtime.watcher import Watcher
from serval_operator.settings import Settings

RENEWAL_SLACK_SECONDS = 360.0
"""A watch that sent no request for so much longer than its limit has stopped; attempts that fail count."""
WATCHES = "watches"
"""Name of the task that ends by `Watching.stop`, not by being cancelled."""
NODE_SOURCE = Source(NODES, None)


class Watching:
    """Keeps a cache up to date.

    Parameters
    ----------
    client:
        Carries the listings and reviews.
    access:
        What the operator may see beyond its own objects, as found at the start.
    enqueue:
        Called with each key about which there is something new.
    on_started:
        Called each time kopf has taken over the process's signals, so that they can be taken back.
    """

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        client: KubeClient,
        kinds: Sequence[Kind],
        cache: Cache,
        metrics: Metrics,
        access: Access,
        enqueue: Callable[[Key], None],
        on_started: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._cache = cache
        self._enqueue = enqueue
        owners = tuple(kind.resource for kind in kinds)
        owned = dict.fromkeys(resource for kind in kinds for resource in kind.owns)
        self.resources = watched(owners, owned, nodes=True)
        all_sources = sources(self.resources, settings.watch_namespaces or (None,))
        self.availability = Availability(
            all_sources, {kind.resource: kind.needs for kind in kinds}, self._changed
        )
        if not access.nodes:
            self.availability.unwanted(NODE_SOURCE)
        self._reviewer = AccessReviewer(client, access, self._access_changed)
        self._schemas = SchemaCheck(
            client, {kind.resource: kind.crd.schema() for kind in kinds}, self.availability
        )
        self._relister = self._lister(client, owners, metrics)
        self.monitor = WatchMonitor(self.availability, self._relister.gap, prefix=connection.prefix)
        ours = [one for one in all_sources if one.resource in owners]
        self._informers = self._kopf(connection, ours, on_started)
        self._watcher = self._children(connection, [one for one in all_sources if one not in ours])

    def _lister(self, client: KubeClient, owners: Sequence[Resource], metrics: Metrics) -> Relister:
        return Relister(
            client,
            self._cache,
            self.availability,
            owners,
            self._enqueue,
            metrics,
            interval=self._settings.relist_seconds,
            before_on=self._schemas.check,
            on_try=self._tried,
        )

    def _children(self, connection: Connection, children: Sequence[Source]) -> Watcher:
        return Watcher(
            connection,
            self._cache,
            children,
            self.availability,
            self._enqueue,
            self._relister,
            seconds=self._settings.watch_timeout_seconds,
            backoffs=self._settings.watch_backoffs,
            trace=self.monitor.trace(),
        )

    def _kopf(
        self, connection: Connection, owners: Sequence[Source], on_started: Callable[[], None]
    ) -> Informers:
        return Informers(
            connection,
            self._cache,
            owners,
            self._enqueue,
            self._settings,
            self.availability,
            self.monitor,
            self.monitor.trace(),
            self._refused,
            on_started,
        )

    async def fill(self) -> None:
        """Fill the cache by complete listings of all that can be listed.

        Raises
        ------
        KubeError
            No custom resources could be listed in time; what failed last.
        """
        await self._relister.fill(self._settings.start_seconds)

    def start(self) -> list[asyncio.Task[None]]:
        """Start the tasks that run until the end, once the cache is filled."""
        return [
            asyncio.create_task(self._relister.run(), name="listings"),
            asyncio.create_task(self._watcher.run(), name="watches of children"),
            asyncio.create_task(self._reviewer.run(), name="reviews of access"),
            asyncio.create_task(self._schemas.run(), name="checks of schemas"),
            asyncio.create_task(self._informers.run(), name=WATCHES),
        ]

    def stop(self) -> None:
        """Let the watches end."""
        self._informers.stop()

    def access(self) -> Access:
        """What the operator may see now beyond its own objects."""
        access = self._reviewer.access
        return replace(access, nodes=access.nodes and self.availability.is_on(NODE_SOURCE))

    def deaf(self) -> str | None:
        """Problem of the watches; None if there is none."""
        idle = self.monitor.idleness()
        limit = self._settings.watch_timeout_seconds + RENEWAL_SLACK_SECONDS
        return f"a watch was not renewed for {idle:.0f} s" if idle > limit else None

    def unready(self) -> str | None:
        """Reason why nothing is watched completely; None if all that can be watched is."""
        if not self._cache.synced:
            return "the first listing is not complete"
        if not self.availability.serves_any():
            return f"no kind can be served: {self.remark()}"
        silent = self.monitor.silent()
        return f"not watching yet: {', '.join(silent)}" if silent else None

    def remark(self) -> str:
        """What cannot be served, and why; empty if all can."""
        off = self.availability.off()
        return "; ".join(f"{source} is off: {problem}" for source, problem in off.items())

    def _tried(self, source: Source) -> None:
        """A source is about to be listed. While that fails, no watch of it is tried."""
        self.monitor.tried(source)

    def _refused(self, source: Source, problem: str) -> None:
        """The API server refused a request of kopf."""
        if self.availability.is_listed(source):
            self.availability.watch_refused(source, problem)
            self._relister.gap(source)

    def _changed(self, source: Source) -> None:
        """A source came on or went off."""
        if not self.availability.is_on(source):
            self._reviewer.ask_soon()
            return
        self.monitor.expect(source)
        if self._cache.synced and source.resource.namespaced:
            for key in self._cache.owners():
                if source.namespace in (None, key.namespace) and self.availability.serves(key):
                    self._enqueue(key)

    def _access_changed(self, access: Access) -> None:
        """Permissions were given or taken away."""
        if access.nodes and not self.availability.is_wanted(NODE_SOURCE):
            self.availability.wanted(NODE_SOURCE)
            self._relister.gap(NODE_SOURCE)
