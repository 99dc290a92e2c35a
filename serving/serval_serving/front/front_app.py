"""The HTTP application of a front: /score and metrics of its own, the REST API of the server behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import nullcontext
from typing import Final

import aiohttp
import grpc
from aiohttp import web

from serval_serving.front import pages
from serval_serving.front.proxy import Proxy, headed
from serval_serving.front.score import Scorer
from serval_serving.front.upstream import UNREACHABLE, Upstream
from serval_serving.front.watch import ASK_SECONDS
from serval_serving.server import rest_api, rest_paths
from serval_serving.server.http_app import REFUSALS, HttpApp, HttpOptions, Work, failed, replied
from serval_serving.server.http_errors import code_of_http
from serval_serving.server.inference import Admission, Deadline
from serval_serving.server.keys import HEADER, Keys
from serval_serving.server.metrics import REST
from serval_serving.wire import messages
from serval_serving.wire.status import StatusError

NO_REST: Final = (
    "This front was given no --upstream_rest. It answers gRPC, /score, and the states and the metadata of "
    "models over HTTP; this it cannot."
)
BROKE_OFF: Final = "the reply of the server behind, or its reader, broke off: %s"

_GET: Final = "GET"
_log = logging.getLogger(__name__)


class FrontApp(HttpApp):
    """/score, metrics, and the REST API of the server behind.

    Parameters
    ----------
    upstream:
        The server behind.
    rest_address:
        `host:port` of its HTTP port; empty where it has none.
    scorer:
        Answers /score.
    admission, options, pool, keys:
        As for `HttpApp`.
    """

    def __init__(
        self,
        upstream: Upstream,
        rest_address: str,
        scorer: Scorer,
        admission: Admission,
        options: HttpOptions,
        pool: Executor,
        keys: Keys | None = None,
    ) -> None:
        super().__init__(admission, options, pool, keys)
        self._upstream = upstream
        self._rest_address = rest_address
        self._scorer = scorer
        self._proxy: Proxy | None = None

    def application(self) -> web.Application:
        """Make the aiohttp application."""
        app = super().application()
        app.cleanup_ctx.append(self._connected)
        return app

    def scorer(self) -> tuple[str, Work]:
        """Name the model that /score is for, and give what scores a body."""

        def work(body: bytes, deadline: Deadline) -> bytes:
            return self._scorer.score(body, deadline.left(self._admission.now()))

        return self._scorer.name, work

    async def page(self) -> str:
        """Write the metrics: those of the front, and what else the server behind has."""
        page = self._admission.metrics.page()
        if self._proxy is None:
            return page
        return pages.joined(page, await self._proxy.text(self._options.metrics_path, ASK_SECONDS))

    async def api(self, request: web.Request) -> web.StreamResponse:
        """Answer the API under /v1/ with what the server behind answers."""
        started = self._admission.now()
        if self._proxy is None:
            return await self._without_rest(request, started)
        name, api = _called(request)
        looks = request.method == _GET
        response, code, size = await self._passed(self._proxy, request, looks=looks)
        if looks:
            self._count_look(request, name, code, started)
        else:
            self._count(request, name, api, REST, code, size, started)
        return response

    async def _connected(self, _app: web.Application) -> AsyncIterator[None]:
        """Hold the connections to the server behind while the application runs."""
        if self._rest_address:
            # A key is for whoever checks it.
            self._proxy = Proxy(self._rest_address, {HEADER} if self._keys is not None else ())
        yield
        if self._proxy is not None:
            await self._proxy.close()

    async def _passed(
        self, proxy: Proxy, request: web.Request, *, looks: bool
    ) -> tuple[web.StreamResponse, grpc.StatusCode, int]:
        """Pass a request on; the answer is the reply, its status code, and the size of the request's body."""
        body = b""
        limit = self._options.timeout_seconds
        end = None if limit is None else asyncio.get_running_loop().time() + limit
        try:
            if self._keys is not None and not looks:
                self._keys.check(request.headers.get(HEADER))
            async with asyncio.timeout_at(end):
                body = await request.read()
            with nullcontext() if looks else self._admission.admitted():
                async with asyncio.timeout_at(end):
                    reply = await self._begun(proxy, request, body)
                async with reply:
                    return await _streamed(request, reply), code_of_http(reply.status), len(body)
        except REFUSALS as error:
            answer = self._refused(error, len(body))
            return answer.response(), answer.code, len(body)

    async def _begun(self, proxy: Proxy, request: web.Request, body: bytes) -> aiohttp.ClientResponse:
        """Begin a call of the server behind."""
        try:
            return await proxy.begin(request, body)
        except aiohttp.ClientError as error:
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            details = UNREACHABLE.format(address=self._rest_address, details=cause)
            raise StatusError(grpc.StatusCode.UNAVAILABLE, details) from error

    async def _without_rest(self, request: web.Request, started: float) -> web.Response:
        """Answer questions about models by gRPC, so that probes need no second port; refuse the rest."""
        try:
            call = rest_paths.parse(request.method, request.rel_url.raw_path)
        except StatusError as error:
            return failed(error.code, error.message)
        if call.method not in {rest_paths.STATUS, rest_paths.METADATA}:
            return failed(grpc.StatusCode.UNIMPLEMENTED, NO_REST)
        # Not in the pool of those who predict: probes must not wait for them.
        code, reply = await asyncio.to_thread(self._attempt, lambda: self._look(call))
        self._count_look(request, call.target.name or "", code, started)
        return replied(code, reply)

    def _look(self, call: rest_paths.Call) -> bytes:
        """Ask for states or metadata."""
        spec = messages.ModelSpec(name=call.target.name or "", version_label=call.target.label)
        if call.target.version is not None:
            spec.version.value = call.target.version
        if call.method == rest_paths.STATUS:
            return rest_api.write_status(self._upstream.status(spec, ASK_SECONDS))
        return rest_api.write_metadata(self._upstream.metadata(spec, ASK_SECONDS))


async def _streamed(request: web.Request, reply: aiohttp.ClientResponse) -> web.StreamResponse:
    """Answer with a reply, piece by piece; where one side breaks off, so does the other."""
    response = headed(reply)
    try:
        await response.prepare(request)
        async for piece in reply.content.iter_any():
            await response.write(piece)
        await response.write_eof()
    except (aiohttp.ClientError, OSError) as error:
        _log.warning(BROKE_OFF, error)
        if request.transport is not None:
            request.transport.abort()
    return response


def _called(request: web.Request) -> tuple[str, str]:
    """Read a path for the metrics: the model's name and the method; what cannot be read has neither."""
    try:
        call = rest_paths.parse(request.method, request.rel_url.raw_path)
    except StatusError:
        return "", request.method
    return call.target.name or "", call.method.capitalize()
