"""Runs the HTTP application in a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import grpc
from aiohttp import web

from serval_serving.server.http_app import HttpApp, HttpOptions
from serval_serving.server.tls import Tls
from serval_serving.wire.status import StatusError

MakeApp = Callable[[HttpOptions, Executor], HttpApp]
"""Makes the application, given how it handles requests and threads for what blocks."""

_log = logging.getLogger(__name__)
_START_SECONDS = 30.0
_STEP_SECONDS = 0.02
_FLUSH_SECONDS = 0.1
_LINGER_SECONDS = 1.0
"""While draining, clients that send now and then have this long to be asked to go, before the connections
on which nothing happens are closed: a request may be on its way on any of them."""


class HttpServer:
    """An HTTP server with the REST API, /score and metrics.

    Parameters
    ----------
    make_app:
        Makes what answers.
    options:
        How to listen.
    tls:
        Certificates; None for clear text.
    """

    def __init__(self, make_app: MakeApp, options: HttpOptions, tls: Tls | None = None) -> None:
        self._options = options
        self._tls = tls
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix="http")
        self._app = make_app(options, self._pool)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="http-loop", daemon=True)
        self._runner: web.AppRunner | None = None

    def start(self) -> None:
        """Open the port.

        Raises
        ------
        StatusError
            UNAVAILABLE: the port cannot be had.
        """
        self._thread.start()
        try:
            self._submit(self._start()).result(_START_SECONDS)
        except OSError as error:
            raise StatusError(
                grpc.StatusCode.UNAVAILABLE, f"HTTP cannot listen on port {self._options.port}: {error}"
            ) from error

    def drain(self) -> Callable[[], None]:
        """Close the port, ask clients to go elsewhere, and let requests finish.

        Returns at once; the function returned waits until all requests ended, or until the time is over.
        """
        draining = self._submit(self._drain())

        def wait() -> None:
            try:
                draining.result(_LINGER_SECONDS + self._options.drain_seconds + _FLUSH_SECONDS)
            except (OSError, TimeoutError):
                _log.warning("HTTP requests were cut off: they did not end in time")
            self._pool.shutdown(wait=False)
            self._loop.call_soon_threadsafe(self._loop.stop)

        return wait

    def _submit(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _start(self) -> None:
        """Set up the application and listen."""
        self._runner = web.AppRunner(
            self._app.application(),
            access_log=None,
            shutdown_timeout=self._options.drain_seconds,
            # Bodies are unpacked within limits, in a thread.
            auto_decompress=False,
        )
        await self._runner.setup()
        context = self._tls.http_context() if self._tls is not None else None
        await web.TCPSite(self._runner, port=self._options.port, ssl_context=context).start()

    async def _drain(self) -> None:
        """Stop in three steps: no new connections, no further requests on old ones, no connections."""
        runner = self._runner
        if runner is None or runner.server is None:
            return
        self._app.drain()
        for site in list(runner.sites):
            await site.stop()
        end = self._loop.time() + min(_LINGER_SECONDS, self._options.drain_seconds)
        while runner.server.connections and self._loop.time() < end:  # noqa: ASYNC110  it has no event
            await asyncio.sleep(_STEP_SECONDS)
        # From here on aiohttp closes what is idle and waits for what is not.
        await runner.cleanup()
        # Closing a transport leaves the end of its last reply to the loop.
        await asyncio.sleep(_FLUSH_SECONDS)
