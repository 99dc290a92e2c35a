"""The engine for artifacts: checks before loading, the three parts, one model on the device."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from PIL import Image

from serval_serving.accel.artifact import (
    CLASSIFIER_FILE,
    CONVERSION_FILE,
    DEVICE_ONNX,
    Conversion,
    Host,
    read_conversion,
)
from serval_serving.accel.preprocess import preprocess
from serval_serving.devices.base import DeviceSettings
from serval_serving.engines import host_parts, shared_device
from serval_serving.engines.accelerated import (
    ROWS_AT_ONCE,
    AcceleratedEngine,
    AcceleratedModel,
    AcceleratedOptions,
)
from serval_serving.engines.base import ModelLoadError
from serval_serving.wire.dtypes import DataType
from serval_serving.wire.status import StatusError
from unit.serving.engines.artifacts import (
    IMAGES,
    MADE,
    PHOTOS,
    PIXELS,
    PREPROCESSING,
    SIDE,
    SOFTMAX,
    digest,
    offline,
    photo,
    write_artifact,
)

AT_ONCE = DeviceSettings(options={"programming_seconds": 0})
NO_HOST = Host("None")
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
def engine() -> AcceleratedEngine:
    return AcceleratedEngine(AcceleratedOptions("emulator", AT_ONCE))


def programmed(engine: AcceleratedEngine, folder: Path) -> AcceleratedModel:
    model = engine.load(folder)
    model.program()
    return model


def photos(*data: bytes) -> np.ndarray:
    array = np.empty(len(data), object)
    array[:] = data
    return array


def run(model: AcceleratedModel, given: np.ndarray, timeout: float | None = None) -> list[np.ndarray]:
    return model.run("serving_default", {"images": given}, ["output_alias", "features"], timeout)


def test_photos_go_through_all_parts_and_equal_the_files_bit_for_bit(
    engine: AcceleratedEngine, tmp_path: Path
) -> None:
    folder = write_artifact(tmp_path)
    data = [photo(shade) for shade in range(0, 200, 40)]
    probabilities, features = run(programmed(engine, folder), photos(*data))
    expected = offline(folder, preprocess(data, PREPROCESSING))
    assert np.array_equal(features, expected[MADE.name])
    assert np.array_equal(probabilities, expected[SOFTMAX.name])
    exact = offline(write_artifact(tmp_path, 2, quantized=False), preprocess(data, PREPROCESSING))
    assert not np.array_equal(features, exact[MADE.name])
    assert np.allclose(features, exact[MADE.name], rtol=0.05, atol=0.5)


@pytest.mark.parametrize("batch", [None, 1, 4])
@pytest.mark.parametrize("count", [1, 3, ROWS_AT_ONCE + 1])
def test_any_number_of_rows(engine: AcceleratedEngine, tmp_path: Path, batch: int | None, count: int) -> None:
    folder = write_artifact(tmp_path, host=NO_HOST, batch=batch)
    x = np.random.default_rng(count).uniform(-90, 90, (count, SIDE, SIDE, 3)).astype(np.float32)
    probabilities, features = run(programmed(engine, folder), x)
    assert (probabilities.shape, features.shape) == ((count, 3), (count, 4))
    loose = write_artifact(tmp_path, 2, host=NO_HOST)
    assert np.allclose(features, offline(loose, x)[MADE.name], atol=1e-4)


def test_a_graph_of_tensorflow_prepares_in_another_process(tmp_path: Path) -> None:
    """A user's own preprocessing. TensorFlow is imported for such an artifact alone."""
    program = f"""
import sys
from pathlib import Path
import numpy as np
from serval_serving.accel.artifact import Host
from unit.serving.engines.artifacts import *
from unit.serving.engines.test_accelerated import AT_ONCE, photos, run
from serval_serving.engines.accelerated import AcceleratedEngine, AcceleratedOptions

engine = AcceleratedEngine(AcceleratedOptions("emulator", AT_ONCE))
model = engine.load(write_artifact(Path({str(tmp_path)!r})))
assert "tensorflow" not in sys.modules
import tensorflow as tf
with tf.Graph().as_default() as graph:
    given = tf.compat.v1.placeholder(tf.string, [None], name="Placeholder")
    def one(data):
        return tf.cast(tf.io.decode_png(data, 3), tf.float32) * 0.5
    made = tf.map_fn(one, given, fn_output_signature=tf.TensorSpec([8, 8, 3], tf.float32))
    tf.identity(made, name="InputImage")
host = Host("Graph", (PHOTOS,), (PIXELS,))
definition = graph.as_graph_def().SerializeToString()
folder = write_artifact(Path({str(tmp_path)!r}), 2, host=host, graph=definition)
model = engine.load(folder)
model.program()
from PIL import Image
import io
pixels = np.asarray(Image.open(io.BytesIO(photo(9))), np.float32)[None] * np.float32(0.5)
probabilities, features = run(model, photos(photo(9), photo(9)))
assert np.array_equal(features[:1], offline(folder, pixels)["features:0"])
assert features.shape == (2, 4)
from serval_serving.wire.status import StatusError
try:
    run(model, photos(b"no photo"))
except StatusError as error:
    print(error.code.name)
broken = write_artifact(Path({str(tmp_path)!r}), 3, host=host, graph=b"no graph")
try:
    engine.load(broken)
except StatusError as error:
    print(error.message.partition(":")[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["INVALID_ARGUMENT", "ArtifactInvalid"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((2, SIDE, SIDE), np.float32), "Invalid rank for input: images Got: 3 Expected: 4"),
        (np.zeros((1, SIDE, 9, 3), np.float32), r"input images has shape \[1, 8, 9, 3\]"),
        (np.zeros((1, SIDE, SIDE, 3), np.float64), "is of type float64, and the model takes float32"),
        (np.zeros((0, SIDE, SIDE, 3), np.float32), "the inputs have no rows"),
    ],
)
def test_shapes_are_compared_before_the_device(
    engine: AcceleratedEngine, tmp_path: Path, given: np.ndarray, words: str
) -> None:
    model = programmed(engine, write_artifact(tmp_path, host=NO_HOST))
    with pytest.raises(StatusError, match=words) as caught:
        run(model, given)
    assert caught.value.code is INVALID


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((photo(), b"GIF89a"), "input Placeholder:0, photo 1: "),
        ((b"",), "input Placeholder:0, photo 0: "),
    ],
)
def test_bad_photos_are_the_callers_fault(
    engine: AcceleratedEngine, tmp_path: Path, data: tuple[bytes, ...], words: str
) -> None:
    with pytest.raises(StatusError, match=words) as caught:
        run(programmed(engine, write_artifact(tmp_path)), photos(*data))
    assert caught.value.code is INVALID


def test_the_memory_of_prepared_photos_is_bounded(
    engine: AcceleratedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an output has no rows the photos of a request go through the parts together."""
    monkeypatch.setattr(host_parts, "MAX_PREPARED_BYTES", 2 * SIDE * SIDE * 3 * 4)
    folder = write_artifact(tmp_path, batch=2)
    changed(folder, outputs={"features": replace(MADE, shape=(2, 4))})
    model = programmed(engine, folder)
    given = {"images": photos(photo(), photo())}
    assert model.run("serving_default", given, ["features"])[0].shape == (2, 4)
    given = {"images": photos(*[photo()] * 3)}
    with pytest.raises(StatusError, match="has 3 photos; this model takes 2 at most") as caught:
        model.run("serving_default", given, ["features"])
    assert caught.value.code is INVALID


