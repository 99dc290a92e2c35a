"""Loads a SavedModel of TensorFlow 1 or 2 and makes one flat graph of it, with placeholders for weights.

tf2onnx and TensorFlow's optimizers copy what is in a graph many times over. So the weights are kept outside:
a placeholder of the same name stands for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.grappler import tf_optimizer

from serval_serving.accel.artifact import STRING, Tensor
from serval_serving.accel.convert.failures import invalid, listed, not_convertible, one_line
from serval_serving.accel.convert.graph import (
    ancestors,
    data_inputs,
    full_name,
    node_name,
    nodes_by_name,
)
from serval_serving.accel.convert.training import PLACEHOLDERS, switch_off, training_flags
from serval_serving.models.savedmodel import DEFAULT_SIGNATURE, SERVE_TAG

v1: Final = tf.compat.v1
Array = np.ndarray[Any, Any]

LIFTED_BYTES: Final = 4096
"""Constants of more bytes, and those with four dimensions, are weights."""
MAX_WEIGHT_BYTES: Final = (1 << 31) - (1 << 26)
"""An ONNX file has less than 2 GiB; some of it is for the nodes."""
_READS: Final = frozenset({"ReadVariableOp", "VariableV2", "Variable"})
_CALLS: Final = frozenset({"StatefulPartitionedCall", "PartitionedCall"})
_PASS: Final = frozenset({"Identity", "Enter"})
_LOADER_TRAP: Final = (
    "the session loader does not find the variables of this SavedModel: {error}. A Keras 3 model that was"
    " saved as part of a tf.Module has this fault; export it with keras.export.ExportArchive"
)


@dataclass(frozen=True, slots=True)
class FlatModel:
    """A SavedModel as one graph without functions that are called and without weights.

    Attributes
    ----------
    graph_def:
        What the outputs depend on, without the order of side effects, of which inference has none.
    source:
        The nodes of the SavedModel, by name, with their control inputs: these also say which nodes belong to
        a loop, such as the one over the photos of a request.
    inputs, outputs:
        The signature `serving_default`, by alias; only outputs that are kept.
    weights:
        Values by the name of the placeholder. Nodes that read one variable share one array.
    graph:
        `graph_def`, imported: knows shapes and types.
    """

    graph_def: Any
    source: Mapping[str, Any]
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    weights: dict[str, Array]
    graph: Any

    def nodes(self) -> dict[str, Any]:
        """Return the graph's nodes by name."""
        return nodes_by_name(self.graph_def)

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        """Return a tensor's shape; None where even the number of dimensions is open."""
        shape = self.graph.get_tensor_by_name(tensor).shape
        return None if shape.rank is None else tuple(shape.as_list())


@dataclass(slots=True)
class _Loaded:
    """A SavedModel in a session."""

    graph: Any
    session: Any
    signature: Any
    graph_def: Any = field(default=None)


def load(saved_model: Path, outputs: Sequence[str] = (), recorded: Sequence[str] = ()) -> FlatModel:
    """Load a SavedModel.

    Parameters
    ----------
    saved_model:
        Its folder.
    outputs:
        Names of the output tensors to keep; empty for those of the signature.
    recorded:
        Names of other tensors that must stay: those in the record of the build.

    Raises
    ------
    StageFailure
        It cannot be loaded, has no signature `serving_default`, or has no such output.
    """
    loaded = _open(saved_model)
    with loaded.session:
        aliases = _kept(loaded, outputs)
        known = {node.name for node in loaded.graph_def.node}
        if missing := [name for name in recorded if node_name(name) not in known]:
            raise invalid(f"the SavedModel has no tensor {listed(missing)}, which the build recorded")
        kept = [one.name for one in aliases.values()]
        graph_def = _inline(loaded, [*kept, *recorded])
        nodes = nodes_by_name(graph_def)
        inputs = {alias: _tensor(info) for alias, info in loaded.signature.inputs.items()}
        switch_off(nodes, training_flags(nodes))
        _use_defaults(nodes, {node_name(one.name) for one in inputs.values()})
        needed = ancestors(nodes, [*kept, *recorded], stop=lambda node: node.op in _READS)
        weights = _take_weights(loaded, nodes, needed)
    return _flat(graph_def, nodes, needed, weights, inputs=inputs, outputs=aliases)


