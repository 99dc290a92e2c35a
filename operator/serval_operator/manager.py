"""The operator's process: who of several works, signals, probes, and an end in order."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import uuid
from collections.abc import Coroutine, Sequence
from typing import Any

from serval_operator.config import Configuration
from serval_operator.controllers import Work
from serval_operator.errors import ServalError
from serval_operator.health_server import ProbeServer
from serval_operator.registry import selected
from serval_operator.runtime.access_review import review
from serval_operator.runtime.authentication import Connection
from serval_operator.runtime.client import KubeClient
from serval_operator.runtime.lease import CALL, Elector
from serval_operator.runtime.lister import insist
from serval_operator.runtime.metrics import Metrics
from serval_operator.runtime.server_clock import ServerClock
from serval_operator.settings import Settings
from serval_operator.watching import WATCHES

STOP, STANDBY, LEASE = "stop", "standby", "lease"
"""Names of the tasks that end by the wish to stop, by acquiring the Lease and by its loss."""
FENCED_GRACE_SECONDS = 0.2
"""How long reconciles in flight may take without the Lease: they cannot write, and another one may work."""
INFORMER_STOP_SECONDS = 4.0
"""How long kopf may take to stop; it waits up to 2 seconds for each watch, side by side. The end in order
takes at most the grace of reconciles, the release of the Lease, the end of the HTTP server and this: less
than the 30 seconds that a pod is given by default."""

_log = logging.getLogger("serval_operator")


class Operator:
    """An operator, from its start to its end.

    Attributes
    ----------
    work:
        What it does once it is the one that works; None before.
    port:
        After `run` began to listen: the port of probes and metrics.
    """

    def __init__(self, settings: Settings, configuration: Configuration, connection: Connection) -> None:
        self._settings = settings
        self._configuration = configuration
        self._kinds = selected(settings.kinds)
        self._connection = connection
        self.metrics = Metrics(each_condition=settings.condition_metrics)
        self._clock = ServerClock()
        self._client = KubeClient(
            connection,
            self.metrics,
            timeout=settings.request_timeout_seconds,
            in_flight=settings.requests_in_flight,
            write_seconds=self._write_seconds,
            hear=self._clock.hear,
        )
        self._clients = [self._client]
        self._elector = self._candidate() if settings.lease_name else None
        self._server = ProbeServer([self._hung, self._deaf], [self._unready], self.metrics.text, self._remark)
        self._stop = asyncio.Event()
        self.metrics.watch_state(
            "leader",
            "Whether this operator is the one that works.",
            "",
            lambda: {"": float(self._leads())},
        )
        self.work: Work | None = None
        self.port = 0

    def _candidate(self) -> Elector:
        # Separate connections: a renewal must not wait for a place behind the work.
        limit = self._settings.lease_seconds * CALL
        client = KubeClient(self._connection, self.metrics, timeout=limit, in_flight=1)
        self._clients.append(client)
        return Elector(
            client,
            self._settings.lease_namespace,
            self._settings.lease_name,
            # The pod's name says which one it is; the rest makes it another one after a restart.
            f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}",
            seconds=self._settings.lease_seconds,
        )

    def stop(self) -> None:
        """Let `run` return soon, after what is in flight."""
        self._stop.set()

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT or `stop`.

        Raises
        ------
        Exception
            What ended a part that should not end.
        """
        self._take_signals()
        parts: list[asyncio.Task[Any]] = [asyncio.create_task(self._stop.wait(), name=STOP)]
        try:
            self.port = await self._server.start(self._settings.http_host, self._settings.http_port)
            if await self._begin(parts):
                await _ended(parts)
        finally:
            _log.info("stopping")
            await self._end(parts)

    async def _begin(self, parts: list[asyncio.Task[Any]]) -> bool:
        """Come to work, and add to the parts what must run from now on; False if told to stop before."""
        if self._elector:
            if not await _done(parts, self._elector.acquire(), STANDBY):
                return False
            parts.append(asyncio.create_task(self._elector.hold(), name=LEASE))
        if not await _done(parts, self._prepare(), "first listing"):
            return False
        parts += self.work.start() if self.work else []
        return True

    async def _prepare(self) -> None:
        """Find out what we may see, and look at all of it."""
        access = await insist(lambda: review(self._client), self._settings.start_seconds)
        work = Work(
            self._settings,
            self._configuration,
            self._kinds,
            self._connection,
            self._client,
            self.metrics,
            access,
            self._clock.now,
            self._take_signals,
        )
        await work.fill()
        self.work = work

    async def _end(self, parts: Sequence[asyncio.Task[Any]]) -> None:
        """Stop taking, let finish what is in flight, then close everything, in this order."""
        if self.work:
            grace = self._settings.stop_grace_seconds if self._leads() else FENCED_GRACE_SECONDS
            if not await self.work.queue.stop(grace):
                _log.warning("reconciles were cut off after %.0f s", grace)
        await self._give_lease_back(parts)
        await self._server.stop()
        if self.work:
            self.work.watching.stop()
        for task in parts:
            if task.get_name() != WATCHES:
                task.cancel()
        done, _ = await asyncio.wait(parts, timeout=INFORMER_STOP_SECONDS)
        for task in done:
            # What ended the first of them has been raised; the others were told to end.
            if not task.cancelled():
                task.exception()
        for client in self._clients:
            await client.close()

    async def _give_lease_back(self, parts: Sequence[asyncio.Task[Any]]) -> None:
        """Let another one work at once; nothing is written any more."""
        electing = [task for task in parts if task.get_name() in (STANDBY, LEASE)]
        for task in electing:
            task.cancel()
        if self._elector and electing:
            await asyncio.wait(electing)
            await self._elector.release()

    def _take_signals(self) -> None:
        """Handle the process's signals; kopf takes them when it starts, and then they are taken back."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    def _leads(self) -> bool:
        """Whether this operator may write."""
        return self._write_seconds() > 0

    def _write_seconds(self) -> float:
        """How long a write may be under way from now on."""
        return self._elector.write_seconds() if self._elector else math.inf

    def _hung(self) -> str | None:
        return self.work.hung() if self.work else None

    def _deaf(self) -> str | None:
        return self.work.watching.deaf() if self.work else None

    def _unready(self) -> str | None:
        if self._stop.is_set():
            return "stopping"
        if self.work and self._elector and not self._leads():
            return f"{self._elector} is not held {self._elector.trouble}".strip()
        if self.work:
            return self.work.watching.unready()
        if self._leads():
            return "the first listing is not complete"
        if self._elector and not self._elector.standing:
            return f"{self._elector} was not seen yet {self._elector.trouble}".strip()
        # Who waits is ready to take over. Else a rollout of several operators would never end.
        return None

    def _remark(self) -> str:
        standing = self._elector.standing if self._elector else ""
        if standing:
            return f"standing by, {standing} works"
        return self.work.watching.remark() if self.work else ""


async def _done(parts: list[asyncio.Task[Any]], what: Coroutine[Any, Any, None], name: str) -> bool:
    """Do one thing while the parts run; False if it was time to stop before it was done."""
    task = asyncio.create_task(what, name=name)
    parts.append(task)
    done = await _ended(parts, task)
    if done:
        parts.remove(task)
    return done


async def _ended(parts: Sequence[asyncio.Task[Any]], awaited: asyncio.Task[Any] | None = None) -> bool:
    """Wait for the first of the parts to end; whether it was the awaited one, and not the wish to stop.

    Raises
    ------
    Exception
        What ended a part.
    ServalError
        A part ended that must run until the end.
    """
    done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    for part in done:
        part.result()
    names = {part.get_name() for part in done}
    if STOP in names:
        return False
    if awaited in done:
        return True
    raise ServalError(f"{', '.join(sorted(names))} ended without being told to")
