"""The graph before the cut: the user's own preprocessing."""

from __future__ import annotations

import re
from typing import Any, Final

import tensorflow as tf

from serval_serving.accel.artifact import Tensor
from serval_serving.accel.convert.cut import Cut
from serval_serving.accel.convert.failures import listed, not_convertible
from serval_serving.accel.convert.graph import (
    ancestors,
    called_functions,
    control_inputs,
    data_inputs,
    node_name,
)
from serval_serving.accel.convert.saved_model import FlatModel, v1

MAX_HOST_BYTES: Final = 64 << 20
"""Preprocessing has few constants; more means that the cut is behind layers of the network."""
_EFFECTS: Final = frozenset(
    {"VarHandleOp", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp", "Assign", "Assert"}
)
_TABLE: Final = re.compile(r".*(?:HashTable|LookupTable|VarHandleOp|Iterator).*")


def host_graph(model: FlatModel, cut: Cut, host_input: Tensor) -> Any:
    """Return the nodes from the signature's input to the cut, with weights as constants.

    Raises
    ------
    StageFailure
        They need tables, or are too large.
    """
    nodes, start = model.source, node_name(host_input.name)
    needed = _needed(model, cut, start)
    graph_def = v1.GraphDef()
    graph_def.versions.CopyFrom(model.graph_def.versions)
    for name in sorted(needed):
        node = graph_def.node.add()
        if name in model.weights:
            value = model.weights[name]
            node.op, node.name = "Const", name
            node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        else:
            node.CopyFrom(nodes[name])
            data, before = data_inputs(node), [one for one in control_inputs(node) if one in needed]
            del node.input[:]
            node.input.extend([*data, *(f"^{one}" for one in before)])
            node.attr.pop("_class", None)
    called = called_functions(model.graph_def, [nodes[name] for name in needed])
    library = [one for one in model.graph_def.library.function if one.signature.name in called]
    graph_def.library.function.extend(library)
    _check(model, needed)
    if graph_def.ByteSize() > MAX_HOST_BYTES:
        raise not_convertible(
            f"the part before {cut.tensor.name} has {graph_def.ByteSize()} bytes, more than {MAX_HOST_BYTES}:"
            " name a tensor that is nearer to the model's input with --inputs"
        )
    return graph_def


def _needed(model: FlatModel, cut: Cut, start: str) -> set[str]:
    """Return the nodes that the cut depends on, with those that bind constants to a loop."""

    def ends(node: Any) -> bool:
        return node.name == start or node.name in model.weights

    found: set[str] = set()
    todo = {node_name(cut.tensor.name)}
    while todo:
        before = ancestors(model.source, [todo.pop()], stop=ends)
        if found and any(model.source[name].op in _EFFECTS for name in before):
            continue  # it only orders side effects
        found |= before
        inner = [model.source[name] for name in before if not ends(model.source[name])]
        todo |= {one for node in inner for one in control_inputs(node)} - found
    return found


def _check(model: FlatModel, needed: set[str]) -> None:
    """Refuse tables: what fills them is no part of the graph that is kept."""
    tables = [name for name in sorted(needed) if _TABLE.fullmatch(model.source[name].op)]
    if tables:
        raise not_convertible(f"the preprocessing needs tables or other resources: {listed(tables)}")
