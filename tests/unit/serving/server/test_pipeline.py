"""The steps that every request takes, their order, and that what no table lists as open requires a key."""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from serval_serving.models.served_models import ServedModels
from serval_serving.proxy.grpc_proxy import GrpcProxy
from serval_serving.proxy.proxy_app import ProxyApp
from serval_serving.server.access import LOGGER
from serval_serving.server.http_app import HttpApp, HttpOptions, Route
from serval_serving.server.inference import Admission, Inference
from serval_serving.server.keys import Keys
from serval_serving.server.library_services import ENDPOINTS, LibraryServices
from serval_serving.server.metrics import GRPC, PREDICT, REST, Metrics, RequestMetrics
from serval_serving.server.model_app import ModelApp
from serval_serving.server.pipeline import INTERNAL, Call, Endpoint, Pipeline
from serval_serving.server.services import Services
from serval_serving.wire.status import StatusError, invalid

KEY = "Bearer secret"
POD = platform.node()
CLOSED = Endpoint(PREDICT, GRPC)
LOOK = Endpoint("Look", REST, open=True, limited=False)
SILENT = Endpoint("Reload", GRPC, limited=False, counted=False)
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


class Asking:
    """A caller with these headers."""

    def __init__(self, **headers: str) -> None:
        self._headers = headers

    def peer(self) -> str | None:
        return "here"

    def header(self, name: str) -> str | None:
        return self._headers.get(name.replace("-", "_"))


class Steps:
    """Notes what a pipeline does, with a clock of its own."""

    def __init__(self, keys: Path | None, limit: int = 0) -> None:
        self.done: list[str] = []
        self.time = 100.0
        self.metrics = RequestMetrics()
        admission = Admission(self.metrics, limit, lambda: self.time)
        self.pipeline = Pipeline(admission, Keys(keys) if keys else None)
        self._note(admission, "admitted")

    def _note(self, admission: Admission, name: str) -> None:
        original = admission.admitted

        @contextmanager
        def admitted() -> Iterator[None]:
            with original():
                self.done.append(name)
                yield

        setattr(admission, name, admitted)

    def answer(
        self, endpoint: Endpoint, caller: Asking, work: Callable[[Call], str], seconds: float | None = None
    ) -> str | StatusError:
        """Answer a request of 7 bytes that takes 2 seconds."""
        call = self.pipeline.call(endpoint, caller, seconds)

        def steps(call: Call) -> str:
            self.done.append("message")
            call.model = "m"
            call.received(7)
            return call.run(lambda: run(call))

        def run(call: Call) -> str:
            self.done.append("run")
            self.take_two_seconds()
            return work(call)

        return self.pipeline.answer(call, steps)

    def take_two_seconds(self) -> None:
        self.time += 2

    def counted(self) -> list[str]:
        """Return the samples of requests, latencies (their number and sum) and bytes."""
        names = ("request_count{", "request_latency_count", "request_latency_sum", "request_bytes_total{")
        return [
            line for line in self.metrics.request_page().splitlines() if any(name in line for name in names)
        ]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("secret\n")
    return path


def failing(error: Exception) -> Callable[[Call], str]:
    def work(_call: Call) -> str:
        raise error

    return work


def status(reply: object) -> tuple[grpc.StatusCode, str]:
    assert isinstance(reply, StatusError)
    return reply.code, reply.message


