"""Walks through the nodes of a TensorFlow graph. Nodes are messages of type ``NodeDef``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def node_name(tensor: str) -> str:
    """Return the name of the node that makes a tensor, or that a control input names."""
    return tensor.removeprefix("^").split(":")[0]


def full_name(tensor: str) -> str:
    """Return the name of a tensor with its index, such as ``x:0``."""
    return tensor if ":" in tensor else f"{tensor}:0"


def data_inputs(node: Any) -> list[str]:
    """Return the tensors that a node takes, without control inputs."""
    return [name for name in node.input if not name.startswith("^")]


def control_inputs(node: Any) -> list[str]:
    """Return the names of the nodes that must run before a node without giving it anything."""
    return [name.removeprefix("^") for name in node.input if name.startswith("^")]


def nodes_by_name(graph_def: Any) -> dict[str, Any]:
    """Return the nodes of a graph."""
    return {node.name: node for node in graph_def.node}


def ancestors(
    nodes: Mapping[str, Any],
    tensors: Iterable[str],
    *,
    stop: Callable[[Any], bool] = lambda _: False,
) -> set[str]:
    """Return the names of the nodes that the tensors depend on, themselves included.

    Parameters
    ----------
    stop:
        Says of a node that what it depends on does not count.

    Raises
    ------
    KeyError
        The graph has no such node.
    """
    found: set[str] = set()
    todo = [node_name(tensor) for tensor in tensors]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        if not stop(nodes[name]):
            todo += [node_name(one) for one in data_inputs(nodes[name])]
    return found


def depending(nodes: Mapping[str, Any], sources: Iterable[str]) -> set[str]:
    """Return the names of the nodes that depend on one of the nodes `sources`, themselves included."""
    readers: dict[str, list[str]] = {}
    for node in nodes.values():
        for one in data_inputs(node):
            readers.setdefault(node_name(one), []).append(node.name)
    found: set[str] = set()
    todo = list(sources)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += readers.get(name, [])
    return found


def called_functions(graph_def: Any, nodes: Iterable[Any]) -> set[str]:
    """Return the names of the library's functions that the nodes call, directly or not."""
    library = {one.signature.name: one for one in graph_def.library.function}
    found: set[str] = set()
    todo = [name for node in nodes for name in _calls(node)]
    while todo:
        name = todo.pop()
        if name in library and name not in found:
            found.add(name)
            todo += [called for node in library[name].node_def for called in _calls(node)]
    return found


def _calls(node: Any) -> list[str]:
    functions = [node.op]
    for value in node.attr.values():
        if value.HasField("func"):
            functions.append(value.func.name)
        functions += [one.name for one in value.list.func]
    return functions
