"""Names of what tf2onnx numbered."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serval_serving.accel.convert.onnx_names import number_again


def model(first: int, second: int, kind: str = "axes", *, swapped: bool = False) -> Any:
    """A graph whose inner names have numbers, and initializers in either order."""
    values = [
        numpy_helper.from_array(np.array([1.0], np.float32), f"const_{kind}__{first}"),
        numpy_helper.from_array(np.array([2.0], np.float32), f"two__{second}"),
    ]
    nodes = [
        helper.make_node("Add", ["in__7:0", f"const_{kind}__{first}"], [f"sum__{second}:0"], f"add__{first}"),
        helper.make_node("Mul", [f"sum__{second}:0", f"two__{second}"], ["out__0"], "mul"),
    ]
    shape = [f"unk__{second}"]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("in__7:0", "out__0")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], values[::-1] if swapped else values)
    return helper.make_model(graph)


def test_numbers_of_the_conversion_are_no_part_of_the_model() -> None:
    one, other = model(29, 3), model(30, 41, "starts", swapped=True)
    for made in (one, other):
        number_again(made)
        onnx.checker.check_model(made)
    assert one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
    assert [one.graph.input[0].name, one.graph.output[0].name] == ["in__7:0", "out__0"]
    names = {name for node in one.graph.node for name in (*node.input, *node.output)}
    assert len(names) == 5


def test_a_graph_inside_keeps_the_names_that_it_uses() -> None:
    made = model(29, 3)
    inner = helper.make_graph([], "inner", [], [])
    made.graph.node[1].attribute.append(helper.make_attribute("then_branch", inner))
    before = made.SerializeToString(deterministic=True)
    number_again(made)
    assert made.SerializeToString(deterministic=True) == before
