"""kopf's only way to log in: a session of ours, whose token is renewed within it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import aiohttp
import kopf

from serval_operator.runtime.authentication import Connection

FORGOTTEN = "1"
"""The first version of all data, which no API server remembers."""


class Login:
    """Gives kopf a session of its own; kopf closes it, so it never gets the one of our own requests.

    Parameters
    ----------
    trace:
        Follows the session's requests.
    """

    def __init__(self, connection: Connection, trace: aiohttp.TraceConfig) -> None:
        self._connection = connection
        self._trace = trace
        self._gone: set[str] = set()

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Register as the only login handler."""
        kopf.on.login(id="login", registry=registry)(self.login)

    async def login(self, **_: Any) -> kopf.AiohttpSession:
        """Log in, once for all."""
        outer = (keep_session, self.list_after_an_outage)
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
