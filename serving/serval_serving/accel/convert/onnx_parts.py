"""Folds constants of an ONNX file, and splits what follows the features from the device part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import onnx
import onnx.shape_inference
import onnxruntime

from serval_serving.accel.artifact import Tensor
from serval_serving.accel.convert.failures import not_convertible, one_line

PartTensors = dict[str, list[dict[str, Any]]]
"""``inputs`` and ``outputs`` of a part, as fields of `serval_serving.accel.artifact.Tensor`."""

CPU: Final = ["CPUExecutionProvider"]
_SMALL_BYTES: Final = 1024
_DENSE: Final = frozenset({"Gemm", "MatMul"})
_AFTER: Final = frozenset(
    {
        "Softmax", "LogSoftmax", "Sigmoid", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Add",
        "Cast", "Mul", "Sub",
    }
)  # fmt: skip
"""Operations between a classifier's dense layer and the outputs."""


def fold(source: Path, target: Path) -> None:
    """Write a file in which transposes, scales and batch normalisations are part of the convolutions.

    Raises
    ------
    StageFailure
        ONNX Runtime cannot load the file.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    try:
        onnxruntime.InferenceSession(str(source), options, providers=CPU)
    except Exception as error:  # its errors have no common base
        words = one_line(error)
        raise not_convertible(f"ONNX Runtime cannot load the converted network: {words}") from error


def split(
    source: Path, features: Sequence[str], outputs: Sequence[str], device: Path, classifier: Path
) -> tuple[PartTensors, PartTensors | None]:
    """Write the device part and, if there is one, the classifier; return the tensors of both.

    Parameters
    ----------
    features:
        Where to split; empty to find the input of the last dense layer.
    outputs:
        The outputs of the signature.
    """
    model = onnx.load(str(source))
    links = _Links(model.graph)
    chosen = list(features) or links.last_dense_input(outputs)
    # A signature is a map, which gives its outputs in any order.
    later = sorted({*outputs} - {*chosen})
    behind = links.ancestors(later, chosen) if chosen and later else None
    if behind is None:
        # Nothing follows the features, or what follows needs more than the features.
        whole = sorted({*features, *outputs})
        known = {one.name: one for one in model.graph.output}
        _keep(model, links.ancestors(whole, ()) or set(), [known[name] for name in whole])
        onnx.save(model, str(device))
        return _tensors(model.graph), None
    second = onnx.ModelProto()
    second.CopyFrom(_without_graph(model))
    known = _tensor_types(model)
    _copy_part(model.graph, second.graph, behind, chosen, later, known)
    onnx.save(second, str(classifier))
    tensors = _tensors(second.graph)
    del second
    _keep(model, links.ancestors(chosen, ()) or set(), [known[name] for name in chosen])
    onnx.save(model, str(device))
    return _tensors(model.graph), tensors


def _tensors(graph: Any) -> PartTensors:
    """Return inputs and outputs of a graph."""

    def described(value: Any) -> dict[str, Any]:
        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        sizes = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
        return asdict(Tensor(value.name, dtype, sizes))

    return {
        "inputs": [described(one) for one in graph.input],
        "outputs": [described(one) for one in graph.output],
    }


class _Links:
    """Which node of a graph makes which tensor."""

    def __init__(self, graph: Any) -> None:
        self._makers = {
            name: (index, node) for index, node in enumerate(graph.node) for name in node.output if name
        }
        self._inputs = {one.name for one in graph.input} - {one.name for one in graph.initializer}
        self._initializers = {one.name for one in graph.initializer}

    def ancestors(self, tensors: Iterable[str], stop: Iterable[str]) -> set[int] | None:
        """Return the indices of the nodes between `stop` and the tensors; None if they need other inputs."""
        found: set[int] = set()
        todo, stops, seen = list(tensors), set(stop), set()
        while todo:
            name = todo.pop()
            if name in seen or name in stops or not name:
                continue
            seen.add(name)
            if name in self._inputs and stops:
                return None
            if name in self._makers:
                index, node = self._makers[name]
                found.add(index)
                todo += node.input
        return found

    def last_dense_input(self, outputs: Iterable[str]) -> list[str]:
        """Return the input of the dense layer behind which all outputs lie; empty if there is none."""
        found = set()
        for output in outputs:
            name = output
            while True:
                if name not in self._makers:
                    return []
                node = self._makers[name][1]
                if node.op_type in _DENSE:
                    found.add(node.input[0])
                    break
                data = [one for one in node.input if one and one not in self._initializers]
                if node.op_type not in _AFTER or len(data) != 1:
                    return []
                name = data[0]
        return list(found) if len(found) == 1 and found <= self._makers.keys() else []


def _without_graph(model: Any) -> Any:
    """Return the model's versions alone."""
    bare = onnx.ModelProto()
    bare.ir_version, bare.producer_name = model.ir_version, model.producer_name
    bare.opset_import.extend(model.opset_import)
    return bare


def _copy_part(
    source: Any,
    target: Any,
    nodes: set[int],
    inputs: Sequence[str],
    outputs: Sequence[str],
    known: Mapping[str, Any],
) -> None:
    """Copy some nodes and what they need into an empty graph."""
    target.name = "classifier"
    target.node.extend(source.node[index] for index in sorted(nodes))
    used = {name for node in target.node for name in node.input}
    target.initializer.extend(one for one in source.initializer if one.name in used)
    target.input.extend(known[name] for name in inputs if name in used)
    target.output.extend(known[name] for name in outputs)


def _keep(model: Any, nodes: set[int], outputs: Sequence[Any]) -> None:
    """Take everything out of a model but some nodes and what they need."""
    graph = model.graph
    kept = [onnx.ValueInfoProto.FromString(one.SerializeToString()) for one in outputs]
    for index in range(len(graph.node) - 1, -1, -1):
        if index not in nodes:
            del graph.node[index]
    used = {name for node in graph.node for name in node.input}
    for index in range(len(graph.initializer) - 1, -1, -1):
        if graph.initializer[index].name not in used:
            del graph.initializer[index]
    del graph.output[:]
    graph.output.extend(kept)
    del graph.value_info[:]


def _tensor_types(model: Any) -> dict[str, Any]:
    """Return the types of a model's tensors by name.

    Shape inference copies its model several times, so it gets one in which large initializers are inputs.
    """
    light = _without_graph(model)
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    for one in model.graph.initializer:
        if len(one.raw_data) <= _SMALL_BYTES:
            graph.initializer.append(one)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(one.name, one.data_type, one.dims))
    inferred = onnx.shape_inference.infer_shapes(light).graph
    return {one.name: one for one in (*inferred.value_info, *inferred.output, *inferred.input)}