def _open(saved_model: Path) -> _Loaded:
    graph = tf.Graph()
    session = v1.Session(graph=graph)
    try:
        with graph.as_default():
            meta = v1.saved_model.loader.load(session, [SERVE_TAG], str(saved_model))
    except (tf.errors.OpError, OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        session.close()
        raise _unloadable(saved_model, error) from error
    if DEFAULT_SIGNATURE not in meta.signature_def:
        session.close()
        names = listed(sorted(name for name in meta.signature_def if not name.startswith("__"))) or "none"
        raise not_convertible(f"the SavedModel has no signature {DEFAULT_SIGNATURE}; it has {names}")
    signature = meta_graph_pb2.SignatureDef()
    signature.CopyFrom(meta.signature_def[DEFAULT_SIGNATURE])
    return _Loaded(graph, session, signature, graph.as_graph_def())


def _unloadable(saved_model: Path, error: Exception) -> Exception:
    words = one_line(error)
    if "Op type not registered" in words:
        return not_convertible(f"TensorFlow does not know an operation of the model: {words}")
    if "Could not find variable" in words or "uninitialized" in words:
        return invalid(_LOADER_TRAP.format(error=words))
    return invalid(f"{saved_model.name} cannot be loaded: {type(error).__name__}: {words}")


def _kept(loaded: _Loaded, outputs: Sequence[str]) -> dict[str, Tensor]:
    """Return the outputs by alias; one that the signature does not have is its own alias."""
    of_signature = {alias: _tensor(info) for alias, info in loaded.signature.outputs.items()}
    composite = sorted(alias for alias, one in of_signature.items() if not one.name)
    if composite and not outputs:
        raise not_convertible(f"output {listed(composite)} is made of several tensors, such as a sparse one")
    if not outputs:
        return of_signature
    by_name = {one.name: alias for alias, one in of_signature.items()}
    kept = {}
    for name in outputs:
        alias = by_name.get(name, name)
        if alias not in of_signature:
            try:
                of_signature[alias] = _described(loaded.graph.get_tensor_by_name(name))
            except (KeyError, ValueError) as error:
                raise not_convertible(f"the model has no tensor {name}") from error
        kept[alias] = of_signature[alias]
    return kept


def _inline(loaded: _Loaded, kept: Sequence[str]) -> Any:
    """Replace calls of functions by their nodes; SavedModels of TensorFlow 2 are one call."""
    graph_def = loaded.graph_def
    functions = {one.signature.name for one in graph_def.library.function}
    if not any(node.op in _CALLS or node.op in functions for node in graph_def.node):
        return graph_def
    meta = v1.train.export_meta_graph(graph_def=graph_def, graph=loaded.graph)
    inputs = [one.name for one in loaded.signature.inputs.values() if one.name]
    fetches = meta_graph_pb2.CollectionDef()
    fetches.node_list.value.extend([*inputs, *kept])
    meta.collection_def["train_op"].CopyFrom(fetches)
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.optimizers[:] = ["function"]
    config.graph_options.rewrite_options.min_graph_nodes = -1
    return tf_optimizer.OptimizeGraph(config, meta)


def _use_defaults(nodes: Mapping[str, Any], inputs: set[str]) -> None:
    """Replace placeholders with defaults, other than inputs of the signature, by the defaults."""
    for node in nodes.values():
        if node.op == "PlaceholderWithDefault" and node.name not in inputs:
            kind = node.attr["dtype"].type
            node.op = "Identity"
            node.attr.clear()
            node.attr["T"].type = kind


def _take_weights(loaded: _Loaded, nodes: Mapping[str, Any], needed: set[str]) -> dict[str, Array]:
    """Return all weights: variables and large constants."""
    owners = {name: _variable(nodes, name) for name in needed if nodes[name].op in _READS}
    values = _read(loaded, nodes, sorted(set(owners.values())))
    weights = {name: values[owner] for name, owner in owners.items()}
    constants = {
        name: tf.make_ndarray(nodes[name].attr["value"].tensor) for name in needed if _is_weight(nodes[name])
    }
    weights |= constants
    size = sum(one.nbytes for one in {id(one): one for one in weights.values()}.values())
    if size > MAX_WEIGHT_BYTES:
        raise not_convertible(f"the weights have {size} bytes, and an ONNX file holds {MAX_WEIGHT_BYTES}")
    for name, value in weights.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            owner = owners.get(name, name)
            count = int(value.size - np.isfinite(value).sum())
            raise invalid(f"{count} of {value.size} values of weight {owner} are no finite numbers")
    return weights


def _is_weight(node: Any) -> bool:
    if node.op != "Const" or not tf.as_dtype(node.attr["dtype"].type).is_floating:
        return False
    tensor = node.attr["value"].tensor
    return len(tensor.tensor_shape.dim) == 4 or len(tensor.tensor_content) > LIFTED_BYTES


def _variable(nodes: Mapping[str, Any], name: str) -> str:
    """Return the node that holds the variable which a node reads."""
    node = nodes[name]
    while node.op not in {"VarHandleOp", "VariableV2", "Variable"}:
        if node.op not in _PASS | _READS or not data_inputs(node):
            raise not_convertible(f"variable {name} comes from a {node.op}, whose value is not known")
        node = nodes[node_name(data_inputs(node)[0])]
    return str(node.name)


def _read(loaded: _Loaded, nodes: Mapping[str, Any], variables: Sequence[str]) -> dict[str, Array]:
    """Read variables in the graph that was loaded, all at once: hundreds of single runs take minutes."""
    reads = []
    with loaded.graph.as_default():
        for name in variables:
            tensor = loaded.graph.get_tensor_by_name(f"{name}:0")
            if nodes[name].op == "VarHandleOp":
                kind = nodes[name].attr["dtype"].type
                tensor = tf.raw_ops.ReadVariableOp(resource=tensor, dtype=kind)
            reads.append(tensor)
    try:
        return dict(zip(variables, loaded.session.run(reads), strict=True))
    except tf.errors.OpError as error:
        raise invalid(_LOADER_TRAP.format(error=one_line(error))) from error


def _flat(
    graph_def: Any,
    nodes: Mapping[str, Any],
    needed: set[str],
    weights: dict[str, Array],
    *,
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
) -> FlatModel:
    flat = v1.GraphDef()
    flat.versions.CopyFrom(graph_def.versions)
    flat.library.CopyFrom(graph_def.library)
    for name in needed:
        if name in weights:
            add_placeholder(flat, name, weights[name].dtype, weights[name].shape)
            continue
        node = flat.node.add()
        node.CopyFrom(nodes[name])
        data = data_inputs(node)
        del node.input[:]
        node.input.extend(data)
        node.attr.pop("_class", None)
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(flat, name="")
    return FlatModel(flat, nodes, _used(nodes, needed, inputs), outputs, weights, graph)


def _used(nodes: Mapping[str, Any], needed: set[str], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the inputs that the outputs depend on, and that a request still has to give."""
    used = {}
    for alias, one in inputs.items():
        if not one.name:
            raise not_convertible(f"input {alias} is made of several tensors, such as a sparse one")
        name = node_name(one.name)
        if name in needed and nodes[name].op in PLACEHOLDERS:
            used[alias] = one
    return used


def add_placeholder(graph_def: Any, name: str, dtype: Any, shape: Sequence[int | None]) -> None:
    """Add a placeholder to a graph."""
    node = graph_def.node.add()
    node.op, node.name = "Placeholder", name
    node.attr["dtype"].type = tf.as_dtype(dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())


def _tensor(info: Any) -> Tensor:
    shape = info.tensor_shape
    sizes = () if shape.unknown_rank else tuple(None if dim.size < 0 else int(dim.size) for dim in shape.dim)
    return Tensor(info.name, dtype_name(info.dtype), sizes)


def _described(tensor: Any) -> Tensor:
    sizes = () if tensor.shape.rank is None else tuple(tensor.shape.as_list())
    return Tensor(full_name(tensor.name), dtype_name(tensor.dtype), sizes)


def dtype_name(dtype: Any) -> str:
    """Return a type as `serval_serving.accel.artifact.Tensor` names it."""
    kind = tf.as_dtype(dtype)
    return STRING if kind == tf.string else str(kind.name)
