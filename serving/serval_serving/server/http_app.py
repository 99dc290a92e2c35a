"""The HTTP side: a table of routes, time-outs, connection age. What blocks runs in a pool of threads."""

from __future__ import annotations

import asyncio
import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, NamedTuple

from aiohttp import web

from serval_serving.server import rest_paths
from serval_serving.server import score as scoring
from serval_serving.server.http_body import BodyBudget, body_of
from serval_serving.server.http_errors import error_body, http_status
from serval_serving.server.inference import Deadline, Target
from serval_serving.server.metrics import PREDICT, REST, SCORE
from serval_serving.server.pipeline import Call, Endpoint, Pipeline
from serval_serving.wire.status import StatusError
from serval_serving.wire.timing import REPLY_HEADER, REQUEST_HEADER
from serval_serving.wire.tracing import (
    CLIENT_REQUEST_ID,
    DEVICE_ENGINE,
    MODEL_DIGEST,
    MODEL_VERSION,
    REQUEST_ID,
    TRACEPARENT,
    TRACESTATE,
)

HEALTH_PATH: Final = "/healthz"
ANY_PATH: Final = "/{_path:.*}"

_ASKED: Final = (REQUEST_ID, CLIENT_REQUEST_ID, TRACEPARENT, TRACESTATE, REQUEST_HEADER)
_TOLD: Final = (REQUEST_ID, CLIENT_REQUEST_ID, MODEL_VERSION, MODEL_DIGEST, DEVICE_ENGINE, REPLY_HEADER)
CORS_HEADERS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
    "Access-Control-Allow-Headers": ", ".join(("Content-Type", "Authorization", *_ASKED)),
    "Access-Control-Expose-Headers": ", ".join(_TOLD),
}

_BODIES: Final = 2
"""Number of bodies of the largest size that may be in memory."""

JSON: Final = "application/json"

Work = Callable[[bytes, Deadline], bytes]
"""Makes the body of a reply from that of a request; it blocks."""

OPEN: Final = Endpoint("", "", open=True, limited=False, counted=False)
"""Routes that say nothing of a model and run none: health, metrics, refusals."""

LOOK: Final = Endpoint("Look", REST, open=True, limited=False)
"""Questions about a model."""


class Route(NamedTuple):
    """A line of the table of routes.

    Attributes
    ----------
    method, path:
        What it matches, as aiohttp writes it; the method `*` for all.
    endpoint:
        Its steps in the pipeline.
    answer:
        Makes the reply.
    """

    method: str
    path: str
    endpoint: Endpoint
    answer: Callable[[web.Request, Call], Awaitable[web.StreamResponse]]


class HttpCaller:
    """The sender of an HTTP request."""

    __slots__ = ("_request",)

    def __init__(self, request: web.Request) -> None:
        self._request = request

    def peer(self) -> str | None:
        """Return the address."""
        return self._request.remote

    def header(self, name: str) -> str | None:
        """Return the value of a header; None if it is absent."""
        return self._request.headers.get(name)


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
    alive:
        Whether the gRPC server beside it is not stuck.
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
    alive: Callable[[], bool] = lambda: True


