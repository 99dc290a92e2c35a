"""Small artifacts of accelerated models for tests, with an int8 device part and a float classifier."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from PIL import Image

from serval_serving.accel.artifact import (
    CLASSIFIER_FILE,
    CONVERSION_FILE,
    DEVICE_ONNX,
    HOST_FILE,
    STRING,
    Conversion,
    Host,
    Part,
    Preprocessing,
    Tensor,
)
from unit.serving.engines.onnx_models import model

SIDE = 8
FEATURES = 4
CLASSES = 3
PHOTOS = Tensor("Placeholder:0", STRING, (None,))
PIXELS = Tensor("InputImage:0", "float32", (None, SIDE, SIDE, 3))
MADE = Tensor("features:0", "float32", (None, FEATURES))
SOFTMAX = Tensor("classifier/Softmax:0", "float32", (None, CLASSES))
PREPROCESSING = Preprocessing(
    SIDE, SIDE, "Stretch", SIDE, "RGB", means=(123.68, 116.779, 103.939), scales=(1.0, 1.0, 1.0)
)
IMAGES = Host("Images", (PHOTOS,), (PIXELS,), PREPROCESSING)
_RANDOM = np.random.default_rng(7)
_KERNEL = _RANDOM.normal(size=(FEATURES, 3, 3, 3)).astype(np.float32)
_DENSE = _RANDOM.normal(size=(FEATURES, CLASSES)).astype(np.float32)


def photo(shade: int = 100) -> bytes:
    """A PNG of a gradient."""
    ramp = np.arange(SIDE * SIDE * 3, dtype=np.uint32).reshape(SIDE, SIDE, 3)
    file = io.BytesIO()
    Image.fromarray(((ramp + shade) % 256).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def device_part(*, quantized: bool = True, batch: int | None = None, scale: float = 1.0) -> onnx.ModelProto:
    """Photos [N,8,8,3] to features [N,4]: a convolution, per channel in int8 where it is quantized."""
    size: int | str = batch or "N"
    kernel = (_KERNEL * scale).astype(np.float32)
    weights: dict[str, np.ndarray] = {"kernel": kernel}
    nodes = [helper.make_node("Transpose", [PIXELS.name], ["nchw"], perm=[0, 3, 1, 2])]
    pixels = "nchw"
    if quantized:
        scales = (np.abs(kernel).max(axis=(1, 2, 3)) / 127).astype(np.float32)
        weights = {
            "whole": np.rint(kernel / scales[:, None, None, None]).astype(np.int8),
            "scales": scales,
            "zeros": np.zeros(FEATURES, np.int8),
            "step": np.float32(2.0),
            "zero": np.uint8(128),
        }
        nodes += [
            helper.make_node("QuantizeLinear", ["nchw", "step", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["dq"]),
            helper.make_node("DequantizeLinear", ["whole", "scales", "zeros"], ["kernel"], axis=0),
        ]
        pixels = "dq"
    nodes += [
        helper.make_node("Conv", [pixels, "kernel"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], [MADE.name]),
    ]
    return model(
        nodes,
        [(PIXELS.name, TensorProto.FLOAT, [size, SIDE, SIDE, 3])],
        [(MADE.name, TensorProto.FLOAT, [size, FEATURES])],
        {name: np.asarray(value) for name, value in weights.items()},
    )


def classifier_part() -> onnx.ModelProto:
    """Features to probabilities of three classes."""
    nodes = [
        helper.make_node("MatMul", [MADE.name, "dense"], ["logits"]),
        helper.make_node("Mul", ["logits", "small"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], [SOFTMAX.name], axis=1),
    ]
    weights = {"dense": _DENSE, "small": np.float32(0.01).reshape(())}
    return model(
        nodes,
        [(MADE.name, TensorProto.FLOAT, ["N", FEATURES])],
        [(SOFTMAX.name, TensorProto.FLOAT, ["N", CLASSES])],
        weights,
    )


def write_artifact(
    base: Path,
    version: int = 1,
    *,
    host: Host = IMAGES,
    batch: int | None = None,
    quantized: bool = True,
    scale: float = 1.0,
    graph: bytes = b"",
) -> Path:
    """Put an artifact into the folder of a version; it appears at once."""
    folder = base / f"tmp-{version}"
    folder.mkdir(parents=True)
    device = device_part(batch=batch, quantized=quantized, scale=scale).SerializeToString()
    classifier = classifier_part().SerializeToString()
    (folder / DEVICE_ONNX).write_bytes(device)
    (folder / CLASSIFIER_FILE).write_bytes(classifier)
    if host.kind == "Graph":
        (folder / HOST_FILE).write_bytes(graph)
        host = replace(host, sha256=digest(graph))
    pixels, made = (replace(one, shape=(batch, *one.shape[1:])) for one in (PIXELS, MADE))
    conversion = Conversion(
        inputs={"images": PIXELS if host.kind == "None" else PHOTOS},
        outputs={"output_alias": SOFTMAX, "features": MADE},
        host=host,
        device=Part(DEVICE_ONNX, digest(device), (pixels,), (made,)),
        classifier=Part(CLASSIFIER_FILE, digest(classifier), (MADE,), (SOFTMAX,)),
        quantization="Int8" if quantized else "Float",
        network="test",
    )
    (folder / CONVERSION_FILE).write_text(conversion.dump())
    return folder.rename(base / str(version))


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def offline(folder: Path, pixels: np.ndarray) -> Mapping[str, np.ndarray]:
    """What ONNX Runtime makes of prepared photos with an artifact's files, without the server's code."""
    tensors: dict[str, Any] = {PIXELS.name: pixels}
    for file in (DEVICE_ONNX, CLASSIFIER_FILE):
        session = onnxruntime.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])
        feeds = {one.name: tensors[one.name] for one in session.get_inputs()}
        names = [one.name for one in session.get_outputs()]
        tensors.update(zip(names, session.run(names, feeds), strict=True))
    return tensors
