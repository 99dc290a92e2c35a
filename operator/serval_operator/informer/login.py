"""kopf's only way to log in: a session of ours, whose token is renewed within it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import aiohttp
import kopf

from serval_operator.runtime.authentication import Connection
from serval_operator.runtime.availability import REFUSALS
from serval_operator.runtime.client import answered_with

FORGOTTEN = "1"
"""The first version of all data, which no API server remembers."""


WATCH_SECONDS = 1.0
"""Least time between the starts of two accepted watches of one path. kopf itself makes no pause after a watch
that the API server, or a proxy before it, ends at once."""


class Login:
    """Gives kopf a session of its own; kopf closes it, so it never gets the one of our own requests.

    Parameters
    ----------
    trace:
        Follows the session's requests.
    on_refused:
        Called with words when a request for objects is refused, as missing or forbidden. The request is then
        held, because kopf would end, or repeat it without limit. The function called must stop kopf.
    clock:
        Monotonic seconds.
    """

    def __init__(
        self,
        connection: Connection,
        trace: aiohttp.TraceConfig,
        on_refused: Callable[[str], None] | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._trace = trace
        self._on_refused = on_refused
        self._sleep = sleep
        self._clock = clock
        self._gone: set[str] = set()
        self._accepted: dict[str, float] = {}

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Register as the only login handler."""
        kopf.on.login(id="login", registry=registry)(self.login)

    async def login(self, **_: Any) -> kopf.AiohttpSession:
        """Log in, once for all."""
        outer = (keep_session, self.hold_refused, self.list_after_an_outage, self.pace)
        session = self._connection.session(traces=[self._trace], outer=outer)
        return kopf.AiohttpSession(server=self._connection.server, aiohttp_session=session)

    async def list_after_an_outage(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Middleware that lets kopf list anew once the API server was gone: its state may be an older one.

        A watch that went on from where it was would miss what was undone, and where the data have not come so
        far again, everything. Asked for a version that is forgotten, the API server says so, and kopf lists.
        """
        path, is_watch = request.url.path, "watch" in request.url.query
        if is_watch and path in self._gone:
            request.url = request.url.update_query(resourceVersion=FORGOTTEN)
        try:
            response = await send(request)
        except (aiohttp.ClientError, OSError):
            self._gone.add(path)
            raise
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._gone.add(path)
        elif is_watch and response.status == HTTPStatus.OK:
            # One that is starting may refuse what it does not know yet.
            self._gone.discard(path)
        return response

    async def hold_refused(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Middleware that reports a refused listing or watch, and does not answer it."""
        response = await send(request)
        about_objects = "watch" in request.url.query or "limit" in request.url.query
        if self._on_refused is not None and about_objects and response.status in REFUSALS:
            self._on_refused(answered_with(response.status, await response.read(), "").message)
            await asyncio.Event().wait()
        return response

    async def pace(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Middleware that puts off a watch that follows an accepted one of its path too soon."""
        if "watch" not in request.url.query:
            return await send(request)
        path = request.url.path
        early = self._accepted.get(path, -WATCH_SECONDS) + WATCH_SECONDS - self._clock()
        if early > 0:
            await self._sleep(early)
        response = await send(request)
        if response.status == HTTPStatus.OK:
            self._accepted[path] = self._clock()
        return response


async def keep_session(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Middleware that makes of a refused token a failure of the connection.

    At a 401, kopf closes the session to log in anew, and that breaks the watches of all other kinds so that
    the whole operator ends. A failed connection it tries again, with the token as it is by then.
    """
    response = await send(request)
    if response.status == 401:
        response.close()
        raise aiohttp.ClientConnectionError("the API server does not accept our token")
    return response