def test_nobody_waits_for_a_late_answer(engine: AcceleratedEngine, tmp_path: Path) -> None:
    model = programmed(engine, write_artifact(tmp_path))
    with pytest.raises(StatusError) as caught:
        run(model, photos(photo()), timeout=0)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_signature(engine: AcceleratedEngine, tmp_path: Path) -> None:
    model = engine.load(write_artifact(tmp_path))
    signature = model.signatures["serving_default"]
    assert {alias: (one.name, one.dtype, one.shape) for alias, one in signature.inputs.items()} == {
        "images": (PHOTOS.name, DataType.DT_STRING, (None,))
    }
    assert {alias: (one.name, one.shape) for alias, one in signature.outputs.items()} == {
        "output_alias": (SOFTMAX.name, (None, 3)),
        "features": (MADE.name, (None, 4)),
    }
    assert model.signature_defs.signature_def["serving_default"].method_name == "tensorflow/serving/predict"
    assert (model.runtime, model.device) == ("accelerated-emulator", "emulated")
    report = model.report()
    assert (report.name, report.emulated, report.obstacle) == (
        "emulator (emulated)",
        True,
        "programming the device: 0 %",
    )


def emptied(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def changed(folder: Path, **fields: Any) -> None:
    conversion: Conversion = replace(read_conversion(folder), **fields)
    (folder / CONVERSION_FILE).write_text(conversion.dump())


def appended(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + b"\0")


def of_device(**fields: Any) -> Callable[[Path], None]:
    return lambda folder: changed(folder, device=replace(read_conversion(folder).device, **fields))


def with_external_weights(folder: Path) -> None:
    file = folder / DEVICE_ONNX
    onnx.save_model(
        onnx.load(file), file, save_as_external_data=True, location="weights.bin", size_threshold=16
    )
    of_device(sha256=digest(file.read_bytes()))(folder)


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        (emptied, "NOT_FOUND", "^ArtifactEmpty: .*/1 is empty; .* push an ordinary image$"),
        (lambda f: (f / CONVERSION_FILE).unlink(), "INVALID_ARGUMENT", "^ArtifactInvalid: .* has no conv"),
        (lambda f: (f / DEVICE_ONNX).unlink(), "INVALID_ARGUMENT", "^ArtifactInvalid: .* no device.onnx"),
        (lambda f: (f / CONVERSION_FILE).write_text("{"), "INVALID_ARGUMENT", "^ArtifactInvalid: .* no JSON"),
        (appended(DEVICE_ONNX), "DATA_LOSS", "^ArtifactCorrupted: device.onnx has digest sha256:"),
        (appended(CLASSIFIER_FILE), "DATA_LOSS", "^ArtifactCorrupted: classifier.onnx has digest"),
        (
            of_device(inputs=(replace(PIXELS, shape=(None, 9, SIDE, 3)),)),
            "INVALID_ARGUMENT",
            r"^ArtifactInvalid: .* the device part takes InputImage:0 of float32 \[\?,9,8,3\], and it is",
        ),
        (
            of_device(inputs=(replace(PIXELS, name="other:0"),)),
            "INVALID_ARGUMENT",
            "the device part takes other:0, which no part before it adds",
        ),
        (
            of_device(outputs=(replace(MADE, shape=(None, 5)),)),
            "INVALID_ARGUMENT",
            r"the classifier takes features:0 of float32 \[\?,4\], and it is features:0 of float32 \[\?,5\]",
        ),
        (
            of_device(outputs=(MADE, replace(MADE, name="more:0"))),
            "INVALID_ARGUMENT",
            "device.onnx has the outputs features:0, and conversion.json says features:0, more:0",
        ),
        (
            lambda f: changed(f, outputs={"y": replace(SOFTMAX, name="absent:0")}),
            "INVALID_ARGUMENT",
            "the signature takes absent:0, which no part before it adds",
        ),
        (
            with_external_weights,
            "INVALID_ARGUMENT",
            "^ArtifactInvalid: .*device.onnx has weights in weights.bin, of which .* records no digest",
        ),
        (lambda f: changed(f, outputs={}), "INVALID_ARGUMENT", "lacks inputs or outputs"),
        (
            lambda f: changed(f, inputs={"images": replace(PHOTOS, dtype="complex64")}),
            "INVALID_ARGUMENT",
            "^ArtifactInvalid",
        ),
        (
            lambda f: changed(f, host=replace(IMAGES, outputs=(replace(PIXELS, dtype="float64"),))),
            "INVALID_ARGUMENT",
            "^ArtifactInvalid",
        ),
    ],
)
def test_what_is_wrong_with_an_artifact_is_named_before_the_device_is_touched(
    engine: AcceleratedEngine, tmp_path: Path, damage: Callable[[Path], object], code: str, words: str
) -> None:
    folder = write_artifact(tmp_path)
    damage(folder)
    with pytest.raises(ModelLoadError) as caught:
        engine.load(folder)
    assert caught.value.code.name == code
    assert caught.value.permanent
    assert re.search(words, caught.value.message), caught.value.message


