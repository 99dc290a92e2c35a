"""Gives the flags of training mode the value False, since a device only infers.

Exported graphs carry such a flag as a placeholder, often with the default True. With it, batch normalisation
would use the statistics of the batch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from serval_serving.accel.convert.graph import data_inputs, node_name

FLAG: Final = re.compile(
    r"(?:.*/)?(?:keras_)?(?:is_training|training|phase_train|learning_phase|training_phase)(?:_\d+)?"
)
PLACEHOLDERS: Final = frozenset({"Placeholder", "PlaceholderWithDefault"})
BOOL: Final = 10
"""``DT_BOOL``."""
_PASS: Final = frozenset({"Identity", "StopGradient"})


def training_flags(nodes: Mapping[str, Any]) -> set[str]:
    """Return the names of the placeholders that are flags of training mode."""
    return {
        node.name
        for node in nodes.values()
        if node.op in PLACEHOLDERS and node.attr["dtype"].type == BOOL and FLAG.fullmatch(node.name)
    }


def switch_off(nodes: dict[str, Any], flags: set[str]) -> None:
    """Make the flags constants, and take out the branches that they choose between.

    Parameters
    ----------
    nodes:
        All nodes; changed in place.
    flags:
        What `training_flags` found.
    """
    for name in flags:
        node = nodes[name]
        node.Clear()
        node.name, node.op = name, "Const"
        node.attr["dtype"].type = BOOL
        node.attr["value"].tensor.dtype = BOOL
        node.attr["value"].tensor.tensor_shape.SetInParent()
        node.attr["value"].tensor.bool_val.append(False)
    branches = _Branches(nodes, flags)
    for node in nodes.values():
        if node.op != "Merge":
            continue
        live = [one for one in data_inputs(node) if not branches.is_dead(one)]
        if len(live) == 1 < len(data_inputs(node)):
            name, kind = node.name, node.attr["T"].type
            node.Clear()
            node.name, node.op = name, "Identity"
            node.input.append(live[0])
            node.attr["T"].type = kind
    for node in nodes.values():
        if node.op == "Switch" and branches.is_false(node.input[1]):
            node.op = "Identity"
            del node.input[1:]


class _Branches:
    """Which tensors are never computed when the flags are False."""

    def __init__(self, nodes: Mapping[str, Any], flags: set[str]) -> None:
        self._nodes = nodes
        self._flags = flags
        self._dead: dict[str, bool] = {}

    def is_false(self, tensor: str) -> bool:
        """Whether a tensor is a flag, perhaps behind nodes that pass it on."""
        name = node_name(tensor)
        while name in self._nodes and self._nodes[name].op in _PASS:
            name = node_name(self._nodes[name].input[0])
        return name in self._flags

    def is_dead(self, tensor: str) -> bool:
        """Whether a tensor lies in a branch that is not taken.

        The walk has its own stack: branches may be hundreds of nodes long.
        """
        todo = [tensor]
        while todo:
            one = todo[-1]
            if one in self._dead:
                todo.pop()
                continue
            node = self._nodes.get(node_name(one))
            if node is None or node.op == "Merge":
                self._dead[one] = False
            elif node.op == "Switch" and self.is_false(node.input[1]):
                self._dead[one] = one.endswith(":1")
            else:
                inputs = data_inputs(node)
                unknown = [name for name in inputs if name not in self._dead]
                if unknown:
                    todo += unknown
                    continue
                self._dead[one] = any(self._dead[name] for name in inputs)
        return self._dead[tensor]
