"""kopf's only way to log in: a session of ours, whose token is renewed within it."""

from __future__ import annotations

from typing import Any

import aiohttp
import kopf

from serval_operator.kube.auth import Connection


class Login:
    """Gives kopf a session of its own; kopf closes it, so it never gets the one of our own requests."""

    def __init__(self, connection: Connection, trace: aiohttp.TraceConfig) -> None:
        self._connection = connection
        self._trace = trace

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Register as the only login handler."""
        kopf.on.login(id="login", registry=registry)(self.login)

    async def login(self, **_: Any) -> kopf.AiohttpSession:
        """Log in, once for all."""
        session = self._connection.session(traces=[self._trace], outer=(keep_session,))
        return kopf.AiohttpSession(server=self._connection.server, aiohttp_session=session)


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
