"""The HTTP side: routes, time-outs, connection age. What blocks runs in a pool of threads."""

from __future__ import annotations

import asyncio
import logging
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import NamedTuple

import grpc
from aiohttp import web

from serval_serving.engines.base import TIMED_OUT
from serval_serving.server import access, rest_paths
from serval_serving.server import score as scoring
from serval_serving.server.http_errors import error_body, http_code
from serval_serving.server.inference import Admission, Deadline
from serval_serving.server.keys import HEADER, Keys
from serval_serving.server.metrics import SCORE
from serval_serving.server.spent import Spent
from serval_serving.wire.status import StatusError
from serval_serving.wire.timing import TOLD, WANTED

HEALTH_PATH = "/healthz"
INTERNAL = "The server failed on this request; its log has the details."
TOO_LARGE = "The body is larger than %d bytes."

CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Authorization",
}

JSON = "application/json"
_TOO_LARGE_STATUS = 413
REFUSALS = (web.HTTPRequestEntityTooLarge, StatusError, TimeoutError)
"""What ends a request before its work is done: too large a body, a key or a limit, too little time."""

Work = Callable[[bytes, Deadline], bytes]
"""Makes the body of a reply from that of a request; it blocks."""

_log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """How a request ended.

    That is a status, the reply's body, the request's bytes, an HTTP status of its own, and the words that
    tell where the time went.
    """

    code: grpc.StatusCode
    reply: bytes
    size: int = 0
    status: int = 0
    times: str = ""

    def response(self) -> web.Response:
        """Make the reply."""
        status = self.status or http_code(self.code)
        headers = {TOLD: self.times} if self.times else None
        return web.Response(status=status, body=self.reply, content_type=JSON, headers=headers)


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


class HttpApp(ABC):
    """The HTTP application of one server.

    Parameters
    ----------
    admission:
        Counts requests and admits them.
    options:
        How requests are handled.
    pool:
        Threads for what blocks.
    keys:
        What callers must show to predict; None for nothing.
    """

    def __init__(
        self, admission: Admission, options: HttpOptions, pool: Executor, keys: Keys | None = None
    ) -> None:
        self._admission = admission
        self._keys = keys
        self._options = options
        self._pool = pool
        self._draining = False
        self._since: weakref.WeakKeyDictionary[asyncio.BaseTransport, float] = weakref.WeakKeyDictionary()

    @abstractmethod
    def scorer(self) -> tuple[str, Work]:
        """Name the model that /score is for, and give what scores a body.

        Raises
        ------
        StatusError
            There is no such model.
        """

    @abstractmethod
    async def page(self) -> str:
        """Write the metrics."""

    @abstractmethod
    async def api(self, request: web.Request) -> web.StreamResponse:
        """Answer the API under /v1/."""

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
        now = self._admission.now()
        return now - self._since.setdefault(request.transport, now) >= limit

    async def _health(self, _request: web.Request) -> web.Response:
        """Answer that the loop runs; nothing else is asked."""
        return web.Response(text="ok")

    async def _metrics(self, _request: web.Request) -> web.Response:
        """Answer the metrics."""
        page = await self.page()
        return web.Response(body=page.encode(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _score(self, request: web.Request) -> web.Response:
        """Answer /score with the words of the script that it stands in for."""
        if request.method == "GET":
            return web.Response(status=405, text=scoring.GET_REFUSED)
        if request.method != "POST":
            return web.Response(status=500, text=scoring.OTHERS_REFUSED)
        try:
            name, work = self.scorer()
        except StatusError as error:
            return failed(error.code, error.message)
        return await self._run(request, name, "Predict", SCORE, work)

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        """Answer the API under /v1/; there is nothing else."""
        path = request.rel_url.raw_path
        if self._options.cors and request.method == "OPTIONS":
            return web.Response()
        if not path.lower().startswith(rest_paths.PREFIX):
            return web.Response(status=404, text="Not Found")
        return await self.api(request)

    async def _run(
        self,
        request: web.Request,
        name: str,
        api: str,
        entrypoint: str,
        work: Work,
    ) -> web.Response:
        """Do the work with a request's body, and count it."""
        started = self._admission.now()
        answer = await self._answer(request, work)
        self._count(request, name, api, entrypoint, answer.code, answer.size, started)
        return answer.response()

    def _count(
        self,
        request: web.Request,
        name: str,
        api: str,
        entrypoint: str,
        code: grpc.StatusCode,
        size: int,
        started: float,
    ) -> None:
        """Count a prediction that ended, and note it in the access log."""
        metrics = self._admission.metrics
        seconds = self._admission.now() - started
        metrics.ended(name, code)
        if code is grpc.StatusCode.OK:
            metrics.request_latency.observe(seconds * 1e6, name, api, entrypoint)
            metrics.request_bytes.add(name, entrypoint, amount=size)
        access.note(request.remote, f"{entrypoint}/{api}", name, code, seconds, size)

    def _count_look(self, request: web.Request, name: str, code: grpc.StatusCode, started: float) -> None:
        """The same for a question about a model."""
        self._admission.metrics.ended(name, code)
        call = f"GET{request.rel_url.raw_path}"
        access.note(request.remote, call, name, code, self._admission.now() - started, 0)

    async def _answer(self, request: web.Request, work: Work) -> Answer:
        """Check the key, read the body, do the work in a thread, and answer in time."""
        admission = self._admission
        spent = Spent() if WANTED in request.headers else None
        deadline = admission.deadline(self._options.timeout_seconds, spent)

        def admitted() -> bytes:
            if spent is not None:
                spent.add(admission.now() - arrived)
            with admission.admitted():
                return work(body, deadline)

        body = b""
        try:
            if self._keys is not None:
                self._keys.check(request.headers.get(HEADER))
            async with asyncio.timeout(self._options.timeout_seconds):
                body = await request.read()
                arrived = admission.now()
                loop = asyncio.get_running_loop()
                code, reply = await loop.run_in_executor(self._pool, self._attempt, admitted)
        except REFUSALS as error:
            return self._refused(error, len(body))
        times = "" if spent is None else spent.told(admission.now() - arrived)
        return Answer(code, reply, len(body), times=times)

    def _refused(self, error: Exception, size: int = 0) -> Answer:
        """Make the answer of a request that failed before its work was done."""
        if isinstance(error, web.HTTPRequestEntityTooLarge):
            message = TOO_LARGE % self._options.max_body_bytes
            return Answer(grpc.StatusCode.INVALID_ARGUMENT, error_body(message), status=_TOO_LARGE_STATUS)
        if isinstance(error, StatusError):
            return Answer(error.code, error_body(error.message))
        return Answer(grpc.StatusCode.DEADLINE_EXCEEDED, error_body(TIMED_OUT), size)

    def _attempt(self, work: Callable[[], bytes]) -> tuple[grpc.StatusCode, bytes]:
        """Do the work; every failure becomes a status and a body."""
        try:
            return grpc.StatusCode.OK, work()
        except StatusError as error:
            return error.code, error_body(error.message)
        except Exception:  # noqa: BLE001  every failure must get a status
            _log.exception("a request failed unexpectedly")
            return grpc.StatusCode.INTERNAL, error_body(INTERNAL)


def replied(code: grpc.StatusCode, body: bytes) -> web.Response:
    """Make the reply of a status and a body of JSON."""
    return web.Response(status=http_code(code), body=body, content_type=JSON)


def failed(code: grpc.StatusCode, message: str) -> web.Response:
    """Make the reply that says what went wrong."""
    return replied(code, error_body(message))
