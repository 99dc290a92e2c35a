from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from serval_serving.engines.base import ModelLoadError
from serval_serving.engines.onnx import OnnxEngine, OnnxOptions, OnnxSessionModel
from serval_serving.engines.onnx_session import NO_TELEMETRY
from serval_serving.wire.dtypes import DataType
from serval_serving.wire.status import StatusError
from unit.serving.engines import onnx_models

Load = Callable[[onnx.ModelProto], OnnxSessionModel]


@pytest.fixture(scope="module")
def engine() -> OnnxEngine:
    return OnnxEngine(OnnxOptions(intra_op_threads=1))


@pytest.fixture
def load(engine: OnnxEngine, tmp_path: Path) -> Load:
    return lambda made: engine.load(onnx_models.write(tmp_path, 1, made))


def run(model: OnnxSessionModel, *outputs: str, timeout: float | None = None, **inputs: Any) -> list[Any]:
    return model.run("serving_default", inputs, outputs, timeout)


def failed(engine: OnnxEngine, folder: Path) -> tuple[grpc.StatusCode, str, bool]:
    with pytest.raises(ModelLoadError) as caught:
        engine.load(folder)
    return caught.value.code, caught.value.message, caught.value.permanent


def test_the_engine_says_what_it_runs_on(engine: OnnxEngine, load: Load) -> None:
    assert list(engine.devices()) == ["CPU"]
    assert load(onnx_models.half_plus_two()).runtime == "ONNX-CPU"
    assert os.environ[NO_TELEMETRY] == "1"


def test_the_log_says_how_much_of_a_model_runs_where(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert load(onnx_models.half_plus_two()).device == "CPU"
    assert "model.onnx runs on CPU: 2 of 2 operators" in caplog.text


def test_a_model_is_described_and_run(load: Load) -> None:
    model = load(onnx_models.half_plus_two())
    (signature,) = model.signatures.values()
    assert signature.name == "serving_default"
    assert (signature.inputs["x"].dtype, signature.inputs["x"].shape) == (DataType.DT_FLOAT, (None,))
    definition = model.signature_defs.signature_def["serving_default"]
    assert definition.method_name == "tensorflow/serving/predict"
    assert [dim.size for dim in definition.inputs["x"].tensor_shape.dim] == [-1]
    (y,) = run(model, "y", x=np.array([1, 2], dtype=np.float32))
    assert y.tolist() == [2.5, 3.0]


def test_outputs_come_in_the_order_that_was_asked_for(load: Load) -> None:
    model = load(onnx_models.sum_and_difference())
    a, b = np.full((1, 2), 3, np.float32), np.full((1, 2), 1, np.float32)
    assert [array.tolist() for array in run(model, "sum", "minus", a=a, b=b)] == [[[4, 4]], [[2, 2]]]
    assert [array.tolist() for array in run(model, "minus", a=a, b=b)] == [[[2, 2]]]


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (TensorProto.FLOAT, "float32"),
        (TensorProto.DOUBLE, "float64"),
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.INT8, "int8"),
        (TensorProto.INT16, "int16"),
        (TensorProto.INT32, "int32"),
        (TensorProto.INT64, "int64"),
        (TensorProto.UINT8, "uint8"),
        (TensorProto.UINT16, "uint16"),
        (TensorProto.UINT32, "uint32"),
        (TensorProto.UINT64, "uint64"),
        (TensorProto.BOOL, "bool"),
    ],
)
def test_types(load: Load, kind: int, dtype: str) -> None:
    given = np.array([[0, 1], [1, 0]], dtype=dtype)
    (y,) = run(load(onnx_models.echo(kind)), "y", x=given)
    assert y.dtype == given.dtype
    assert y.tolist() == given.tolist()


def test_rank_unknown_scalar_and_empty(load: Load) -> None:
    model = load(onnx_models.echo(TensorProto.FLOAT))
    assert model.signatures["serving_default"].inputs["x"].shape is None
    assert model.signature_defs.signature_def["serving_default"].inputs["x"].tensor_shape.unknown_rank
    for given in (np.array(3, np.float32), np.zeros((0, 2), np.float32)):
        (y,) = run(model, "y", x=given)
        assert y.shape == given.shape


@pytest.mark.parametrize(
    ("declared", "shape", "words"),
    [
        ((), (1,), "Invalid rank for input: x Got: 1 Expected: 0"),
        (("N",), (), "Invalid rank for input: x Got: 0 Expected: 1"),
        (("N", 2), (2,), "Invalid rank for input: x Got: 1 Expected: 2"),
        (("N", 2), (1, 3), "Got invalid dimensions for input: x"),
    ],
)
def test_the_shapes_that_the_file_declares_are_required(
    load: Load, declared: tuple[int | str, ...], shape: tuple[int, ...], words: str
) -> None:
    model = load(onnx_models.echo(TensorProto.FLOAT, declared))
    with pytest.raises(StatusError) as caught:
        run(model, "y", x=np.zeros(shape, np.float32))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.message.startswith(words)


