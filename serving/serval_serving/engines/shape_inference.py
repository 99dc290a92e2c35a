"""TensorFlow's shape inference on the graph of a SavedModel, for shapes that its signature does not describe.

Importing a graph infers the shape of every tensor, inside of functions too, and fails where an operator does
not take the shapes of its inputs. So for each question the part of the graph that computes the outputs is
imported with placeholders of the given shapes in place of the inputs. No kernel runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from serval_serving.engines.shape_verdicts import Question

MAX_CONSTANT_BYTES: Final = 4096
"""Larger constants are weights: their shapes matter here, their values do not."""

_MAX_PARTS: Final = 8
_FEED: Final = "serval_serving_feed_{}"
_SAVED_SHAPES: Final = ("_output_shapes", "_input_shapes", "_class")
"""Attributes that hold what was inferred for the shapes of the signature, or name nodes that are cut off."""


class GraphShapes:
    """What the graph of one SavedModel takes.

    Parameters
    ----------
    tensorflow:
        The module.
    meta_graph:
        The meta graph that was loaded. Its graph is changed: weights and what was inferred before go.
    """

    def __init__(self, tensorflow: Any, meta_graph: Any) -> None:
        self._tf = tensorflow
        graph_def = meta_graph.graph_def
        # What operators have by default may be unknown to this TensorFlow if a newer one wrote the model.
        self._written_for = meta_graph.meta_info_def.stripped_op_list
        self._versions = graph_def.versions
        self._nodes = {node.name: node for node in graph_def.node}
        self._functions = {function.signature.name: function for function in graph_def.library.function}
        self._part = lru_cache(_MAX_PARTS)(self._cut)
        _strip(graph_def)

    def refusal(self, question: Question) -> str:
        """Return why the graph refuses the shapes of a question; empty if it takes them.

        Not for several threads at once.
        """
        names = tuple(feed.name for feed in question.feeds)
        part = self._part(names, question.fetches)
        for node, feed in zip(part.node, question.feeds, strict=False):
            node.attr["dtype"].type = feed.dtype
            shape = node.attr["shape"].shape
            shape.Clear()
            for size in feed.shape:
                shape.dim.add(size=-1 if size is None else size)
        try:
            with self._tf.Graph().as_default():
                self._tf.import_graph_def(part, name="", producer_op_list=self._written_for)
        except (ValueError, self._tf.errors.OpError) as error:
            return str(error) or type(error).__name__
        return ""

    def _cut(self, names: Sequence[str], fetches: Sequence[str]) -> Any:
        """Copy the part of the graph between inputs and outputs; its first nodes are the inputs."""
        part = self._tf.compat.v1.GraphDef(versions=self._versions)
        fed = {name: _FEED.format(index) for index, name in enumerate(names)}
        for feed in fed.values():
            part.node.add(name=feed, op="Placeholder")
        wanted = [_node_of(name) for name in fetches if name not in fed]
        seen = set(wanted)
        while wanted:
            node = part.node.add()
            node.CopyFrom(self._nodes[wanted.pop()])
            for index, name in enumerate(node.input):
                if (tensor := _tensor(name)) in fed:
                    node.input[index] = fed[tensor]
                elif (before := _node_of(name)) not in seen:
                    seen.add(before)
                    wanted.append(before)
        part.library.function.extend(self._called(part.node))
        return part

    def _called(self, nodes: Iterable[Any]) -> Iterator[Any]:
        """Yield the functions that nodes call, and those that these call."""
        seen: set[str] = set()
        waiting = [nodes]
        while waiting:
            for name in _called_by(waiting.pop()):
                if name in self._functions and name not in seen:
                    seen.add(name)
                    waiting.append(self._functions[name].node_def)
                    yield self._functions[name]


def _strip(graph_def: Any) -> None:
    """Drop weights, devices, and what was inferred for the shapes of the signature."""
    for function in graph_def.library.function:
        for attributes in (function.attr, *(argument.attr for argument in function.arg_attr.values())):
            _drop(attributes)
    for node in _all_nodes(graph_def):
        _drop(node.attr)
        node.device = ""
        if node.op == "Const" and node.attr["value"].ByteSize() > MAX_CONSTANT_BYTES:
            shape = node.attr["value"].tensor.tensor_shape
            node.attr["shape"].shape.CopyFrom(shape)
            del node.attr["value"]
            node.op = "Placeholder"


def _all_nodes(graph_def: Any) -> Iterator[Any]:
    """Yield the nodes of a graph and of its functions."""
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def


def _drop(attributes: Any) -> None:
    """Remove attributes that hold for the shapes of the signature alone."""
    for name in _SAVED_SHAPES:
        if name in attributes:
            del attributes[name]


def _called_by(nodes: Iterable[Any]) -> Iterator[str]:
    """Yield the names of functions that nodes refer to: by attributes, or as their operator."""
    for node in nodes:
        yield node.op
        for value in node.attr.values():
            if value.HasField("func"):
                yield value.func.name
            for function in value.list.func:
                yield function.name


def _tensor(name: str) -> str:
    """Spell an input of a node as a signature names tensors: `x` is `x:0`."""
    return name if ":" in name or name.startswith("^") else f"{name}:0"


def _node_of(name: str) -> str:
    """Return the node of a tensor or of a control input."""
    return name.removeprefix("^").partition(":")[0]
