from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from serval_serving.models.handle import ServableHandle
from serval_serving.server.inference import Inference
from serval_serving.server.metrics import Metrics
from serval_serving.server.warmup import FILE, FOLDER, WarmUp, read_records
from serval_serving.wire import messages
from serval_serving.wire.status import StatusError
from serval_serving.wire.tensors import from_array
from unit.serving.server.fake_engine import FakeModel
from unit.serving.server.grpc_calls import floats
from unit.serving.server.processes import REAL, Server, running
from unit.serving.server.rest_calls import METRICS, ask

CLASSIFY = "tensorflow/serving/classify"


def record(data: bytes) -> bytes:
    """One record of a TFRecord file; nobody looks at the checksums."""
    return struct.pack("<QI", len(data), 0) + data + bytes(4)


def predict_log(signature: str = "", **inputs: Any) -> messages.PredictionLog:
    log = messages.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = "whatever"
    request.model_spec.version.value = 99
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(from_array(value))
    return log


def write(folder: Path, *logs: messages.PredictionLog, tail: bytes = b"") -> Path:
    file = folder / FOLDER / FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(b"".join(record(log.SerializeToString()) for log in logs) + tail)
    return file


class Counting(FakeModel):
    """Counts its runs."""

    def __init__(self) -> None:
        super().__init__({"factor": 1})
        self.runs = 0

    def run(self, *arguments: Any, **more: Any) -> Any:
        self.runs += 1
        return super().run(*arguments, **more)


@pytest.fixture
def model() -> Counting:
    return Counting()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def warm_up(model: Counting, metrics: Metrics, tmp_path: Path) -> Callable[[], None]:
    warm = WarmUp(Inference({}, metrics), iterations=2)
    return lambda: warm(ServableHandle("m", 1, model, tmp_path))


def refused(work: Callable[[], None]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(StatusError) as caught:
        work()
    return caught.value.code, caught.value.message


def test_requests_are_run_as_often_as_told(
    warm_up: Callable[[], None], model: Counting, metrics: Metrics, tmp_path: Path
) -> None:
    write(tmp_path, predict_log(x=floats(1)), predict_log(x=floats(1, 2)))
    warm_up()
    assert model.runs == 4
    line = f':tensorflow:serving:model_warmup_latency_count{{model_path="{tmp_path}",status="OK"}} 1'
    assert line in metrics.page()


def test_no_file_is_no_fault(warm_up: Callable[[], None], model: Counting) -> None:
    warm_up()
    assert model.runs == 0


@pytest.mark.parametrize(
    ("logs", "tail", "code", "words"),
    [
        ([predict_log(z=floats(1))], b"", "INVALID_ARGUMENT", "warm-up failed: Signature input alias: x"),
        ([predict_log("nope", x=floats(1))], b"", "FAILED_PRECONDITION", "warm-up failed: Serving signature"),
        ([], record(b"\xff"), "INVALID_ARGUMENT", "warm-up failed: Failed to parse warmup record 0"),
        ([], record(b"abc")[:-1], "DATA_LOSS", "warm-up failed: a record is cut at byte 12"),
        ([], b"abc", "DATA_LOSS", "warm-up failed: a record is cut at byte 3"),
        ([messages.PredictionLog()], b"", "UNIMPLEMENTED", "warm-up failed: Unsupported log_type"),
    ],
)
def test_faults(
    warm_up: Callable[[], None], tmp_path: Path, logs: list[Any], tail: bytes, code: str, words: str
) -> None:
    write(tmp_path, *logs, tail=tail)
    found, text = refused(warm_up)
    assert found.name == code
    assert text.startswith(words)


def test_too_many(warm_up: Callable[[], None], model: Counting, tmp_path: Path) -> None:
    write(tmp_path, *[predict_log(x=floats(1))] * 1001)
    code, text = refused(warm_up)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "Number of warmup records exceeds the maximum (1000)" in text
    assert model.runs == 2000


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert list(read_records(io.BytesIO(), path)) == []


def test_on_a_live_server(models: Path, tmp_path: Path) -> None:
    """Every kind of request, written by TensorFlow's own writer's format, on a model that takes Examples."""
    base = tmp_path / "ex"
    base.mkdir()
    (base / "5").symlink_to(models / "examples" / "5")
    folder = tmp_path / "copy" / "6"
    folder.mkdir(parents=True)
    for part in (models / "examples" / "5").iterdir():
        (folder / part.name).symlink_to(part)
    classify, regress, several = (messages.PredictionLog() for _ in range(3))
    classify.classify_log.request.input.example_list.examples.add()
    regress.regress_log.request.model_spec.signature_name = "regress"
    regress.regress_log.request.input.example_list.examples.add()
    several.multi_inference_log.request.tasks.add(method_name=CLASSIFY).model_spec.name = "x"
    several.multi_inference_log.request.input.example_list.examples.add()
    text = predict_log("predict", inputs=[b""])
    write(folder, classify, regress, several, text)
    flags = ("--model_name=ex", f"--model_base_path={folder.parent}")
    with running(Server(REAL, tmp_path / "log", *flags)) as server:
        server.wait_ready()
        assert "warmed up model=ex version=6 records=4" in server.log
        assert 'model_warmup_latency_count{model_path="' in server.get(METRICS).data.decode()
        assert ask(server, {"examples": [{}]}, "/v1/models/ex:classify")[0] == 200
    bad = folder / FOLDER / FILE
    bad.write_bytes(b"no record")
    with running(Server(REAL, tmp_path / "log2", *flags)) as server:
        assert server.wait(60) == 255
        assert "Data loss: warm-up failed: a record is cut" in server.log.splitlines()[-1]
    with running(Server(REAL, tmp_path / "log3", *flags, "--enable_model_warmup=false")) as server:
        server.wait_ready()
