"""Small ONNX models for tests, written with the onnx package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

OPSET = 17
IR_VERSION = 8
Value = tuple[str, int, Sequence[int | str] | None]
"""A tensor: its name, its element type, its dimensions; None for any rank."""


def model(
    nodes: Sequence[Any],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    weights: Mapping[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """A model of these operators."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def half_plus_two() -> onnx.ModelProto:
    """y = x / 2 + 2, with the inputs of weights also declared, as old exporters do."""
    weights = {"half": np.float32(0.5).reshape(()), "two": np.float32(2).reshape(())}
    nodes = [helper.make_node("Mul", ["x", "half"], ["m"]), helper.make_node("Add", ["m", "two"], ["y"])]
    inputs: list[Value] = [("x", TensorProto.FLOAT, ["N"]), ("half", TensorProto.FLOAT, [])]
    return model(nodes, inputs, [("y", TensorProto.FLOAT, ["N"])], weights)


def with_data(folder: Path, offset: int = 0) -> None:
    """Write y = x + 1 for 500 numbers, whose weights are in a file beside the model, from `offset` on."""
    weights = numpy_helper.from_array(np.ones(500, np.float32), "w")
    made = model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, [500])],
        [("y", TensorProto.FLOAT, [500])],
    )
    kept = made.graph.initializer.add()
    kept.CopyFrom(weights)
    set_external_data(kept, "weights.bin", offset, len(weights.raw_data))
    kept.ClearField("raw_data")
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    with (folder / "weights.bin").open("wb") as file:
        # What is before the offset takes no room on the disk.
        file.seek(offset)
        file.write(weights.raw_data)


def sum_and_difference() -> onnx.ModelProto:
    """Two inputs, two outputs."""
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["minus"])]
    kind = TensorProto.FLOAT
    return model(
        nodes,
        [("b", kind, ["N", 2]), ("a", kind, ["N", 2])],
        [("sum", kind, ["N", 2]), ("minus", kind, ["N", 2])],
    )


def echo(kind: int, shape: Sequence[int | str] | None = None) -> onnx.ModelProto:
    """y = x, of one element type and any rank."""
    return model([helper.make_node("Identity", ["x"], ["y"])], [("x", kind, shape)], [("y", kind, shape)])


def scorer() -> onnx.ModelProto:
    """Takes bytes as uint8; classes: the largest's place, probabilities: each's share of 255."""
    nodes = [
        helper.make_node("Cast", ["images"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["grey", "scale"], ["probabilities"]),
        helper.make_node("ArgMax", ["grey"], ["classes"], axis=1, keepdims=0),
    ]
    return model(
        nodes,
        [("images", TensorProto.UINT8, ["N", 4])],
        [("classes", TensorProto.INT64, ["N"]), ("probabilities", TensorProto.FLOAT, ["N", 4])],
        {"scale": np.float32(1 / 255).reshape(())},
    )


def reshape() -> onnx.ModelProto:
    """Makes pairs of the numbers, which an odd count of them does not allow: only running it tells."""
    nodes = [helper.make_node("Reshape", ["x", "pairs"], ["y"])]
    return model(
        nodes,
        [("x", TensorProto.FLOAT, ["N"])],
        [("y", TensorProto.FLOAT, ["M", 2])],
        {"pairs": np.array([-1, 2], dtype=np.int64)},
    )


def slow() -> onnx.ModelProto:
    """Multiplies a matrix `steps` times."""
    kind = TensorProto.FLOAT
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_after"]),
            helper.make_node("MatMul", ["before", "unit"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", kind, [200, 200]),
        ],
        [
            helper.make_tensor_value_info("go_on_after", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", kind, [200, 200]),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["steps", "", "unit"], ["matrix"], body=body),
        helper.make_node("ReduceSum", ["matrix"], ["trace"], keepdims=0),
    ]
    weights = {"unit": np.eye(200, dtype=np.float32)}
    return model(nodes, [("steps", TensorProto.INT64, [])], [("trace", kind, [])], weights)


def write(base: Path, version: int, made: onnx.ModelProto, name: str = "model.onnx") -> Path:
    """Put a model into a version's folder."""
    folder = base / str(version)
    folder.mkdir(parents=True)
    (folder / name).write_bytes(made.SerializeToString())
    return folder
