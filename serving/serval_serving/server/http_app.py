"""The HTTP side: routes, time-outs, connection age. What blocks runs in a pool of threads."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import NamedTuple

import grpc
from aiohttp import web

from serval_serving.engines.base import TIMED_OUT
from serval_serving.server import access, rest_api, rest_paths
from serval_serving.server import score as scoring
from serval_serving.server.http_errors import error_body, http_code
from serval_serving.server.inference import Deadline, Inference, Target
from serval_serving.server.keys import HEADER, Keys
from serval_serving.server.metrics import REST, SCORE
from serval_serving.wire.status import StatusError

HEALTH_PATH = "/healthz"
INTERNAL = "The server failed on this request; its log has the details."
TOO_LARGE = "The body is larger than %d bytes."

CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Authorization",
}

_JSON = "application/json"
_TOO_LARGE_STATUS = 413
_Work = Callable[[bytes, Deadline], bytes]
_log = logging.getLogger(__name__)


class _Answer(NamedTuple):
    """How a request ended: status, the reply's body, the request's bytes, and an HTTP status of its own."""

    code: grpc.StatusCode
    reply: bytes
    size: int = 0
    status: int = 0


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How HTTP requests are handled.

    Attributes
    ----------
    port:
        TCP port, on all addresses.
    threads:
        Requests handled at once; more wait.
    timeout_seconds:
        Seconds until a request is answered with 504; None for never.
    max_body_bytes:
        Largest body.
    max_connection_age_seconds:
        Age from which a connection is closed after its next reply; 0 for never.
    metrics_path:
        Where Prometheus scrapes; empty for nowhere.
    scoring:
        Whether /score answers.
    scoring_output:
        The output that /score answers; empty for the default.
    drain_seconds:
        Seconds that requests in progress have to finish once the server drains.
    cors:
        Whether scripts of other sites' pages may call.
    """

    port: int
    threads: int
    timeout_seconds: float | None
    max_body_bytes: int
    max_connection_age_seconds: float = 0.0
    metrics_path: str = ""
    scoring: bool = True
    scoring_output: str = ""
    drain_seconds: float = 30.0
    cors: bool = False


