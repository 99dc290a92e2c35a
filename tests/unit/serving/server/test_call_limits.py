"""Limits that hold for calls of several kinds together: places, bytes, lanes, and the end of a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, cast

import grpc
import pytest
from aiohttp.test_utils import TestClient, TestServer
from grpc_health.v1 import health, health_pb2_grpc

from serval_serving.models.served_models import ServedModels
from serval_serving.proxy.grpc_proxy import GrpcProxy
from serval_serving.server import grpc_calls
from serval_serving.server.flags import parse
from serval_serving.server.http_app import HttpOptions
from serval_serving.server.inference import Admission, Deadline, Inference, Target
from serval_serving.server.library_services import ENDPOINTS, LibraryServices
from serval_serving.server.memory import MemoryGuard
from serval_serving.server.metrics import GRPC, PREDICT, Metrics, RequestMetrics
from serval_serving.server.model_app import ModelApp
from serval_serving.server.pipeline import Call, Endpoint, Pipeline
from serval_serving.server.ports import Ports
from serval_serving.server.receipts import PATIENCE_SECONDS, Receipts
from serval_serving.server.services import Services
from serval_serving.wire import heavy_work, rpc
from serval_serving.wire.timing import REPLY_HEADER, REQUEST_HEADER
from support.clock import FakeClock

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
HEALTH = "/grpc.health.v1.Health/Check"


class Context:
    """The context of an RPC, that notes how it ended."""

    def __init__(self, seconds: float | None = None, **headers: str) -> None:
        self._seconds = seconds
        self._headers = headers
        self.ended: tuple[grpc.StatusCode, str] | None = None
        self.trailing: list[tuple[str, str]] = []

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return [(key.replace("_", "-"), value) for key, value in self._headers.items()]

    def time_remaining(self) -> float | None:
        return self._seconds

    def peer(self) -> str:
        return "here"

    def set_trailing_metadata(self, metadata: list[tuple[str, str]]) -> None:
        self.trailing = list(metadata)

    def abort(self, code: grpc.StatusCode, words: str) -> None:
        self.ended = code, words
        raise RuntimeError


class Details:
    def __init__(self, method: str) -> None:
        self.method = method


def server_handler(pipeline: Pipeline, path: str) -> Any:
    """What a server has for an RPC."""
    services = Services(cast("Inference", pipeline._admission), cast("ServedModels", None), pipeline)
    found = [one.service(cast("Any", Details(path))) for one in services.handlers()]
    return next(filter(None, found))


def front_handler(pipeline: Pipeline, path: str) -> Any:
    """What a front has for an RPC."""
    return GrpcProxy(cast("Any", None), Named(), pipeline).service(Details(path))  # type: ignore[arg-type]


def library_handler(pipeline: Pipeline, path: str) -> Any:
    """What the services of gRPC's libraries have for an RPC."""
    services = LibraryServices(pipeline, ThreadPoolExecutor(1), ENDPOINTS)
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), services)
    return services.service(Details(path))


class Named:
    """RequestRewriter of a model."""

    name = "m"


def pipeline_of(receipts: Receipts) -> Pipeline:
    return Pipeline(Inference({}, Metrics(), receipts=receipts))


def ending(handler: Any, arriving: Iterator[bytes], context: Context) -> tuple[grpc.StatusCode, str]:
    """How a call ends that is refused."""
    with pytest.raises(RuntimeError):
        handler.stream_unary(arriving, context)
    assert context.ended is not None
    return context.ended


KEYLESS: list[tuple[Callable[[Pipeline, str], Any], str]] = [
    (server_handler, rpc.GET_MODEL_STATUS.path),
    (front_handler, rpc.GET_MODEL_METADATA.path),
    (library_handler, HEALTH),
]


@pytest.mark.parametrize(("handler_of", "path"), KEYLESS)
def test_calls_that_need_no_key_have_half_of_the_places_and_small_messages(
    handler_of: Callable[[Pipeline, str], Any], path: str
) -> None:
    receipts = Receipts(rooms=4)
    handler = handler_of(pipeline_of(receipts), path)
    code, words = ending(handler, iter([bytes(65_537)]), Context())
    assert (code, words) == (EXHAUSTED, grpc_calls.TOO_LARGE)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(receipts.receiving(lambda: None, keyless=True))
        code, words = ending(handler, iter([b""]), Context())
        assert (code, words) == (EXHAUSTED, "Too many requests are being received: the limit is 2.")
        code, _ = ending(server_handler(pipeline_of(receipts), rpc.PREDICT.path), iter([b""]), Context())
        assert code is grpc.StatusCode.INVALID_ARGUMENT, "there is a place for it"


@pytest.mark.parametrize("method", [rpc.PREDICT, rpc.CLASSIFY])
def test_a_call_waits_for_larger_ones_until_its_deadline(method: rpc.Method) -> None:
    handler = server_handler(pipeline_of(Receipts()), method.path)
    strings = b"\x1a\x00" * (heavy_work.HEAVY_BYTES // 2)
    with heavy_work.heavy_work(heavy_work.HEAVY_BYTES):
        code, words = ending(handler, iter([b"\x7b\x7c" + strings]), Context(0.01))
    assert (code, words) == (grpc.StatusCode.DEADLINE_EXCEEDED, heavy_work.LATE)


def test_the_times_are_told_once() -> None:
    def steps(call: Call) -> bytes:
        call.received(1)
        call.ending = ((REPLY_HEADER, "total;dur=1"), ("other", "kept"))
        return call.run(lambda: b"reply")

    pipeline = Pipeline(Admission(RequestMetrics()))
    context = Context(**{REQUEST_HEADER.replace("-", "_"): "1"})
    assert grpc_calls.answer(pipeline, Endpoint(PREDICT, GRPC), context, steps) == b"reply"
    (told,) = (value for key, value in context.trailing if key == REPLY_HEADER)
    assert told != "total;dur=1", "the time of the whole way"
    assert ("other", "kept") in context.trailing


def test_a_server_without_grpc_drains_too() -> None:
    clock = FakeClock()
    receipts = Receipts(clock=clock)
    settings = replace(parse(["--model_base_path=/m"]).settings, port=0, rest_api_port=0)
    ports = Ports(settings, 1, 0, [], pipeline_of(receipts), cast("Any", None))
    ended: list[str] = []
    with receipts.receiving(lambda: ended.append("cut off"), parts=True):
        clock.now += PATIENCE_SECONDS + 1
        receipts.look()
        assert ended == []
        ports.drain()
        receipts.look()
    assert ended == ["cut off"]


async def test_bodies_count_with_the_messages_that_are_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []
    receipts = Receipts(MemoryGuard(4 << 20, lambda: 0))

    def predict(_inference: Inference, _target: Target, _body: bytes, _deadline: Deadline) -> bytes:
        with pytest.raises(grpc_calls.StatusError), receipts.holding(1 << 20):
            raise AssertionError
        held.append(True)
        return b"{}"

    monkeypatch.setattr("serval_serving.server.rest_api.predict", predict)
    inference = Inference({}, Metrics(), receipts=receipts)
    app = ModelApp(inference, Pipeline(inference), HttpOptions(0, 1, 5.0, 1 << 20), ThreadPoolExecutor(1))
    async with TestClient(TestServer(app.application())) as client:
        path = "/v1/models/m:predict"
        assert (await client.post(path, data=bytes(1 << 20))).status == 200
        with receipts.holding(1 << 20):
            assert (await client.post(path, data=bytes(1 << 20))).status == 429
    assert held == [True]
    app._budget.take(1 << 20)
    with pytest.raises(grpc_calls.StatusError):
        app._budget.take(1)
