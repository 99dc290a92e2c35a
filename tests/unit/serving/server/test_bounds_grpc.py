"""Clumsy and unfriendly gRPC clients cannot hold a server, and cost it little before they are refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serval_serving.models.served_models import ServedModels
from serval_serving.proxy.grpc_proxy import GrpcProxy
from serval_serving.server.batch_settings import BatchSettings
from serval_serving.server.flags import parse
from serval_serving.server.inference import Admission, Inference
from serval_serving.server.metrics import Metrics, RequestMetrics
from serval_serving.server.pipeline import Pipeline
from serval_serving.server.ports import _grpc_options, batch_threads
from serval_serving.server.services import Services
from serval_serving.wire import messages, rpc
from unit.serving.server.fake_engine import write_version
from unit.serving.server.grpc_calls import floats, in_flight, predictor, refused
from unit.serving.server.processes import Server, front_of, running, wait_until
from unit.serving.server.rest_calls import METRICS
from unit.serving.wire.official import stubs

Start = Callable[..., Server]
LIMIT = 30.0
HELD = 100
"""Calls without a message on one connection: as many as it may have."""


@contextmanager
def silent(server: Server, count: int) -> Iterator[list[Any]]:
    """Calls of Predict that send no message."""
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait(LIMIT * 4)
        yield from ()

    with server.channel() as channel:
        method = channel.stream_unary(rpc.PREDICT.path)
        calls = [method.future(nothing()) for _ in range(count)]
        try:
            yield calls
        finally:
            over.set()


def ask(server: Server, model: str = "m") -> list[float]:
    with server.channel() as channel:
        predict = predictor(stubs().prediction_service.PredictionServiceStub(channel))
        return list(predict({"x": floats(1)}, "", model, seconds=5.0).outputs["y"].float_val)


def send(server: Server, data: bytes, path: str = rpc.PREDICT.path) -> tuple[grpc.StatusCode, str]:
    with server.channel() as channel:
        return refused(lambda: channel.unary_unary(path)(data, timeout=LIMIT))


def arrived(server: Server, count: int) -> None:
    wait_until("the calls have arrived", lambda: in_flight(server) >= count, LIMIT)


def test_calls_without_a_message_do_not_hold_a_server(start_fake: Start, tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1, factor=3)
    flags = ("--grpc_max_threads=2", "--max_connection_age_seconds=1", "--drain_seconds=18")
    server = start_fake(*flags).wait_ready()
    with silent(server, HELD):
        arrived(server, HELD)
        assert ask(server) == [3.0]
        with server.channel() as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            assert check(health_pb2.HealthCheckRequest(), timeout=5).status == 1
        server.terminate()
        assert server.wait(15) == 0, "they do not hold up the end either, for which there are 18 s"


def test_calls_without_a_message_do_not_hold_a_front(start_fake: Start, tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1, factor=3)
    behind = start_fake().wait_ready()
    with running(front_of(behind, tmp_path / "front", "--model_name=m", "--grpc_max_threads=2")) as front:
        front.wait_ready()
        with silent(front, HELD):
            arrived(front, HELD)
            assert ask(front) == [3.0]


def test_who_has_no_key_is_refused_before_a_message_comes(start_fake: Start, tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1)
    keys = tmp_path / "keys"
    keys.write_text("secret")
    with silent(start_fake(f"--auth_keys={keys}").wait_ready(), 1) as (call,):
        assert call.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_request_is_admitted_before_its_message_comes(start_fake: Start, tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1, factor=3)
    server = start_fake("--max_concurrent_requests=1").wait_ready()
    with silent(server, 1) as (call,):
        arrived(server, 1)
        code, _ = refused(lambda: ask(server))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED

        def answered() -> bool:
            try:
                return ask(server) == [3.0]
            except grpc.RpcError:
                return False

        wait_until("the silent caller lost his place to another", answered, LIMIT)
        assert call.code() is grpc.StatusCode.CANCELLED


def test_messages_have_a_largest_size(start_fake: Start, tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1)
    server = start_fake("--grpc_max_message_bytes=1000").wait_ready()
    assert ask(server) == [1.0]
    assert send(server, b"\x1a\x00" * 1000)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("method", [rpc.PREDICT, rpc.CLASSIFY, rpc.MULTI_INFERENCE])
def test_a_message_of_too_many_fields_is_refused(
    start_fake: Start, tmp_path: Path, method: rpc.Method
) -> None:
    write_version(tmp_path / "m", 1)
    code, words = send(start_fake().wait_ready(), b"\x1a\x00" * 1_100_000, method.path)
    most = 10_000 if method is rpc.PREDICT else 1_000_000
    assert (code, words) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        f"The request has more than {most} fields.",
    )


def test_no_message_at_all(start_fake: Start, tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1)
    with start_fake().wait_ready().channel() as channel:
        call = channel.stream_unary(rpc.PREDICT.path)
        code, words = refused(lambda: call(iter(()), timeout=LIMIT))
    assert (code, words) == (
        grpc.StatusCode.UNIMPLEMENTED,
        "This call requires exactly one request message.",
    )


class Details:
    method = rpc.PREDICT.path


def test_grpcio_reads_no_message_itself() -> None:
    inference = Inference({}, Metrics())
    services = Services(inference, cast("ServedModels", None), Pipeline(inference))
    found = [handler.service(cast("Any", Details())) for handler in services.handlers()]
    relay = GrpcProxy(cast("Any", None), cast("Any", None), Pipeline(Admission(RequestMetrics())))
    for handler in (*filter(None, found), relay.service(Details())):
        assert handler.request_deserializer is None, "it would run in the thread that accepts calls"
        assert handler.stream_unary is not None, "it would keep a call until its message came"


def test_names_of_models_that_there_are_not_become_no_label(start_fake: Start, tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1)
    server = start_fake().wait_ready()
    ask(server)
    for name in ("x" * 1000, "y"):
        assert refused(lambda name=name: ask(server, name))[0] is grpc.StatusCode.NOT_FOUND  # type: ignore[misc]
        assert server.get(f"/v1/models/{name}").status == 404
    lines = [line for line in server.get(METRICS).data.decode().splitlines() if "request_count{" in line]
    assert lines == [
        ':tensorflow:serving:request_count{model_name="m",status="OK"} 1',
        ':tensorflow:serving:request_count{model_name="(other)",status="NOT_FOUND"} 4',
    ]


def test_a_front_names_the_models_that_its_server_has(start_fake: Start, tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1)
    behind = start_fake().wait_ready()
    with running(front_of(behind, tmp_path / "front", "--model_name=m")) as front:
        front.wait_ready()
        ask(front)
        refused(lambda: ask(front, "y"))
        page = front.get(METRICS).data.decode()
    assert 'request_count{model_name="m",status="OK"} 1' in page
    assert 'request_count{model_name="(other)",status="NOT_FOUND"} 1' in page


def test_a_front_passes_nothing_on_that_changes_the_server_behind(start_fake: Start, tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1)
    behind = start_fake("--enable_config_reload").wait_ready()
    request = messages.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    with running(front_of(behind, tmp_path / "front", "--model_name=m")) as front:
        front.wait_ready()
        for path in (rpc.HANDLE_RELOAD_CONFIG.path, "/tensorflow.ProfilerService/Profile"):
            code, _ = send(front, request.SerializeToString(), path)
            assert code is grpc.StatusCode.PERMISSION_DENIED
        assert ask(front) == [1.0]


@pytest.mark.parametrize(
    ("size", "threads", "flags", "expected"),
    [
        (0, 0, (), 64),
        (64, 2, (), 256),
        (1000, 2, (), 512),
        (64, 2, ("--grpc_max_threads=9",), 9),
    ],
)
def test_batches_have_the_threads_that_fill_them(
    size: int, threads: int, flags: tuple[str, ...], expected: int
) -> None:
    settings = parse(["--model_base_path=/m", *flags]).settings
    batches = BatchSettings(max_execution_size=size, threads=threads) if size else None
    options = _grpc_options(settings, batch_threads(batches))
    assert options.threads == expected
    assert options.streams >= expected
    assert options.rooms > options.streams, "one connection cannot take all rooms"