class HttpApp:
    """The HTTP application of one server.

    Parameters
    ----------
    inference:
        What answers.
    options:
        How.
    pool:
        Threads for what blocks.
    keys:
        What callers must show to predict; None for nothing.
    """

    def __init__(
        self, inference: Inference, options: HttpOptions, pool: Executor, keys: Keys | None = None
    ) -> None:
        self._inference = inference
        self._keys = keys
        self._options = options
        self._pool = pool
        self._draining = False
        self._since: weakref.WeakKeyDictionary[asyncio.BaseTransport, float] = weakref.WeakKeyDictionary()

    def application(self) -> web.Application:
        """Make the aiohttp application."""
        app = web.Application(client_max_size=self._options.max_body_bytes)
        app.router.add_route("*", HEALTH_PATH, self._health)
        if self._options.metrics_path:
            app.router.add_get(self._options.metrics_path, self._metrics)
        if self._options.scoring:
            app.router.add_route("*", scoring.PATH, self._score)
        app.router.add_route("*", "/{path:.*}", self._rest)
        app.on_response_prepare.append(self._before_reply)
        return app

    def drain(self) -> None:
        """Ask every client to connect elsewhere after its next reply. Call it in the loop's thread."""
        self._draining = True

    async def _before_reply(self, request: web.Request, response: web.StreamResponse) -> None:
        """Close connections that are old, and all of them while draining; allow pages to read replies."""
        if self._options.cors:
            response.headers.update(CORS_HEADERS)
        if self._draining or self._is_old(request):
            response.force_close()
            # The headers are made up already when this is called.
            response.headers["Connection"] = "close"

    def _is_old(self, request: web.Request) -> bool:
        """Whether a connection passed its age; its first request starts the count."""
        limit = self._options.max_connection_age_seconds
        if limit <= 0 or request.transport is None:
            return False
        now = self._inference.now()
        return now - self._since.setdefault(request.transport, now) >= limit

    async def _health(self, _request: web.Request) -> web.Response:
        """Answer that the loop runs; nothing else is asked."""
        return web.Response(text="ok")

    async def _metrics(self, _request: web.Request) -> web.Response:
        """Answer the metrics."""
        page = self._inference.metrics.page()
        return web.Response(body=page.encode(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _score(self, request: web.Request) -> web.Response:
        """Answer /score with the words of the script that it stands in for."""
        if request.method == "GET":
            return web.Response(status=405, text=scoring.GET_REFUSED)
        if request.method != "POST":
            return web.Response(status=500, text=scoring.OTHERS_REFUSED)
        try:
            name = self._inference.model_name(Target(None))
        except StatusError as error:
            return _failed(error.code, error.message)

        def work(body: bytes, deadline: Deadline) -> bytes:
            return scoring.score(self._inference, self._options.scoring_output, body, deadline)

        return await self._run(request, name, "Predict", SCORE, work)

    async def _rest(self, request: web.Request) -> web.Response:
        """Answer the API under /v1/; there is nothing else."""
        path = request.rel_url.raw_path
        if self._options.cors and request.method == "OPTIONS":
            return web.Response()
        if not path.lower().startswith(rest_paths.PREFIX):
            return web.Response(status=404, text="Not Found")
        try:
            call = rest_paths.parse(request.method, path)
        except StatusError as error:
            return _failed(error.code, error.message)
        name = call.target.name or ""

        def work(body: bytes, deadline: Deadline) -> bytes:
            return rest_api.answer(self._inference, call, body, deadline)

        if request.method == "GET":
            return await self._look(request, name, work)
        return await self._run(request, name, call.method.capitalize(), REST, work)

    async def _look(self, request: web.Request, name: str, work: _Work) -> web.Response:
        """Answer a question about a model: cheap, so the loop does it, and probes wait for no thread."""
        started = self._inference.now()
        code, reply = self._attempt(lambda: work(b"", Deadline()))
        self._inference.metrics.ended(name, code)
        call = f"GET{request.rel_url.raw_path}"
        access.note(request.remote, call, name, code, self._inference.now() - started, 0)
        return _reply(code, reply)

    async def _run(
        self,
        request: web.Request,
        name: str,
        api: str,
        entrypoint: str,
        work: _Work,
    ) -> web.Response:
        """Do the work with a request's body, and count it."""
        inference, metrics = self._inference, self._inference.metrics
        started = inference.now()
        answer = await self._answer(request, work)
        seconds = inference.now() - started
        metrics.ended(name, answer.code)
        if answer.code is grpc.StatusCode.OK:
            metrics.request_latency.observe(seconds * 1e6, name, api, entrypoint)
            metrics.request_bytes.add(name, entrypoint, amount=answer.size)
        access.note(request.remote, f"{entrypoint}/{api}", name, answer.code, seconds, answer.size)
        status = answer.status or http_code(answer.code)
        return web.Response(status=status, body=answer.reply, content_type=_JSON)

    async def _answer(self, request: web.Request, work: _Work) -> _Answer:
        """Check the key, read the body, do the work in a thread, and answer in time."""
        inference = self._inference
        deadline = inference.deadline(self._options.timeout_seconds)

        def admitted() -> bytes:
            with inference.admitted():
                return work(body, deadline)

        body = b""
        try:
            if self._keys is not None:
                self._keys.check(request.headers.get(HEADER))
            async with asyncio.timeout(self._options.timeout_seconds):
                body = await request.read()
                loop = asyncio.get_running_loop()
                code, reply = await loop.run_in_executor(self._pool, self._attempt, admitted)
        except web.HTTPRequestEntityTooLarge:
            message = TOO_LARGE % self._options.max_body_bytes
            return _Answer(grpc.StatusCode.INVALID_ARGUMENT, error_body(message), status=_TOO_LARGE_STATUS)
        except StatusError as error:
            return _Answer(error.code, error_body(error.message))
        except TimeoutError:
            return _Answer(grpc.StatusCode.DEADLINE_EXCEEDED, error_body(TIMED_OUT), len(body))
        return _Answer(code, reply, len(body))

    def _attempt(self, work: Callable[[], bytes]) -> tuple[grpc.StatusCode, bytes]:
        """Do the work; every failure becomes a status and a body."""
        try:
            return grpc.StatusCode.OK, work()
        except StatusError as error:
            return error.code, error_body(error.message)
        except Exception:  # noqa: BLE001  every failure must get a status
            _log.exception("a request failed unexpectedly")
            return grpc.StatusCode.INTERNAL, error_body(INTERNAL)


def _reply(code: grpc.StatusCode, body: bytes) -> web.Response:
    return web.Response(status=http_code(code), body=body, content_type=_JSON)


def _failed(code: grpc.StatusCode, message: str) -> web.Response:
    return _reply(code, error_body(message))