def test_the_steps_have_one_order_and_are_counted_once(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    steps = Steps(keys)
    with caplog.at_level(logging.INFO, LOGGER):
        caller = Asking(authorization=KEY, x_request_id="chosen")
        assert steps.answer(CLOSED, caller, lambda _: "reply") == "reply"
    assert steps.done == ["admitted", "message", "run"]
    assert steps.counted() == [
        ':tensorflow:serving:request_count{model_name="m",status="OK"} 1',
        ':tensorflow:serving:request_latency_sum{model_name="m",API="Predict",entrypoint="GRPC"} 2000000',
        ':tensorflow:serving:request_latency_count{model_name="m",API="Predict",entrypoint="GRPC"} 1',
        'serval_request_bytes_total{model_name="m",entrypoint="GRPC"} 7',
    ]
    assert [record.getMessage() for record in caplog.records] == [
        f"peer=here call=Predict model=m status=OK ms=2000.000 bytes=7 id=chosen pod={POD} key=keys"
    ]


@pytest.mark.parametrize(
    "caller", [Asking(x_request_id="i"), Asking(authorization="Bearer wrong", x_request_id="i")]
)
def test_without_a_key_no_step_is_taken(keys: Path, caller: Asking, caplog: pytest.LogCaptureFixture) -> None:
    steps = Steps(keys)
    with caplog.at_level(logging.INFO, LOGGER):
        assert status(steps.answer(CLOSED, caller, lambda _: "reply"))[0] is UNAUTHENTICATED
    assert steps.done == []
    assert steps.counted() == [':tensorflow:serving:request_count{model_name="",status="UNAUTHENTICATED"} 1']
    assert [record.getMessage() for record in caplog.records] == [
        f"peer=here call=Predict model= status=UNAUTHENTICATED ms=0.000 bytes=0 id=i pod={POD} key="
    ]


def test_an_open_endpoint_needs_no_key_and_no_place(keys: Path) -> None:
    steps = Steps(keys, limit=1)
    with steps.pipeline.call(CLOSED, Asking()).admitted():
        assert steps.answer(LOOK, Asking(), lambda _: "reply") == "reply"
        assert status(steps.answer(CLOSED, Asking(authorization=KEY), lambda _: "reply")) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "Too many concurrent requests: the limit is 1.",
        )
    assert steps.done == ["admitted", "message", "run"], "the message of a refused request is not received"
    assert steps.counted() == [
        ':tensorflow:serving:request_count{model_name="m",status="OK"} 1',
        ':tensorflow:serving:request_count{model_name="",status="RESOURCE_EXHAUSTED"} 1',
    ]


def test_an_endpoint_that_is_not_counted_needs_a_key_all_the_same(keys: Path) -> None:
    steps = Steps(keys)
    assert status(steps.answer(SILENT, Asking(), lambda _: "reply"))[0] is UNAUTHENTICATED
    assert steps.answer(SILENT, Asking(authorization=KEY), lambda _: "reply") == "reply"
    assert (steps.done, steps.counted()) == (["message", "run"], [])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (invalid("words"), (grpc.StatusCode.INVALID_ARGUMENT, "words")),
        (ValueError("secret"), (grpc.StatusCode.INTERNAL, INTERNAL)),
        (TimeoutError("secret"), (grpc.StatusCode.INTERNAL, INTERNAL)),
    ],
)
def test_failures_of_the_work_become_a_status_and_are_counted_once(
    error: Exception, expected: tuple[grpc.StatusCode, str], caplog: pytest.LogCaptureFixture
) -> None:
    steps = Steps(None)
    assert status(steps.answer(CLOSED, Asking(), failing(error))) == expected
    assert steps.counted() == [
        f':tensorflow:serving:request_count{{model_name="m",status="{expected[0].name}"}} 1'
    ]
    logged = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert logged == ([] if isinstance(error, StatusError) else [error])
    assert steps.metrics.in_flight() == 0


def test_a_message_that_cannot_be_read_is_a_failure_too(caplog: pytest.LogCaptureFixture) -> None:
    steps = Steps(None)
    call = steps.pipeline.call(CLOSED, Asking())

    def unreadable(_call: Call) -> str:
        raise ValueError("secret")

    assert status(steps.pipeline.answer(call, unreadable)) == (grpc.StatusCode.INTERNAL, INTERNAL)
    assert steps.counted() == [':tensorflow:serving:request_count{model_name="",status="INTERNAL"} 1']
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_the_deadline_begins_with_the_request() -> None:
    steps = Steps(None)
    seen: list[float | None] = []

    def work(call: Call) -> str:
        seen.append(call.deadline.left(steps.time))
        return ""

    steps.answer(CLOSED, Asking(), work, 5.0)
    steps.answer(CLOSED, Asking(), work)
    assert seen == [3.0, None]


def test_the_times_are_told_to_those_who_ask() -> None:
    steps = Steps(None)
    told: list[str] = []
    for caller in (Asking(serval_timing="1"), Asking()):
        call = steps.pipeline.call(CLOSED, caller)

        call.received(1, waited=0.5)
        steps.time += 1
        call.run(steps.take_two_seconds)
        told.append(call.times)
    assert told == ["total;dur=3500.000, queue;dur=1500.000", ""]


