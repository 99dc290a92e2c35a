"""kopf's only way to log in: a session of ours, whose token is renewed within it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import kopf

from serval_operator.kube.auth import Connection

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""Bounds, in seconds, of the pause before another login after one that did not help."""
CALM_SECONDS = 120.0
"""A login that held for so long counts as having helped."""


class Login:
    """Gives kopf a new session whenever it asks.

    kopf asks at its start, and each time the API server answers 401. It closes the session that failed, so
    it never gets the one that carries our own requests.
    """

    def __init__(
        self,
        connection: Connection,
        trace: aiohttp.TraceConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connection = connection
        self._trace = trace
        self._clock = clock
        self._sleep = sleep
        self._last: float | None = None
        self._pause = FIRST_PAUSE

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Register as the only login handler."""
        kopf.on.login(id="login", registry=registry)(self.login)

    async def login(self, **_: Any) -> kopf.AiohttpSession:
        """Log in; without a pause at first, then ever more slowly as long as the API server refuses us."""
        if self._last is not None:
            if self._clock() - self._last > CALM_SECONDS:
                self._pause = FIRST_PAUSE
            await self._sleep(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            self._connection.credentials.refused()
        self._last = self._clock()
        session = self._connection.session(traces=[self._trace])
        return kopf.AiohttpSession(server=self._connection.server, aiohttp_session=session)
