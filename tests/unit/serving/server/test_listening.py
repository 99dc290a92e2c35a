"""The Unix socket, CORS, the access log and the metrics of the process, on live servers."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serval_serving.server import access
from unit.serving.server.fake_engine import write_version
from unit.serving.server.grpc_calls import floats, predictor, refused
from unit.serving.server.processes import FAKE, Server, running, wait_until
from unit.serving.server.rest_calls import METRICS
from unit.serving.wire.official import stubs

BODY = json.dumps({"instances": [1.0]})


@contextmanager
def serving(tmp_path: Path, *flags: str) -> Iterator[Server]:
    write_version(tmp_path / "m", 1, factor=3)
    own = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}")
    with running(Server(FAKE, tmp_path / "log", *own, *flags)) as server:
        yield server


def ask(channel: grpc.Channel, name: str = "m") -> list[float]:
    predict = predictor(stubs().prediction_service.PredictionServiceStub(channel))
    return list(predict({"x": floats(1)}, "", name).outputs["y"].float_val)


def test_a_unix_socket_beside_the_port(tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"
    with serving(tmp_path, f"--grpc_socket_path={path}") as server:
        with server.wait_ready().channel() as channel:
            assert ask(channel) == [3.0]
        with grpc.insecure_channel(f"unix:{path}") as channel:
            assert ask(channel) == [3.0]
        server.terminate()
        wait_until("nobody can connect any more", lambda: not path.exists(), 20)
        assert server.wait() == 0


def test_a_unix_socket_alone(tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"
    with serving(tmp_path, f"--grpc_socket_path={path}", "--port=0") as server:
        wait_until("the socket is there", lambda: path.exists() or server.process.poll() is not None, 60)
        with grpc.insecure_channel(f"unix:{path}") as channel:
            assert ask(channel) == [3.0]
        assert server.closed() is False, "HTTP"
        server.terminate()
        assert server.wait() == 0


def test_reflection(tmp_path: Path) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    symbol = reflection_pb2.ServerReflectionRequest(
        file_containing_symbol="tensorflow.serving.PredictionService"
    )
    with serving(tmp_path, "--enable_reflection") as server, server.wait_ready().channel() as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listed, found = stub.ServerReflectionInfo(iter([request, symbol]), timeout=30)
    names = {service.name for service in listed.list_services_response.service}
    assert {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"} <= names
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(file)
        for file in found.file_descriptor_response.file_descriptor_proto
    ]
    methods = {method.name for file in files for service in file.service for method in service.method}
    assert {"Predict", "Classify", "GetModelMetadata"} <= methods


def test_no_reflection_without_the_flag(tmp_path: Path) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with serving(tmp_path) as server, server.wait_ready().channel() as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        code, _ = refused(lambda: list(stub.ServerReflectionInfo(iter([request]), timeout=30)))
    assert code is grpc.StatusCode.UNIMPLEMENTED


def test_cors(tmp_path: Path) -> None:
    with serving(tmp_path, "--rest_api_enable_cors_support") as server:
        server.wait_ready()
        asked = server.http.request("OPTIONS", server.url("/v1/models/m:predict"))
        assert asked.status == 200
        for reply in (asked, server.post("/v1/models/m:predict", BODY), server.get("/v1/models/nope")):
            assert reply.headers["Access-Control-Allow-Origin"] == "*"
            assert "POST" in reply.headers["Access-Control-Allow-Methods"]
            assert "Content-Type" in reply.headers["Access-Control-Allow-Headers"]
            assert "x-request-id" in reply.headers["Access-Control-Allow-Headers"]
        reply = server.post("/v1/models/m:predict", BODY, **{"serval-timing": "1"})
        told = {
            name.lower() for name in reply.headers if name.lower().startswith(("serval-", "x-", "server-"))
        }
        assert told >= {"x-request-id", "serval-model-version", "server-timing"}
        assert told <= set(reply.headers["Access-Control-Expose-Headers"].split(", "))


def test_without_the_flag_there_is_neither_cors_nor_an_access_log(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.wait_ready()
        reply = server.post("/v1/models/m:predict", BODY)
        assert "Access-Control-Allow-Origin" not in reply.headers
        assert server.http.request("OPTIONS", server.url("/v1/models/m:predict")).status == 400
        assert "serval_serving.access" not in server.log


def test_the_access_log(tmp_path: Path) -> None:
    with serving(tmp_path, "--access_log") as server:
        with server.wait_ready().channel() as channel:
            ask(channel)
            refused(lambda: ask(channel, "a\nb"))
        server.post("/v1/models/m:predict", BODY)
        server.post("/score", b"secret payload")
        server.get("/v1/models/m")
        lines = [line.partition(" serval_serving.access ")[2] for line in server.log.splitlines()]
        lines = [line for line in lines if line]
    shown = [[part.partition("=")[2] for part in line.split()[1:4]] for line in lines]
    assert shown == [
        ["Predict", "m", "OK"],
        ["Predict", r"'a\nb'", "NOT_FOUND"],
        ["REST/Predict", "m", "OK"],
        ["SCORE/Predict", "m", "INVALID_ARGUMENT"],
        ["GET/v1/models/m", "m", "OK"],
    ]
    assert all("peer=" in line and " ms=" in line and " bytes=" in line for line in lines)
    assert f"bytes={len(BODY)}" in lines[2]
    assert "secret" not in "".join(lines)


def test_words_of_callers_stay_one_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, access.LOGGER):
        access.note("p", "c", "a b\r", grpc.StatusCode.OK, 0.001, 3, request_id="i", key="a b:2")
    rest = rf"id=i pod={platform.node()} key='a\x20b:2'"
    assert caplog.messages == [rf"peer=p call=c model='a\x20b\r' status=OK ms=1.000 bytes=3 {rest}"]


def test_the_metrics_say_what_runs_on_what(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        page = server.wait_ready().get(METRICS).data.decode()
    assert 'serval_accelerator_in_use{model_name="m",version="1",device="CPU"} 0' in page
    assert "serval_requests_in_flight 0" in page
    assert "serval_queue_length 0" in page