async def test_requests_of_an_event_loop_take_the_same_steps(keys: Path) -> None:
    steps = Steps(keys)

    async def late(_call: Call) -> str:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
        return ""

    async def reply(call: Call) -> str:
        return call.run(lambda: "reply")

    pipeline = steps.pipeline
    caller = Asking(authorization=KEY)
    assert await pipeline.answer_async(pipeline.call(CLOSED, caller), reply) == "reply"
    refused = await pipeline.answer_async(pipeline.call(CLOSED, Asking()), reply)
    assert status(refused)[0] is UNAUTHENTICATED
    timed_out = await pipeline.answer_async(pipeline.call(CLOSED, caller), late)
    assert status(timed_out)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert steps.done == ["admitted", "admitted"]
    assert steps.metrics.in_flight() == 0
    assert [line for line in steps.counted() if "request_count{" in line] == [
        f':tensorflow:serving:request_count{{model_name="",status="{code}"}} 1'
        for code in ("OK", "UNAUTHENTICATED", "DEADLINE_EXCEEDED")
    ]


class Context:
    """The context of an RPC without metadata, that notes how it was aborted."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def time_remaining(self) -> float | None:
        return None

    def peer(self) -> str:
        return "here"

    def set_trailing_metadata(self, _metadata: object) -> None:
        pass

    def abort(self, code: grpc.StatusCode, _details: str) -> None:
        self.code = code
        raise RuntimeError


class Details:
    def __init__(self, method: str) -> None:
        self.method = method


def is_open(handler: Any) -> bool:
    """Whether a call without a key passes the check of keys; its bytes are no message, so it fails later."""
    context = Context()
    try:
        handler.stream_unary(iter([b"\xff"]), context)
    except RuntimeError:
        return context.code is not UNAUTHENTICATED
    raise AssertionError("a call with these bytes was answered")


def test_only_these_rpcs_are_open(keys: Path) -> None:
    inference = Inference({}, Metrics())
    services = Services(inference, cast("ServedModels", None), Pipeline(inference, Keys(keys)))
    handlers = services.handlers()
    opened = set()
    for entry in services.rpcs():
        path = entry.method.path
        (handler,) = filter(None, (one.service(cast("Any", Details(path))) for one in handlers))
        if is_open(handler):
            opened.add(entry.method.name)
    assert opened == {"GetModelMetadata", "GetModelStatus"}
    unknown = cast("Any", Details("/tensorflow.serving.PredictionService/New"))
    assert [one.service(unknown) for one in handlers] == [None, None]


def test_a_proxy_opens_no_other_rpc(keys: Path) -> None:
    pipeline = Pipeline(Admission(RequestMetrics()), Keys(keys))
    relay = GrpcProxy(cast("Any", None), cast("Any", Named()), pipeline)
    service = "/tensorflow.serving.PredictionService/"
    paths = [f"{service}{name}" for name in ("Predict", "Classify", "GetModelMetadata", "New")]
    opened = [path for path in (*paths, "/any.Service/Method") if is_open(relay.service(Details(path)))]
    assert opened == [f"{service}GetModelMetadata"]


def library_services(keys: Path, endpoints: Mapping[str, Endpoint] = ENDPOINTS) -> LibraryServices:
    """Return the services of gRPC's libraries, as a server registers them."""
    pipeline = Pipeline(Admission(RequestMetrics()), Keys(keys))
    services = LibraryServices(pipeline, ThreadPoolExecutor(1), endpoints)
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), services)
    enable_server_reflection([health.SERVICE_NAME], services)
    return services


def test_health_checks_and_reflection_are_open(keys: Path) -> None:
    services = library_services(keys)
    assert all(services.service(Details(path)) for path in ENDPOINTS)
    check = services.service(Details("/grpc.health.v1.Health/Check"))
    assert check.stream_unary(iter([b""]), Context()).status == 1
    reflect = services.service(Details("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"))
    asked = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    (reply,) = reflect.stream_stream(iter([asked]), Context())
    assert [service.name for service in reply.list_services_response.service] == [health.SERVICE_NAME]
    assert services.service(Details("/grpc.health.v1.Health/Watch")).stream_stream.experimental_non_blocking


