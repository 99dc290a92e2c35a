"""An ONNX file on a live server, in both protocols; TensorFlow stays out of the process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from unit.serving.engines import onnx_models
from unit.serving.server.grpc_calls import Predict, floats, predictor, refused
from unit.serving.server.processes import REAL, Server, running, wait_until
from unit.serving.server.rest_calls import METRICS, ask
from unit.serving.wire.official import stubs

DEFAULT = ""


def serve(base: Path, log: Path, *flags: str) -> Server:
    return Server(REAL, log, "--model_name=net", f"--model_base_path={base}", *flags)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Version 3: y = x / 2 + 2."""
    base = tmp_path_factory.mktemp("onnx")
    onnx_models.write(base / "net", 3, onnx_models.half_plus_two(), "anything.onnx")
    with running(serve(base / "net", base / "log")) as server:
        yield server.wait_ready()


@pytest.fixture
def service(net: Server) -> Iterator[Any]:
    with net.channel() as channel:
        yield stubs().prediction_service.PredictionServiceStub(channel)


@pytest.fixture
def predict(service: Any) -> Predict:
    return predictor(service)


def test_grpc(predict: Predict) -> None:
    reply = predict({"x": floats(1, 2)}, DEFAULT, "net")
    assert list(reply.outputs["y"].float_val) == [2.5, 3.0]
    assert (reply.model_spec.version.value, reply.model_spec.signature_name) == (3, "serving_default")


def test_metadata_by_grpc(service: Any) -> None:
    request = stubs().metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "net"
    found = stubs().metadata.SignatureDefMap()
    assert service.GetModelMetadata(request, timeout=30).metadata["signature_def"].Unpack(found)
    (x,) = found.signature_def["serving_default"].inputs.values()
    assert (x.name, x.dtype, [dim.size for dim in x.tensor_shape.dim]) == ("x", 1, [-1])


def test_rest(net: Server) -> None:
    path = "/v1/models/net/versions/3:predict"
    assert ask(net, {"instances": [1.0, 2.0]}, path) == (200, {"predictions": [2.5, 3.0]})
    assert ask(net, {"inputs": {"x": [0]}}, path) == (200, {"outputs": [2.0]})
    status = json.loads(net.get("/v1/models/net").data)["model_version_status"]
    assert [(one["version"], one["state"]) for one in status] == [("3", "AVAILABLE")]
    signature = json.loads(net.get("/v1/models/net/metadata").data)["metadata"]["signature_def"]
    assert list(signature["signature_def"]) == ["serving_default"]


def test_refused_before_the_engine(predict: Predict, net: Server) -> None:
    code, words = refused(lambda: predict({"x": np.zeros((1, 1), np.float32)}, DEFAULT, "net"))
    assert (code, words.split(" Got")[0]) == (grpc.StatusCode.INVALID_ARGUMENT, "Invalid rank for input: x")
    code, words = refused(lambda: predict({"x": np.zeros(1, np.int32)}, DEFAULT, "net"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words.startswith("Type mismatch: actual int32 vs. expect float")
    assert ask(net, {"instances": [[1.0]]}, "/v1/models/net:predict")[0] == 400


def test_score_says_what_it_wants(net: Server) -> None:
    reply = net.post("/score", b"bytes")
    assert reply.status == 400
    assert "input x takes float" in json.loads(reply.data)["error"]


def test_the_metrics_name_the_provider_and_the_log_the_device(net: Server, predict: Predict) -> None:
    predict({"x": floats(1)}, DEFAULT, "net")
    page = net.get(METRICS).data.decode()
    assert 'model_name="net",API="Predict",runtime="ONNX-CPU"' in page
    assert "engine=onnxruntime devices=CPU" in net.log


def test_no_tensorflow_in_the_process(net: Server) -> None:
    assert "tensorflow" not in Path(f"/proc/{net.process.pid}/maps").read_text()


def test_bytes_are_scored_and_a_new_version_takes_over(tmp_path: Path) -> None:
    onnx_models.write(tmp_path / "net", 1, onnx_models.scorer())
    with running(serve(tmp_path / "net", tmp_path / "log")) as server:
        server.wait_ready()
        reply = server.post("/score", bytes([0, 255, 51, 0]))
        assert (reply.status, json.loads(reply.data)) == (200, [[0.0, 1.0, pytest.approx(0.2), 0.0]])
        reply = server.post("/score", b"12345")
        assert reply.status == 400
        assert "5 bytes do not fill input images of shape [-1, 4]" in json.loads(reply.data)["error"]
        onnx_models.write(tmp_path / "next", 2, onnx_models.half_plus_two())
        (tmp_path / "next" / "2").rename(tmp_path / "net" / "2")

        def taken_over() -> bool:
            return ask(server, {"instances": [2.0]}, "/v1/models/net:predict") == (
                200,
                {"predictions": [3.0]},
            )

        wait_until("version 2 serves", taken_over, 30)


def test_what_the_engine_says_in_several_lines_is_the_last_line(tmp_path: Path) -> None:
    """The kubelet shows the end of the log, of which the operator takes the last line."""
    made = onnx_models.half_plus_two()
    made.ir_version = 99
    onnx_models.write(tmp_path / "net", 1, made)
    with running(serve(tmp_path / "net", tmp_path / "log")) as server:
        assert server.wait(60) == 255
        last = server.log.splitlines()[-1]
    assert last.startswith("Failed to start server. Error: Unknown: 1 servable(s) did not become available: ")
    assert "Unsupported model IR version: 99" in last
    assert last.endswith("}")


@pytest.mark.parametrize(
    ("content", "flags", "words"),
    [
        (b"no model", (), "Invalid argument: Cannot load the ONNX model in"),
        (None, ("--onnx_providers=CUDA",), "Unavailable: ONNX Runtime cannot use CUDA"),
        (None, ("--onnx_providers=Abacus",), "Invalid argument: ONNX Runtime knows no provider Abacus"),
    ],
)
def test_a_start_that_fails_says_why(
    tmp_path: Path, content: bytes | None, flags: tuple[str, ...], words: str
) -> None:
    folder = onnx_models.write(tmp_path / "net", 1, onnx_models.half_plus_two())
    if content is not None:
        (folder / "model.onnx").write_bytes(content)
    with running(serve(tmp_path / "net", tmp_path / "log", *flags)) as server:
        assert server.wait(60) == 255
        last = server.log.splitlines()[-1]
    assert last.startswith("Failed to start server. Error: Unknown: 1 servable(s) did not become available: ")
    assert words in last