def test_one_device_holds_one_model(engine: AcceleratedEngine, tmp_path: Path) -> None:
    first, second = (engine.load(write_artifact(tmp_path, version)) for version in (1, 2))
    first.program()
    with pytest.raises(ModelLoadError, match="another model of this server has the device"):
        second.program()
    with pytest.raises(StatusError, match="the device is programmed with another model") as caught:
        run(second, photos(photo()))
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    first.close()
    second.program()
    assert run(second, photos(photo()))[0].shape == (1, 3)
    assert (first.report().programmed, second.report().programmed) == (0, 1)


def test_a_run_ends_before_the_device_is_programmed_again(
    engine: AcceleratedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = programmed(engine, write_artifact(tmp_path))
    device = model._shared.device
    inside, go_on = threading.Event(), threading.Event()
    real = device.run

    def slow(*given: Any) -> Any:
        inside.set()
        assert go_on.wait(60)
        return real(*given)

    monkeypatch.setattr(device, "run", slow)
    results: list[Any] = []
    running = threading.Thread(target=lambda: results.append(run(model, photos(photo()))))
    running.start()
    assert inside.wait(60)
    monkeypatch.setattr(shared_device, "QUIET_SECONDS", 0.0)
    with pytest.raises(ModelLoadError, match="runs in progress do not end") as caught:
        model.program()
    assert not caught.value.permanent
    monkeypatch.setattr(shared_device, "QUIET_SECONDS", 60.0)
    again = threading.Thread(target=model.program)
    again.start()
    go_on.set()
    running.join(60)
    again.join(60)
    assert results[0][0].shape == (1, 3)
    assert model.report().programmed == 1


def test_without_an_engine_for_devices_the_cure_is_named() -> None:
    with pytest.raises(ModelLoadError, match="--device_engine=emulator") as caught:
        AcceleratedEngine(AcceleratedOptions(""))
    assert caught.value.permanent


def test_without_pillow(engine: AcceleratedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ModelLoadError, match="cannot run a host part of kind Images") as caught:
        engine.load(write_artifact(tmp_path))
    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED


def test_jpegs_are_decoded_as_pngs_are(engine: AcceleratedEngine, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.open(io.BytesIO(photo())).save(file, "JPEG")
    folder = write_artifact(tmp_path)
    features = run(programmed(engine, folder), photos(file.getvalue()))[1]
    assert np.array_equal(features, offline(folder, preprocess([file.getvalue()], PREPROCESSING))[MADE.name])
