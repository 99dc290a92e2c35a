"""What an operator does while it is the one that works: watch, list, reconcile. Its parts, wired together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from serval_operator.api.naming import Key
from serval_operator.cluster.capacity_reader import ClusterSupplier
from serval_operator.cluster.priority_reader import PriorityReader
from serval_operator.config import Configuration
from serval_operator.pods.event_reader import EventReader
from serval_operator.reconcile.contest import Contest
from serval_operator.reconcile.context import Context
from serval_operator.reconcile.controller import KindController
from serval_operator.reconcile.kind import Kind
from serval_operator.reconcile.reconciler import Reconciler
from serval_operator.runtime.access_review import Access
from serval_operator.runtime.authentication import Connection
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.client import KubeClient
from serval_operator.runtime.event_recorder import EventRecorder
from serval_operator.runtime.metrics import Metrics
from serval_operator.runtime.node_store import Sweep
from serval_operator.runtime.pod_metrics import HttpProber
from serval_operator.runtime.references import References
from serval_operator.runtime.work_queue import WorkQueue, resync
from serval_operator.settings import Settings
from serval_operator.watching import Watching

STALLED_SECONDS = 300.0
"""With work to do, no reconcile has ended for so long, or one has run for so long: something hangs. Each
request has its own limit far below."""

_log = logging.getLogger("serval_operator")


class Work:
    """The parts of an operator that works.

    Parameters
    ----------
    kinds:
        Kinds to reconcile.
    client:
        Carries all requests but those of the watches; closed by its creator.
    access:
        What the operator may see beyond its own objects.
    now:
        Aware UTC time, by the clock that writes the cluster's time stamps.
    on_started:
        Called each time kopf has taken over the process's signals, so that they can be taken back.
    """

    def __init__(
        self,
        settings: Settings,
        configuration: Configuration,
        kinds: Sequence[Kind],
        connection: Connection,
        client: KubeClient,
        metrics: Metrics,
        access: Access,
        now: Callable[[], datetime],
        on_started: Callable[[], None],
    ) -> None:
        self._settings = settings
        loop = asyncio.get_running_loop()
        sweep = Sweep(self._wake_waiting, loop)
        self.cache = Cache(
            [kind.resource for kind in kinds],
            sweep.ask,
            finished={kind.resource: kind.finished for kind in kinds},
        )
        self._references = References()
        self.watching = Watching(
            settings, connection, client, kinds, self.cache, metrics, access, self._enqueue, on_started
        )
        self._supplier = ClusterSupplier(
            client, self.cache, self.watching.access, now, time.monotonic, sweep.ask
        )
        self._priorities = PriorityReader(client, self.watching.access, time.monotonic)
        self._contest = Contest(
            self.cache,
            {kind.resource.kind: kind.claim for kind in kinds},
            configuration,
            self._priorities,
            self._wake,
            now,
            frozenset(kind.resource.kind for kind in kinds if kind.always_claims),
        )
        context = self._context(configuration, client, metrics, now)
        self._reconciler = Reconciler(
            self.cache,
            {kind.resource.kind: KindController(kind, context) for kind in kinds},
            self.watching.availability.serves,
        )
        self.queue = WorkQueue(
            self._reconciler.reconcile,
            workers=settings.workers,
            meter=metrics,
            clock=loop,
            is_known=self.cache.is_judged,
        )
        self._working = False
        self._publish(metrics)

    def _context(
        self,
        configuration: Configuration,
        client: KubeClient,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> Context:
        """What the controllers of all kinds share."""
        return Context(
            configuration=configuration,
            api=client,
            cache=self.cache,
            meter=metrics,
            recorder=EventRecorder(client, metrics, now=now),
            supplier=self._supplier,
            events=EventReader(client, now),
            prober=HttpProber(),
            references=self._references,
            contest=self._contest,
            now=now,
            clock=time.monotonic,
            wake=self._enqueue,
            hide_foreign=self._settings.hide_foreign_holders,
        )

    async def fill(self) -> None:
        """Fill the cache by complete listings of all that can be listed.

        Raises
        ------
        KubeError
            No custom resources could be listed in time; what failed last.
        """
        await self.watching.fill()

    def start(self) -> list[asyncio.Task[None]]:
        """Start the tasks that run until the end, once the cache is filled."""
        keys = self.cache.owners()
        _log.info("reconciling %d objects", len(keys))
        for key in keys:
            self._contest.touch(key)
            self.queue.add(key)
        resyncing = resync(self.queue, self.cache.unfinished, self._settings.resync_seconds)
        self._working = True
        return [
            asyncio.create_task(self.queue.run(), name="work"),
            asyncio.create_task(resyncing, name="resync"),
            *self.watching.start(),
        ]

    def hung(self) -> str | None:
        """Problem of the work; None if there is none."""
        state = self.queue.state()
        if self._working and state.workers < self._settings.workers:
            return f"{state.workers} of {self._settings.workers} workers are alive"
        if max(state.stalled, state.longest) > STALLED_SECONDS:
            return f"no reconcile ended for {state.stalled:.0f} s, one runs for {state.longest:.0f} s"
        return None

    def _enqueue(self, key: Key) -> None:
        """Let an object look again, and those that name it, if their kinds are reconciled here."""
        self._contest.touch(key)
        for one in (key, *self._references.referrers(key)):
            self._wake(one)

    def _wake(self, key: Key) -> None:
        """Let an object look again, if its kind is reconciled here."""
        if self._reconciler.knows(key):
            self.queue.add(key)

    def _wake_waiting(self) -> None:
        """Nodes changed, or the free devices became known: let those look again that wait for a place."""
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
            self.watching.monitor.staleness,
        )
        metrics.watch_states(
            "watch_up",
            "1 where a kind can be listed and watched, 0 where it is missing, forbidden or too old.",
            ("resource", "namespace"),
            self.watching.availability.up,
        )
        gauge(
            "cached_objects",
            "Objects in the cache.",
            "resource",
            lambda: {kind.plural: len(self.cache.store(kind)) for kind in self.watching.resources},
        )
        gauge(
            "capacity_unreadable",
            "1 while what a capacity verdict needs cannot be read, else 0.",
            "source",
            lambda: {**self._supplier.faults(), "priorities": float(self._priorities.fault.lasts)},
        )
