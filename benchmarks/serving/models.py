"""The models of the comparison, all as ONNX files, so that every server runs the same engine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
CLASSES = 1000
JPEG_BYTES = 40_000
DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits" / "export_onnx.py"
# Bottlenecks of each stage of ResNet-50, and their inner width.
STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))


@dataclass(frozen=True)
class Case:
    """One model and what it is sent.

    Attributes
    ----------
    name, what:
        How it is called, and what it is.
    make:
        Writes the model to a file.
    input:
        Name and array of the only input.
    output:
        Name of the output that replies are checked by.
    requests:
        How many are sent in a round.
    """

    name: str
    what: str
    make: Callable[[Path], None]
    input: tuple[str, np.ndarray]
    output: str
    requests: int


def cases() -> list[Case]:
    """All cases, the light ones first."""
    random = np.random.default_rng(1)
    image = random.random((1, 3, 224, 224), dtype=np.float32)
    jpeg = random.integers(0, 256, (1, JPEG_BYTES), dtype=np.uint8)
    digit = random.integers(0, 256, (1, 8, 8), dtype=np.uint8)
    return [
        Case("identity", "602 KB of float32 in and out", identity, ("x", image), "y", 200),
        Case("jpeg", "40 KB of bytes in, 1,000 floats out", spread, ("x", jpeg), "y", 300),
        Case("digits", "the trained digits, 64 bytes in", digits, ("images", digit), "probabilities", 300),
        Case("resnet50", "ResNet-50, random weights, batch 1", resnet50, ("x", image), "y", 10),
    ]


def identity(path: Path) -> None:
    """Gives back what it gets."""
    shape = ["N", 3, 224, 224]
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    _save(path, nodes, ("x", TensorProto.FLOAT, shape), ("y", TensorProto.FLOAT, shape), {})


def spread(path: Path) -> None:
    """The mean of the bytes, a thousand times."""
    nodes = [
        helper.make_node("Cast", ["x"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers"], ["mean"], axes=[1]),
        helper.make_node("Tile", ["mean", "repeats"], ["y"]),
    ]
    weights = {"repeats": np.array([1, CLASSES], np.int64)}
    kind = TensorProto.FLOAT
    _save(path, nodes, ("x", TensorProto.UINT8, ["N", "L"]), ("y", kind, ["N", CLASSES]), weights)


def digits(path: Path) -> None:
    """The network of examples/digits."""
    base = path.parent / "trained"
    command = [sys.executable, str(DIGITS), "--out", str(base)]
    subprocess.run(command, check=True, timeout=200, stdout=subprocess.DEVNULL)
    (base / "1" / "model.onnx").rename(path)


def resnet50(path: Path) -> None:
    """ResNet-50 with batch normalisation folded into the convolutions."""
    net = _Network()
    x = net.convolution("x", 3, 64, 7, 2)
    x = net.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    width = 64
    for stage, (blocks, inner) in enumerate(STAGES):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = net.convolution(x, width, inner, 1, 1)
            y = net.convolution(y, inner, inner, 3, stride)
            y = net.convolution(y, inner, inner * 4, 1, 1, relu=False)
            if not block:
                x = net.convolution(x, width, inner * 4, 1, stride, relu=False)
                width = inner * 4
            x = net.add("Relu", [net.add("Add", [x, y])])
    x = net.add("Flatten", [net.add("GlobalAveragePool", [x])])
    x = net.add("Gemm", [x, net.weight((width, CLASSES)), net.weight((CLASSES,))])
    net.nodes.append(helper.make_node("Softmax", [x], ["y"], axis=1))
    kind = TensorProto.FLOAT
    _save(path, net.nodes, ("x", kind, ["N", 3, 224, 224]), ("y", kind, ["N", CLASSES]), net.weights)


class _Network:
    """Collects operators and random weights."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}
        self._random = np.random.default_rng(7)

    def weight(self, shape: tuple[int, ...]) -> str:
        """Add weights that keep the size of what goes through."""
        name = f"w{len(self.weights)}"
        scale = np.sqrt(2 / max(1, int(np.prod(shape[1:]))))
        self.weights[name] = (self._random.standard_normal(shape) * scale).astype(np.float32)
        return name

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """Add an operator and name its output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def convolution(
        self, x: str, inside: int, outside: int, size: int, stride: int, *, relu: bool = True
    ) -> str:
        """Add a convolution, by default with what follows it."""
        weights = [self.weight((outside, inside, size, size)), self.weight((outside,))]
        pad = size // 2
        y = self.add(
            "Conv", [x, *weights], kernel_shape=[size, size], strides=[stride, stride], pads=[pad] * 4
        )
        return self.add("Relu", [y]) if relu else y


def _save(path: Path, nodes: list[Any], x: Any, y: Any, weights: dict[str, np.ndarray]) -> None:
    """Write a model of one input and one output."""
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(*x)],
        [helper.make_tensor_value_info(*y)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.save_model(model, str(path))
