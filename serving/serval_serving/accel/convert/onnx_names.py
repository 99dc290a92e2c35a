"""Names that do not differ from one conversion to the next.

tf2onnx numbers what it makes (``const_axes__29``). Which of two equal constants it keeps depends on the order
of a set, so that the same model would get another digest each time.
"""

from __future__ import annotations

import re
from itertools import count
from typing import Any, Final

import onnx

_NUMBERED: Final = re.compile(r"__\d+(?=(:\d+)?$)")
_GRAPHS: Final = frozenset({onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS})


def number_again(model: Any) -> None:
    """Number again, in the order of use, what tf2onnx numbered; names of inputs and outputs stay.

    A graph that contains other graphs stays as it is, since these use its names.
    """
    graph = model.graph
    if any(one.type in _GRAPHS for node in graph.node for one in node.attribute):
        return
    fixed = {one.name for one in (*graph.input, *graph.output)}
    constants = {one.name for one in graph.initializer}
    numbers = count()
    new: dict[str, str] = {}

    def renamed(name: str) -> str:
        if name in fixed or not _NUMBERED.search(name):
            return name
        while name not in new:
            # Equal constants differ in more than the number: ``const_axes__29`` may be ``const_starts__30``.
            number = f"__{next(numbers)}"
            candidate = f"const{number}" if name in constants else _NUMBERED.sub(number, name)
            if candidate not in fixed:
                new[name] = candidate
        return new[name]

    for node in graph.node:
        inputs, outputs = [renamed(one) for one in node.input], [renamed(one) for one in node.output]
        node.name = renamed(node.name)
        del node.input[:], node.output[:]
        node.input.extend(inputs)
        node.output.extend(outputs)
    for one in (*graph.initializer, *graph.value_info):
        one.name = renamed(one.name)
    _order(graph)


def _order(graph: Any) -> None:
    """Sort what has no order of its own, and number the sizes that tf2onnx did not know."""
    for values in (graph.output, graph.initializer, graph.value_info):
        ordered = sorted(values, key=lambda one: str(one.name))
        del values[:]
        values.extend(ordered)
    sizes: dict[str, str] = {}
    for one in (*graph.input, *graph.output, *graph.value_info):
        for dim in one.type.tensor_type.shape.dim:
            if _NUMBERED.search(dim.dim_param):
                dim.dim_param = sizes.setdefault(dim.dim_param, f"size__{len(sizes)}")
