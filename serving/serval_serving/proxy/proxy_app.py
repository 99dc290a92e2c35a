"""The HTTP application of the proxy: that of the server, over the models of the upstream server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Final

import aiohttp
from aiohttp import web

from serval_serving.proxy import metrics_merge
from serval_serving.proxy.remote_engine import RemoteInference
from serval_serving.proxy.signature_cache import spec_of
from serval_serving.proxy.upstream import Upstream
from serval_serving.proxy.upstream_health import ASK_SECONDS
from serval_serving.server import rest_api, tracing
from serval_serving.server.http_app import HttpOptions
from serval_serving.server.inference import Target
from serval_serving.server.model_app import ModelApp
from serval_serving.server.pipeline import Call, Pipeline

_TIMEOUT: Final = aiohttp.ClientTimeout(total=ASK_SECONDS)


class ProxyApp(ModelApp):
    """/score, the REST API, and the metrics of both servers.

    Parameters
    ----------
    inference:
        Predicts with the models of the upstream server.
    upstream:
        The upstream server.
    rest_address:
        `host:port` of its HTTP port, for its metrics; empty if it has none.
    pipeline, options, pool:
        As for `HttpApp`.
    """

    def __init__(
        self,
        inference: RemoteInference,
        upstream: Upstream,
        rest_address: str,
        pipeline: Pipeline,
        options: HttpOptions,
        pool: Executor,
    ) -> None:
        super().__init__(inference, pipeline, options, pool)
        self._upstream = upstream
        self._metrics_url = f"http://{rest_address}{options.metrics_path}" if rest_address else ""
        self._client: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        """Make the aiohttp application."""
        app = super().application()
        app.cleanup_ctx.append(self._connected)
        return app

    async def page(self) -> str:
        """Write the metrics of requests, and the metrics with other names of the upstream server."""
        return metrics_merge.joined(self._inference.metrics.request_page(), await self._upstream_page())

    def status(self, target: Target) -> bytes:
        """Ask the upstream server for the states of a model's versions."""
        return rest_api.write_status(self._upstream.status(spec_of(target, target.version), ASK_SECONDS))

    def metadata(self, target: Target) -> bytes:
        """Ask the upstream server for the signatures of a version."""
        reply, digest = self._upstream.metadata(spec_of(target, target.version), ASK_SECONDS)
        tracing.note(reply.model_spec.version.value, digest)
        return rest_api.write_metadata(reply)

    async def look(self, call: Call, work: Callable[[], bytes]) -> bytes:
        """Ask in a thread outside of the pool, so that probes do not wait for predictions."""
        return await asyncio.to_thread(call.run, work)

    async def _connected(self, _app: web.Application) -> AsyncIterator[None]:
        """Hold the connection for the metrics while the application runs."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as self._client:
            yield
        self._client = None

    async def _upstream_page(self) -> str:
        """Read the metrics of the upstream server; empty if it has none, or does not answer."""
        if self._client is None or not self._metrics_url:
            return ""
        try:
            async with self._client.get(self._metrics_url) as reply:
                return await reply.text() if reply.ok else ""
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError):
            return ""
