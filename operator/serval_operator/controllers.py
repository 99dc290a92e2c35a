"""What an operator does while it is the one that works: watch, list, reconcile. Its parts, wired together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime

from serval_operator.api.naming import Key
from serval_operator.cluster.capacity_reader import ClusterSupplier
from serval_operator.config import Configuration
from serval_operator.informer.kopf_informer import Informer
from serval_operator.pods.event_reader import EventReader
from serval_operator.reconcile.context import Context
from serval_operator.reconcile.controller import KindController
from serval_operator.registry import KINDS
from serval_operator.runtime.access_review import Access
from serval_operator.runtime.authentication import Connection
from serval_operator.runtime.cache import Cache, watched
from serval_operator.runtime.client import KubeClient
from serval_operator.runtime.event_recorder import EventRecorder
from serval_operator.runtime.lister import Relister
from serval_operator.runtime.metrics import Metrics
from serval_operator.runtime.node_store import Sweep
from serval_operator.runtime.pod_metrics import HttpProber
from serval_operator.runtime.reconciler import Reconciler
from serval_operator.runtime.references import References
from serval_operator.runtime.watch_health import WatchMonitor
from serval_operator.runtime.watcher import Watcher
from serval_operator.runtime.work_queue import WorkQueue, resync
from serval_operator.settings import Settings

STALLED_SECONDS = 300.0
"""With work to do, no reconcile has ended for so long, or one has run for so long: something hangs. Each
request has its own limit far below."""
RENEWAL_SLACK_SECONDS = 360.0
"""A watch that sent no request for so much longer than its limit has stopped; attempts that fail count."""
WATCHES = "watches"
"""Name of the task that ends by `Work.deafen`, not by being cancelled."""

_log = logging.getLogger("serval_operator")


class Work:
    """The parts of an operator that works.

    Parameters
    ----------
    client:
        Carries all requests but those of the watches; closed by its creator.
    access:
        What the operator may see beyond its own objects.
    now:
        Aware UTC time, by the clock that writes the cluster's time stamps.
    on_started:
        Called once kopf has taken over the process's signals, so that they can be taken back.
    """

    def __init__(
        self,
        settings: Settings,
        configuration: Configuration,
        connection: Connection,
        client: KubeClient,
        metrics: Metrics,
        access: Access,
        now: Callable[[], datetime],
        on_started: Callable[[], None],
    ) -> None:
        self._settings = settings
        namespaces = settings.watch_namespaces or (None,)
        loop = asyncio.get_running_loop()
        kinds = tuple(kind.resource for kind in KINDS)
        owned = dict.fromkeys(resource for kind in KINDS for resource in kind.owns)
        self._watched = watched(kinds, owned, nodes=access.nodes)
        sweep = Sweep(self._wake_waiting, loop)
        self.cache = Cache(
            kinds,
            sweep.ask,
            finished={kind.resource: kind.finished for kind in KINDS},
        )
        self._references = References()
        self._supplier = ClusterSupplier(client, self.cache, access, now, time.monotonic, sweep.ask)
        context = Context(
            configuration=configuration,
            api=client,
            cache=self.cache,
            meter=metrics,
            recorder=EventRecorder(client, metrics),
            supplier=self._supplier,
            events=EventReader(client, now),
            prober=HttpProber(),
            references=self._references,
            now=now,
            clock=time.monotonic,
            wake=self._enqueue,
            hide_foreign=settings.hide_foreign_holders,
        )
        self._reconciler = Reconciler(
            self.cache, {kind.resource.kind: KindController(kind, context) for kind in KINDS}
        )
        self.queue = WorkQueue(
            self._reconciler.reconcile,
            workers=settings.workers,
            meter=metrics,
            clock=loop,
            is_known=self.cache.is_judged,
        )
        self._relister = Relister(
            client,
            self.cache,
            self._watched,
            kinds,
            namespaces,
            self._enqueue,
            metrics,
            interval=settings.relist_seconds,
        )
        self._monitor = WatchMonitor(self._watched, namespaces, self._relister.gap)
        self._informer = Informer(
            connection,
            self.cache,
            kinds,
            self._enqueue,
            settings,
            self._monitor.trace(),
            on_started,
        )
        self._watcher = Watcher(
            connection,
            self.cache,
            [kind for kind in self._watched if kind not in kinds],
            namespaces,
            self._enqueue,
            self._relister,
            seconds=settings.watch_timeout_seconds,
            backoffs=settings.watch_backoffs,
            trace=self._monitor.trace(),
        )
        self._working = False
        self._publish(metrics)

    async def fill(self) -> None:
        """Fill the cache by complete listings.

        Raises
        ------
        KubeError
            It did not succeed in time; what failed last.
        """
        await self._relister.fill(self._settings.start_seconds)

    def start(self) -> list[asyncio.Task[None]]:
        """Start the tasks that run until the end, once the cache is filled."""
        keys = self.cache.owners()
        _log.info("reconciling %d objects", len(keys))
        for key in keys:
            self.queue.add(key)
        resyncing = resync(self.queue, self.cache.unfinished, self._settings.resync_seconds)
        self._working = True
        return [
            asyncio.create_task(self.queue.run(), name="work"),
            asyncio.create_task(resyncing, name="resync"),
            asyncio.create_task(self._relister.run(), name="listings"),
            asyncio.create_task(self._watcher.run(), name="watches of children"),
            asyncio.create_task(self._informer.run(), name=WATCHES),
        ]

    def deafen(self) -> None:
        """Let the watches end."""
        self._informer.stop()

    def hung(self) -> str | None:
        """Problem of the work; None if there is none."""
        state = self.queue.state()
        if self._working and state.workers < self._settings.workers:
            return f"{state.workers} of {self._settings.workers} workers are alive"
        if max(state.stalled, state.longest) > STALLED_SECONDS:
            return f"no reconcile ended for {state.stalled:.0f} s, one runs for {state.longest:.0f} s"
        return None

    def deaf(self) -> str | None:
        """Problem of the watches; None if there is none."""
        idle = self._monitor.idleness()
        limit = self._settings.watch_timeout_seconds + RENEWAL_SLACK_SECONDS
        return f"a watch was not renewed for {idle:.0f} s" if idle > limit else None

    def unready(self) -> str | None:
        """Reason why the operator is not ready; None if it is."""
        if not self.cache.synced:
            return "the first listing is not complete"
        silent = self._monitor.silent()
        return f"not watching yet: {', '.join(silent)}" if silent else None

    def _enqueue(self, key: Key) -> None:
        """Let an object look again, and those that name it, if their kinds are reconciled here."""
        for one in (key, *self._references.referrers(key)):
            if self._reconciler.knows(one):
                self.queue.add(one)

    def _wake_waiting(self) -> None:
        """Nodes changed, or what is free became known: let those look again that wait for a place."""
        for key in self._reconciler.waiting():
            self.queue.add(key)

    def _publish(self, metrics: Metrics) -> None:
        """Metrics that are read when they are asked for."""
        gauge, queue = metrics.watch_state, self.queue
        gauge("queue_depth", "Keys that wait for a worker.", "", lambda: {"": queue.state().waiting})
        gauge("queue_active", "Keys that are being reconciled.", "", lambda: {"": queue.state().active})
        gauge(
            "queue_oldest_seconds",
            "Wait of the oldest key in the queue.",
            "",
            lambda: {"": queue.state().oldest},
        )
        gauge(
            "watch_staleness_seconds",
            "Time since the API server last answered a request of the watch.",
            "resource",
            self._monitor.staleness,
        )
        gauge(
            "cached_objects",
            "Objects in the cache.",
            "resource",
            lambda: {kind.plural: len(self.cache.store(kind)) for kind in self._watched},
        )
        gauge(
            "capacity_unreadable",
            "1 while what a capacity verdict needs cannot be read, else 0.",
            "source",
            self._supplier.faults,
        )