def test_strings_are_text_inside_and_bytes_outside(load: Load) -> None:
    model = load(onnx_models.echo(TensorProto.STRING))
    given = np.array([["grün".encode(), b""]], dtype=object)
    (y,) = run(model, "y", x=given)
    assert y.tolist() == given.tolist()
    with pytest.raises(StatusError) as caught:
        run(model, "y", x=np.array([b"\xff\xd8"], dtype=object))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "input x holds a string that is not UTF-8" in caught.value.message


def test_what_an_operator_refuses_is_the_callers_fault(load: Load) -> None:
    model = load(onnx_models.reshape())
    with pytest.raises(StatusError) as caught:
        run(model, "y", x=np.zeros(3, np.float32))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert not caught.value.message.startswith("[ONNXRuntimeError]")
    (y,) = run(model, "y", x=np.zeros(4, np.float32))
    assert y.shape == (2, 2)


def test_a_late_run_is_stopped_and_the_model_serves_on(load: Load) -> None:
    model = load(onnx_models.slow())
    with pytest.raises(StatusError) as caught:
        run(model, "trace", timeout=0.05, steps=np.array(10**9))
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    (trace,) = run(model, "trace", timeout=60.0, steps=np.array(2))
    assert trace == 200


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "model.onnx is empty"),
        (b"<!DOCTYPE html>", "damaged or no ONNX model"),
        (None, "there is no file model.onnx"),
        (onnx_models.echo(TensorProto.BFLOAT16).SerializeToString(), "input x is bfloat16"),
    ],
)
def test_a_bad_file(engine: OnnxEngine, tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    code, message, permanent = failed(engine, tmp_path)
    assert (code, permanent) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    assert message.startswith(f"Cannot load the ONNX model in {tmp_path}: ")
    assert words in message


def test_several_files(engine: OnnxEngine, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(b"x")
    assert "there are several ONNX files and none is named model.onnx" in failed(engine, tmp_path)[1]


def test_what_onnx_runtime_itself_refuses_is_final(engine: OnnxEngine, tmp_path: Path) -> None:
    made = onnx_models.half_plus_two()
    made.graph.node[0].op_type = "NoSuchOperator"
    folder = onnx_models.write(tmp_path, 1, made)
    code, message, permanent = failed(engine, folder)
    assert (code, permanent) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    assert "NoSuchOperator" in message


def test_weights_above_2_gigabytes_behind_links(engine: OnnxEngine, tmp_path: Path) -> None:
    """As the fetcher links to a large model in a mounted image."""
    image, links = tmp_path / "image", tmp_path / "1"
    image.mkdir()
    links.mkdir()
    onnx_models.with_data(image, offset=(1 << 31) + 4096)
    for path in image.iterdir():
        (links / path.name).symlink_to(path)
    model = engine.load(links)
    assert run(model, "y", x=np.ones(500, np.float32))[0].tolist() == [2.0] * 500


def test_a_provider_that_nobody_knows() -> None:
    with pytest.raises(ModelLoadError, match=r"no provider Abacus; it knows .*cuda"):
        OnnxEngine(OnnxOptions(providers=("Abacus",)))


def test_a_device_that_is_not_there_and_no_cpu_instead(tmp_path: Path) -> None:
    """This build has no CUDA: asked for alone, nothing is served; with the CPU behind it, the CPU is."""
    folder = onnx_models.write(tmp_path, 1, onnx_models.half_plus_two())
    code, message, permanent = failed(OnnxEngine(OnnxOptions(providers=("cuda",))), folder)
    assert (code, permanent) == (grpc.StatusCode.UNAVAILABLE, True)
    assert message == "ONNX Runtime cannot use CUDA: this build of ONNX Runtime has no such provider"
    engine = OnnxEngine(OnnxOptions(providers=("CUDAExecutionProvider", "CPU")))
    assert list(engine.devices()) == ["CPU"]
    assert engine.load(folder).runtime == "ONNX-CPU"


class FakeGpuBuild:
    """Stands for the module of a build for GPUs: it has a provider for CUDA, and lacks a library."""

    def __init__(self) -> None:
        self.loads = 0

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    get_all_providers = get_available_providers

    def preload_dlls(self) -> None:
        self.loads += 1
        sys.stdout.write("Failed to load libcublas.so.13\n")


@pytest.mark.parametrize(("providers", "loads"), [((), 1), (("CUDA",), 1), (("CPU",), 0)])
def test_cudas_libraries_are_loaded_for_its_provider(
    providers: tuple[str, ...],
    loads: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The provider for CUDA does not look into the Python packages that have them."""
    build = FakeGpuBuild()
    monkeypatch.setitem(sys.modules, "onnxruntime", cast("ModuleType", build))
    OnnxEngine(OnnxOptions(providers=providers))
    assert build.loads == loads
    assert ("Failed to load libcublas.so.13" in caplog.text) is bool(loads)
    assert not capsys.readouterr().out


def test_operators_in_parallel(tmp_path: Path) -> None:
    engine = OnnxEngine(OnnxOptions(intra_op_threads=1, inter_op_threads=2))
    model = engine.load(onnx_models.write(tmp_path, 1, onnx_models.sum_and_difference()))
    ones = np.ones((1, 2), np.float32)
    assert run(model, "sum", a=ones, b=ones)[0].tolist() == [[2, 2]]


def test_the_module_imports_no_runtime() -> None:
    program = "import sys, serval_serving.engines.onnx; assert 'onnxruntime' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
