"""Finds the network's input in a graph: the tensor at which host part and device part meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from serval_serving.accel.artifact import STRING, Tensor
from serval_serving.accel.convert.failures import listed, not_convertible
from serval_serving.accel.convert.graph import ancestors, data_inputs, depending, full_name, node_name
from serval_serving.accel.convert.options import InputTensor
from serval_serving.accel.convert.saved_model import FlatModel, dtype_name

FIRST: Final = frozenset(
    {"Conv2D", "DepthwiseConv2dNative", "Conv3D", "_FusedConv2D", "MatMul", "_FusedMatMul", "BatchMatMulV2"}
)
"""Operations with which a network begins."""
_CLIMBED: Final = frozenset({"Pad", "PadV2", "MirrorPad", "Identity", "EnsureShape", "StopGradient"})
"""Operations between the network's input and its first layer that belong to the network."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where the graph is cut.

    Attributes
    ----------
    tensor:
        The network's input, with the shape that the device part takes.
    host_input:
        The input of the signature from which the host part computes it; None where it is that input itself
        and there is no host part.
    how:
        How it was found, for the log.
    """

    tensor: Tensor
    host_input: Tensor | None
    how: str


def choose_cut(model: FlatModel, wanted: InputTensor | None, *, how: str = "named") -> Cut:
    """Return where to cut: at the tensor that is named, else at one that is found.

    Raises
    ------
    StageFailure
        The tensor does not exist, or none can be chosen; the message has the candidates.
    """
    nodes = model.nodes()
    if wanted is not None:
        return _cut(model, nodes, _existing(model, wanted.name), wanted.shape, how)
    inputs = list(model.inputs.values())
    if len(inputs) == 1 and inputs[0].dtype != STRING:
        return _cut(model, nodes, inputs[0].name, None, "the signature's input")
    if not inputs:
        raise not_convertible("the outputs of the model depend on none of its inputs")
    if len(inputs) > 1 and all(one.dtype != STRING for one in inputs):
        raise not_convertible(
            f"the model has {len(inputs)} inputs, {listed(sorted(model.inputs))}; the device part takes one"
        )
    return _cut(model, nodes, _detected(model, nodes), None, "detected")


def candidates(model: FlatModel, nodes: Mapping[str, Any]) -> list[str]:
    """Return the tensors that the first layers read, each the one that is nearest to the model's inputs."""
    roots = [node_name(one.name) for one in model.inputs.values()]
    behind = depending(nodes, roots)
    layers = {name for name in behind if nodes[name].op in FIRST}
    first = [
        name
        for name in sorted(layers)
        # Only its own name: no other layer lies between it and the inputs.
        if not (
            ancestors(nodes, data_inputs(nodes[name]), stop=lambda node: node.name not in behind) & layers
        )
    ]
    return list(dict.fromkeys(_climb(model, nodes, behind, name) for name in first))


def _climb(model: FlatModel, nodes: Mapping[str, Any], behind: set[str], layer: str) -> str:
    """Walk from a layer towards the inputs; return the last tensor whose shape is known."""
    data = [one for one in data_inputs(nodes[layer]) if node_name(one) in behind]
    tensor = best = full_name(data[0])
    while True:
        if _is_fixed(model.shape(tensor)):
            best = tensor
        node = nodes[node_name(tensor)]
        if node.op not in _CLIMBED:
            return best
        tensor = full_name(data_inputs(node)[0])


def _detected(model: FlatModel, nodes: Mapping[str, Any]) -> str:
    found = candidates(model, nodes)
    if not found:
        raise not_convertible(
            "the network's input was not found: the model has no convolution and no product of matrices that"
            " depends on its inputs; name the tensor with --inputs"
        )
    if len(found) > 1:
        shown = listed(f"{name} {shape_text(model.shape(name))}" for name in found)
        raise not_convertible(
            f"several tensors may be the network's input; name one of them with --inputs: {shown}"
        )
    return found[0]


def _existing(model: FlatModel, name: str) -> str:
    try:
        tensor = model.graph.get_tensor_by_name(name)
    except (KeyError, ValueError):
        found = listed(candidates(model, model.nodes())) or "none found"
        raise not_convertible(
            f"the outputs depend on no tensor {name}; candidates for the network's input: {found}"
        ) from None
    return full_name(tensor.name)


def _cut(
    model: FlatModel, nodes: Mapping[str, Any], name: str, given: Sequence[int | None] | None, how: str
) -> Cut:
    known = model.shape(name)
    shape = _agreed(name, known, given)
    if not _is_fixed(shape):
        raise not_convertible(
            f"the shape of the network's input {name} is {shape_text(shape)}: all sizes but the first must be"
            " known; give the shape with --inputs"
        )
    if shape and shape[0] not in {None, 1}:
        raise not_convertible(
            f"the network's input {name} takes batches of {shape[0]} alone; export the model for any number"
            " of inputs, or for one"
        )
    dtype = dtype_name(model.graph.get_tensor_by_name(name).dtype)
    if dtype in {STRING, "resource", "variant"}:
        raise not_convertible(f"tensor {name} has type {dtype}, and the network's input must be numbers")
    return Cut(Tensor(name, dtype, tuple(shape or ())), _host_input(model, nodes, name), how)


def _host_input(model: FlatModel, nodes: Mapping[str, Any], name: str) -> Tensor | None:
    """Return the input of the signature from which a tensor is computed."""
    above = ancestors(nodes, [name])
    inputs = {alias: one for alias, one in model.inputs.items() if node_name(one.name) in above}
    if len(inputs) > 1:
        raise not_convertible(
            f"tensor {name} depends on {len(inputs)} inputs, {listed(sorted(inputs))}; a host part takes one"
        )
    if not inputs:
        raise not_convertible(f"tensor {name} depends on no input of the model")
    (one,) = inputs.values()
    return None if one.name == name else one


def _agreed(
    name: str, known: Sequence[int | None] | None, given: Sequence[int | None] | None
) -> Sequence[int | None] | None:
    """Return the shape that the graph and the user say together."""
    if given is None or known is None:
        return known if given is None else given
    if len(given) != len(known) or any(
        None not in {one, other} and one != other for one, other in zip(given, known, strict=True)
    ):
        raise not_convertible(f"tensor {name} has shape {shape_text(known)}, not {shape_text(given)}")
    return [other if one is None else one for one, other in zip(given, known, strict=True)]


def _is_fixed(shape: Sequence[int | None] | None) -> bool:
    """Whether all sizes but the first are known."""
    return bool(shape) and shape is not None and None not in shape[1:]


def shape_text(shape: Sequence[int | None] | None) -> str:
    """Return a shape as messages have it, such as ``[?, 224, 224, 3]``."""
    if shape is None:
        return "unknown"
    return f"[{', '.join('?' if one is None else str(one) for one in shape)}]"
