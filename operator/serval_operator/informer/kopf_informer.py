"""kopf as our informer of ModelDeployments: it watches them and calls the handlers, no more.

What changes more often than they do, `serval_operator.runtime.watcher` watches at a tenth of the cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat

import aiohttp
import kopf

from serval_operator.api.naming import Key
from serval_operator.api.resources import Resource
from serval_operator.constants import GROUP
from serval_operator.errors import ServalError
from serval_operator.informer import event_handlers as objects
from serval_operator.informer.login import Login
from serval_operator.informer.no_persistence import NoDiffBase, NoProgress
from serval_operator.runtime.authentication import CONNECT_SECONDS, Connection
from serval_operator.runtime.cache import Cache, selector
from serval_operator.runtime.watcher import CLIENT_SLACK_SECONDS, INACTIVITY_SECONDS
from serval_operator.settings import Settings

PAGE = 50
"""Objects per page of kopf's own listings. It starts two tasks for each object of a page, all at once."""
IDLE_SECONDS = 0.2
"""How long kopf keeps the tasks of an object, and its last event, after the object fell silent. Measured with
1,500 objects, this and the small page take 37 MB and a quarter of the CPU off a start."""


class Endless(Iterable[float]):
    """Pauses without an end: after the last one it is repeated.

    kopf ends the process after as many failures as there are pauses, if it can count them. An API server that
    fails for long is no reason to end: the operator's other watches go on too.
    """

    def __init__(self, pauses: Sequence[float]) -> None:
        self._pauses = tuple(pauses)

    def __iter__(self) -> Iterator[float]:
        yield from self._pauses
        yield from repeat(self._pauses[-1])


def operator_settings(settings: Settings) -> kopf.OperatorSettings:
    """Settings of kopf for an informer that writes nothing, to no object and no Event."""
    ours = kopf.OperatorSettings()
    ours.persistence.progress_storage = NoProgress()
    ours.persistence.diffbase_storage = NoDiffBase()
    ours.persistence.finalizer = f"{GROUP}/never-set"
    ours.posting.enabled = False
    ours.peering.standalone = True
    # CRDs and namespaces are not watched: that would take rights on the whole cluster. A CRD that goes away
    # ends this kopf; `informers.py` starts another one once the kind can be listed again.
    ours.scanning.disabled = True
    ours.watching.server_timeout = settings.watch_timeout_seconds
    ours.watching.client_timeout = settings.watch_timeout_seconds + CLIENT_SLACK_SECONDS
    ours.watching.connect_timeout = CONNECT_SECONDS
    ours.watching.inactivity_timeout = INACTIVITY_SECONDS
    ours.watching.chunk_size = PAGE
    ours.queueing.idle_timeout = IDLE_SECONDS
    ours.networking.request_timeout = settings.request_timeout_seconds
    ours.networking.connect_timeout = CONNECT_SECONDS
    ours.networking.error_backoffs = Endless(settings.watch_backoffs)
    # The process ends itself in time; kopf must not kill it.
    ours.process.ultimate_exiting_timeout = None
    return ours


class Informer:
    """Runs kopf until it is told to stop.

    Parameters
    ----------
    kinds:
        What is watched.
    trace:
        Follows the requests of the watches.
    on_started:
        Called once kopf has taken over the process's signals, so that they can be taken back.
    on_refused:
        Called with words when a listing or watch is refused, as missing or forbidden. The informer then waits
        to be stopped. Without it, kopf repeats a request that is forbidden, and ends where a kind is missing.
    """

    def __init__(
        self,
        connection: Connection,
        cache: Cache,
        kinds: Sequence[Resource],
        enqueue: Callable[[Key], None],
        settings: Settings,
        trace: aiohttp.TraceConfig,
        on_started: Callable[[], None],
        on_refused: Callable[[str], None] | None = None,
    ) -> None:
        self._settings = operator_settings(settings)
        for resource in kinds:
            if labels := selector(resource):
                what = (resource.group, resource.version, resource.plural)
                self._settings.watching.label_selectors[what] = labels
        self._namespaces: Sequence[str] = settings.watch_namespaces
        self._on_started = on_started
        self._stop = asyncio.Event()
        self._registry = kopf.OperatorRegistry()
        Login(connection, trace, on_refused).register(self._registry)
        objects.register(self._registry, cache, kinds, enqueue)

    def stop(self) -> None:
        """Let `run` return soon."""
        self._stop.set()

    async def run(self) -> None:
        """Watch until `stop`. Raises what ended kopf otherwise.

        ``kopf.run_tasks`` would do the waiting too, but at its end it cancels every task of the process that
        is younger than kopf, our reconciles among them.
        """
        tasks = await kopf.spawn_tasks(
            registry=self._registry,
            settings=self._settings,
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
        )
        self._on_started()
        stopping = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopping, *tasks):
                task.cancel()
            await asyncio.wait(tasks)
        for task in done - {stopping}:
            task.result()
        if stopping not in done:
            raise ServalError("kopf stopped by itself")