class HttpApp(ABC):
    """The HTTP application of one server.

    Every request goes through the pipeline, with the endpoint of its route; what no route lists is refused.

    Parameters
    ----------
    pipeline:
        Takes the requests through the common steps.
    options:
        How requests are handled.
    pool:
        Threads for what blocks.
    """

    def __init__(self, pipeline: Pipeline, options: HttpOptions, pool: Executor) -> None:
        self._pipeline = pipeline
        self._options = options
        self._pool = pool
        self._budget = BodyBudget(_most_bytes(options.max_body_bytes, pipeline.receipts.most_held))
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
    def api(self) -> Sequence[Route]:
        """List the routes under /v1/."""

    def routes(self) -> Iterator[Route]:
        """List all routes. The first one that matches answers."""
        yield Route("*", HEALTH_PATH, OPEN, self._health)
        if self._options.metrics_path:
            yield Route("HEAD", self._options.metrics_path, OPEN, self._metrics)
            yield Route("GET", self._options.metrics_path, OPEN, self._metrics)
        if self._options.cors:
            # aiohttp prefers a path without a pattern, so this one is listed beside the pattern for all.
            for path in (scoring.PATH, ANY_PATH):
                yield Route("OPTIONS", path, OPEN, self._preflight)
        if self._options.scoring:
            yield Route("POST", scoring.PATH, Endpoint(PREDICT, SCORE), self._score)
            yield Route("*", scoring.PATH, OPEN, self._score_refused)
        yield from self.api()
        yield Route("*", ANY_PATH, OPEN, self._unlisted)

    def application(self) -> web.Application:
        """Make the aiohttp application."""
        app = web.Application()
        for route in self.routes():
            app.router.add_route(route.method, route.path, self._handler(route))
        app.on_response_prepare.append(self._before_reply)
        return app

    def drain(self) -> None:
        """Ask every client to connect elsewhere after its next reply. Call it in the loop's thread."""
        self._draining = True

    def _handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Make what takes the requests of a route through the pipeline."""
        endpoint = route.endpoint
        seconds = self._options.timeout_seconds if endpoint.limited else None

        async def handle(request: web.Request) -> web.StreamResponse:
            call = self._pipeline.call(endpoint, HttpCaller(request), seconds)
            response = await self._pipeline.answer_async(call, lambda call: route.answer(request, call))
            if isinstance(response, StatusError):
                response = _failed(response, call)
            response.headers.extend(call.trace.reply_headers())
            return response

        return handle

    async def run(self, request: web.Request, call: Call, work: Work) -> web.Response:
        """Read the body and answer with what the work makes of it in a thread of the pool, in time.

        Raises
        ------
        StatusError
            What the work raises, or the body is too large.
        TimeoutError
            The time is over; the thread goes on.
        """
        async with asyncio.timeout(self._options.timeout_seconds):
            with body_of(request, self._budget, self._options.max_body_bytes) as body:
                await body.read(self._pipeline.receipts)
                call.received(body.size)
                loop = asyncio.get_running_loop()

                def answer() -> bytes:
                    return work(body.content(call.deadline.left(self._pipeline.now())), call.deadline)

                with self._pipeline.receipts.holding(body.size):
                    reply = await loop.run_in_executor(self._pool, call.run, answer)
        return replied(reply, call)

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
        now = self._pipeline.now()
        return now - self._since.setdefault(request.transport, now) >= limit

    async def _health(self, _request: web.Request, _call: Call) -> web.Response:
        """Answer that the loop runs, and that gRPC is not stuck; nothing else is asked."""
        if self._options.alive():
            return web.Response(text="ok")
        return web.Response(status=503, text="gRPC does not answer")

    async def _metrics(self, _request: web.Request, _call: Call) -> web.Response:
        """Answer the metrics."""
        page = await self.page()
        return web.Response(body=page.encode(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _score(self, request: web.Request, call: Call) -> web.Response:
        """Answer /score."""
        call.model, work = self.scorer()
        return await self.run(request, call, work)

    async def _score_refused(self, request: web.Request, _call: Call) -> web.Response:
        """Refuse other methods of /score with the words of the script that it replaces."""
        if request.method == "GET":
            return web.Response(status=405, text=scoring.GET_REFUSED)
        return web.Response(status=500, text=scoring.OTHERS_REFUSED)

    async def _preflight(self, _request: web.Request, _call: Call) -> web.Response:
        """Let browsers ask whether they may call; the headers of every reply say it."""
        return web.Response()

    async def _unlisted(self, request: web.Request, _call: Call) -> web.Response:
        """Refuse what no route lists."""
        path = request.rel_url.raw_path
        if path.lower().startswith(rest_paths.PREFIX):
            raise rest_paths.refusal(request.method, path)
        return web.Response(status=404, text="Not Found")


def target_of(request: web.Request, call: Call) -> Target:
    """Say which model a request under /v1/ is for, and note that for the metrics.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: the version is too large a number.
    """
    call.model = request.match_info["name"]
    if not call.endpoint.limited:
        # The access log shows the whole path of a question about a model.
        call.name = f"{request.method}{request.rel_url.raw_path}"
    return rest_paths.target_of(request.match_info)


def _most_bytes(largest: int, most_held: int | None) -> int:
    """Return how many bytes all bodies may have together; the largest one is always possible."""
    several = _BODIES * largest
    return several if most_held is None else min(several, max(largest, most_held))


def replied(body: bytes, call: Call) -> web.Response:
    """Make a reply of JSON."""
    return _response(200, body, call)


def _failed(failure: StatusError, call: Call) -> web.Response:
    """Make the reply of a request that failed."""
    return _response(http_status(failure), error_body(failure.message), call)


def _response(status: int, body: bytes, call: Call) -> web.Response:
    """Make a reply of JSON, with the times that the caller asked for."""
    headers = {REPLY_HEADER: call.times} if call.times else None
    return web.Response(status=status, body=body, content_type=JSON, headers=headers)
