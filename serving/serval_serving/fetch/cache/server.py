"""HTTP of the node's cache.

The cache downloads nothing and has no credentials. The first pod that asks for a digest downloads the archive
and gives it to the cache; others that ask meanwhile wait for it. The cache stores only bytes that have the
digest under which they were given, and fetchers check again, so no client can plant another model.

- ``GET /sha256/HEX``: 200 with the bytes; 404 to the client that has to download them: others wait for it
  while its connection is open, for at most `store.LEAD_SECONDS`; 503 after a while of waiting, so that the
  client can decide to wait longer.
- ``PUT /sha256/HEX``: 201 once stored, 413 over the size of the cache, 422 if the bytes have another digest,
  507 if there is no room that this client may have.
- ``GET /healthz``: 200.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from serval_serving.fetch.cache.store import ArchiveStore, Refused

TRANSFER_SECONDS: Final = 1800.0
"""Limit of one request, and of the silence of a connection between two: no fetch takes longer."""
PIECE_SECONDS: Final = 60.0
"""Longest silence of a client that gives an archive."""
MAX_CONNECTIONS: Final = 1000
"""More connections are closed at once. A node has at most a few hundred pods."""
MAX_CLIENT_CONNECTIONS: Final = 50
"""More connections of one network address are closed at once. A fetcher needs one."""
_PIECE_BYTES: Final = 1 << 20
_STOP_SECONDS: Final = 1.0
_HEALTH: Final = "/healthz"
_PATH: Final = re.compile(r"/sha256/([0-9a-f]{64})")
_LOG: Final = logging.getLogger("serval.cache")


class CacheServer(web.Server):
    """The protocol above, for one store. Must be made in a running event loop.

    aiohttp's low-level server, since only that reports the end of a connection, which ends a client's role as
    the one who downloads.

    Parameters
    ----------
    store:
        What it serves.
    """

    def __init__(self, store: ArchiveStore) -> None:
        # Without cancellation a client that hung up while waiting could still become the one who downloads.
        super().__init__(
            self._respond,
            handler_cancellation=True,
            keepalive_timeout=TRANSFER_SECONDS,
            read_bufsize=_PIECE_BYTES,
            auto_decompress=False,
            access_log=None,
        )
        self._store = store
        self._clients: dict[RequestHandler, str] = {}

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Count a connection; close it if there are too many."""
        super().connection_made(handler, transport)
        client = self._clients[handler] = transport.get_extra_info("peername", ("",))[0]
        of_client = sum(one == client for one in self._clients.values())
        if len(self._clients) > MAX_CONNECTIONS or of_client > MAX_CLIENT_CONNECTIONS:
            transport.abort()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Let the next client download what this one had to bring."""
        self._store.leave(handler)
        self._clients.pop(handler, None)
        super().connection_lost(handler, exc)

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request, and log all but probes."""
        if (request.method, request.raw_path) == ("GET", _HEALTH):
            return web.Response()
        try:
            async with asyncio.timeout(TRANSFER_SECONDS):
                response = await self._routed(request)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            response = web.Response(status=HTTPStatus.REQUEST_TIMEOUT)
        _LOG.info("%s %s %d", request.method, request.raw_path, response.status)
        return response

    async def _routed(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request for an archive."""
        match = _PATH.fullmatch(request.raw_path)
        if match is None:
            return _refusal(HTTPStatus.BAD_REQUEST)
        if request.method == "GET":
            return await self._send(request, match[1])
        if request.method == "PUT":
            return await self._receive(request, match[1])
        return _refusal(HTTPStatus.METHOD_NOT_ALLOWED)

    async def _send(self, request: web.BaseRequest, digest: str) -> web.StreamResponse:
        """Send a file, or say who has to bring it."""
        try:
            file = await self._store.find_or_lead(digest, request.protocol)
        except TimeoutError:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        if file is None:
            return web.Response(status=HTTPStatus.NOT_FOUND)
        # Not aiohttp's FileResponse: it sends the body after this handler, without the limit of time.
        with file:
            size = os.fstat(file.fileno()).st_size
            response = web.StreamResponse(headers={"Content-Length": str(size)})
            await response.prepare(request)
            while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
                await response.write(piece)
        return response

    async def _receive(self, request: web.BaseRequest, digest: str) -> web.Response:
        """Store a file."""
        if request.content_length is None:
            return _refusal(HTTPStatus.LENGTH_REQUIRED)
        try:
            await self._store.keep(digest, _pieces(request), request.content_length, request.remote or "")
        except Refused as refused:
            return _refusal(refused.status)
        except OSError as error:
            _LOG.warning("%s is not stored: %s", digest, error.strerror or type(error).__name__)
            return _refusal(HTTPStatus.INSUFFICIENT_STORAGE)
        return web.Response(status=HTTPStatus.CREATED)


async def _pieces(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """Yield the body of a request as it arrives.

    Raises
    ------
    TimeoutError
        The client is silent for too long.
    """
    while True:
        async with asyncio.timeout(PIECE_SECONDS):
            piece = await request.content.readany()
        if not piece:
            return
        yield piece


def _refusal(status: HTTPStatus) -> web.Response:
    """Build a reply after which the connection is closed: the body of its request may not have been read."""
    response = web.Response(status=status)
    response.force_close()
    return response


@asynccontextmanager
async def listening(store: ArchiveStore, host: str, port: int) -> AsyncIterator[int]:
    """Serve a store while the context is open.

    Yields
    ------
    int
        The port.

    Raises
    ------
    OSError
        The port is not available.
    """
    runner = web.ServerRunner(CacheServer(store), shutdown_timeout=_STOP_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
