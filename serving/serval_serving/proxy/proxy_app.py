"""The HTTP application of the proxy: its own `/score` and metrics, and the upstream's REST API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor
from typing import Final

import aiohttp
import grpc
from aiohttp import web

from serval_serving.proxy import metrics_merge
from serval_serving.proxy.http_forwarder import HttpForwarder, headed
from serval_serving.proxy.upstream import UNREACHABLE, Upstream
from serval_serving.proxy.upstream_health import ASK_SECONDS
from serval_serving.proxy.upstream_score import UpstreamScorer
from serval_serving.server import rest_api, rest_paths
from serval_serving.server.http_app import (
    LOOK,
    OPEN,
    HttpApp,
    HttpOptions,
    Route,
    Work,
    log_name,
    replied,
    target_of,
)
from serval_serving.server.http_errors import code_of_http
from serval_serving.server.inference import Deadline
from serval_serving.server.keys import HEADER
from serval_serving.server.metrics import CLASSIFY, PREDICT, REGRESS, REST, RequestMetrics
from serval_serving.server.pipeline import Call, Endpoint, Pipeline
from serval_serving.wire import messages
from serval_serving.wire.status import StatusError

NO_REST: Final = (
    "This front was given no --upstream_rest. It answers gRPC, /score, and the states and the metadata of "
    "models over HTTP; this it cannot."
)
BROKE_OFF: Final = "the reply of the server behind, or its reader, broke off: %s"

OTHER: Final = Endpoint("Other", REST)
"""What the REST API does not know; the upstream server may."""

_log = logging.getLogger(__name__)


class ProxyApp(HttpApp):
    """/score, metrics, and the REST API of the upstream server.

    Parameters
    ----------
    upstream:
        The upstream server.
    rest_address:
        `host:port` of its HTTP port; empty where it has none.
    scorer:
        Answers /score.
    metrics:
        Its own metrics.
    pipeline, options, pool:
        As for `HttpApp`.
    """

    def __init__(
        self,
        upstream: Upstream,
        rest_address: str,
        scorer: UpstreamScorer,
        metrics: RequestMetrics,
        pipeline: Pipeline,
        options: HttpOptions,
        pool: Executor,
    ) -> None:
        super().__init__(pipeline, options, pool)
        self._upstream = upstream
        self._rest_address = rest_address
        self._scorer = scorer
        self._metrics_page = metrics.page
        self._proxy: HttpForwarder | None = None

    def application(self) -> web.Application:
        """Make the aiohttp application."""
        app = super().application()
        app.cleanup_ctx.append(self._connected)
        return app

    def scorer(self) -> tuple[str, Work]:
        """Name the model that /score is for, and give what scores a body."""

        def work(body: bytes, deadline: Deadline) -> bytes:
            return self._scorer.score(body, deadline.left(self._pipeline.now()))

        return self._scorer.name, work

    async def page(self) -> str:
        """Write the metrics: those of the proxy, and what else the upstream server has."""
        page = self._metrics_page()
        if self._proxy is None:
            return page
        return metrics_merge.joined(page, await self._proxy.text(self._options.metrics_path, ASK_SECONDS))

    def api(self) -> Sequence[Route]:
        """List the routes under /v1/: all are passed on, or, without a REST port behind, answered by gRPC."""
        passes = bool(self._rest_address)
        predicts, looks = (self._pass, self._pass) if passes else (self._no_rest, self._look)
        predictions = (
            (rest_paths.PREDICT, PREDICT),
            (rest_paths.CLASSIFY, CLASSIFY),
            (rest_paths.REGRESS, REGRESS),
        )
        table = [
            Route("POST", path, Endpoint(api, REST) if passes else OPEN, predicts)
            for path, api in predictions
        ]
        table += [Route("GET", path, LOOK, looks) for path in (rest_paths.STATUS, rest_paths.METADATA)]
        if passes:
            # The upstream server refuses unknown paths.
            table.append(Route("*", rest_paths.ANY, OTHER, self._pass))
        return table

    async def _connected(self, _app: web.Application) -> AsyncIterator[None]:
        """Hold the connections to the upstream server while the application runs."""
        if self._rest_address:
            # The key is not forwarded by the server that checks it.
            self._proxy = HttpForwarder(self._rest_address, {HEADER} if self._pipeline.has_keys else ())
        yield
        if self._proxy is not None:
            await self._proxy.close()

    async def _pass(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer with what the upstream server answers."""
        call.model = request.match_info.get("name", "")
        if not call.endpoint.limited:
            call.name = log_name(request)
        limit = self._options.timeout_seconds
        end = None if limit is None else asyncio.get_running_loop().time() + limit
        async with asyncio.timeout_at(end):
            body = await self.body(request)
        call.received(len(body))
        with call.admitted():
            async with asyncio.timeout_at(end):
                reply = await self._begun(request, body)
            async with reply:
                call.code = code_of_http(reply.status)
                return await _streamed(request, reply)

    async def _begun(self, request: web.Request, body: bytes) -> aiohttp.ClientResponse:
        """Begin a call of the upstream server."""
        if self._proxy is None:
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, NO_REST)
        try:
            return await self._proxy.begin(request, body)
        except aiohttp.ClientError as error:
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            details = UNREACHABLE.format(address=self._rest_address, details=cause)
            raise StatusError(grpc.StatusCode.UNAVAILABLE, details) from error

    async def _no_rest(self, _request: web.Request, _call: Call) -> web.Response:
        """Refuse predictions where nothing can pass them on."""
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, NO_REST)

    async def _look(self, request: web.Request, call: Call) -> web.Response:
        """Answer questions about models by gRPC, so that probes need no second port."""
        target = target_of(request, call)
        spec = messages.ModelSpec(name=target.name or "", version_label=target.label)
        if target.version is not None:
            spec.version.value = target.version

        def states() -> bytes:
            return rest_api.write_status(self._upstream.status(spec, ASK_SECONDS))

        def metadata() -> bytes:
            return rest_api.write_metadata(self._upstream.metadata(spec, ASK_SECONDS))

        work = metadata if "_metadata" in request.match_info else states
        # Not in the pool of those who predict: probes must not wait for them.
        return replied(await asyncio.to_thread(call.run, work), call)


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