def test_what_a_library_adds_is_refused_until_it_is_listed(keys: Path) -> None:
    listed = {"/grpc.health.v1.Health/Check": ENDPOINTS["/grpc.health.v1.Health/Check"]}
    services = library_services(keys, listed)
    assert [path for path in ENDPOINTS if services.service(Details(path))] == list(listed)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_method_of_a_library_requires_a_key_unless_it_is_listed_as_open(keys: Path, path: str) -> None:
    handler = library_services(keys, {path: Endpoint("New", GRPC)}).service(Details(path))
    (behavior,) = filter(None, (handler.stream_unary, handler.stream_stream))
    context = Context()
    with pytest.raises(RuntimeError):
        behavior(None, context)
    assert context.code is UNAUTHENTICATED


class Named:
    """RequestRewriter of a model."""

    name = "m"


def options(**more: Any) -> HttpOptions:
    return HttpOptions(0, 1, 5.0, 1000, metrics_path="/metrics", cors=True, **more)


def model_app(keys: Path) -> HttpApp:
    inference = Inference({}, Metrics())
    return ModelApp(inference, Pipeline(inference, Keys(keys)), options(), ThreadPoolExecutor(1))


def front_app(keys: Path) -> HttpApp:
    nothing = cast("Any", None)
    pipeline = Pipeline(Admission(RequestMetrics()), Keys(keys))
    return ProxyApp(nothing, nothing, "localhost:1", pipeline, options(), ThreadPoolExecutor(1))


def closed(routes: Iterator[Route]) -> list[str]:
    """List the routes that need a key, by their method and the end of their path."""
    return [f"{route.method} {route.path.rpartition(':')[2]}" for route in routes if not route.endpoint.open]


def test_only_these_routes_are_closed(keys: Path) -> None:
    predictions = ["POST /score", "POST predict)}", "POST classify)}", "POST regress)}"]
    assert closed(model_app(keys).routes()) == predictions
    assert closed(front_app(keys).routes()) == predictions


async def test_a_new_route_is_closed(keys: Path) -> None:
    class More(ModelApp):
        def api(self) -> list[Route]:
            async def answer(_request: web.Request, _call: Call) -> web.Response:
                return web.Response(text="reply")

            return [*super().api(), Route("GET", "/v1/new", Endpoint("New", REST), answer)]

    inference = Inference({}, Metrics())
    app = More(inference, Pipeline(inference, Keys(keys)), options(), ThreadPoolExecutor(1))
    async with TestClient(TestServer(app.application())) as client:
        assert (await client.get("/v1/new")).status == 401
        assert (await client.get("/v1/new", headers={"authorization": KEY})).status == 200
        assert (await client.get("/v1/newer")).status == 400
        assert (await client.get("/new")).status == 404


@pytest.mark.parametrize(
    ("path", "name", "version", "label"),
    [
        ("/v1/models/m:predict", "m", None, ""),
        ("/V1/Models/m%20N/Versions/007:PREDICT", "m N", 7, ""),
        ("/v1/models/m/labels/stable%2Fb:predict", "m", None, "stable/b"),
    ],
)
async def test_paths_say_which_model_is_meant(
    keys: Path, monkeypatch: pytest.MonkeyPatch, path: str, name: str, version: int | None, label: str
) -> None:
    seen: list[Any] = []

    def predict(_inference: Inference, target: Any, _body: bytes, _deadline: object) -> bytes:
        seen.append(target)
        return b"{}"

    monkeypatch.setattr("serval_serving.server.rest_api.predict", predict)
    async with TestClient(TestServer(model_app(keys).application())) as client:
        assert (await client.post(path, headers={"authorization": KEY})).status == 200
    assert [(target.name, target.version, target.label) for target in seen] == [(name, version, label)]


@pytest.mark.parametrize(
    ("digits", "code"), [("9223372036854775807", 404), ("9223372036854775808", 400), ("9" * 5000, 400)]
)
async def test_versions_have_a_limit(keys: Path, digits: str, code: int) -> None:
    app = model_app(keys)
    async with TestClient(TestServer(app.application())) as client:
        reply = await client.get(f"/v1/models/m/versions/{digits}")
        assert reply.status == code
        if code == 400:
            assert await reply.json() == {"error": f"Failed to convert version: {digits} to numeric."}
