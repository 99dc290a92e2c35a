"""Writes a SavedModel in TensorFlow 1's style: named tensors, weights in variables.

The graph is photos (any number of strings), preprocessing, network, classifier. Its weights are variables and
not constants: a graph with 500 MB of constants takes seven times its size in memory to write.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serval_serving.accel.artifact import Preprocessing, Tensor
from serval_serving.accel.build.graph_preprocessing import preprocess_in_graph
from serval_serving.accel.catalogue.networks import IMAGES, IMAGES_ALIAS

v1: Final = tf.compat.v1

LOAD_BYTES: Final = 64 << 20
"""Weights that one run of the session sets. One by one takes minutes, all at once doubles the memory."""
SERVE_TAG: Final = "serve"
SIGNATURE: Final = "serving_default"


@dataclass(frozen=True, slots=True)
class Captured:
    """A Keras model as a graph, apart from Keras.

    Attributes
    ----------
    graph:
        Its GraphDef.
    input, outputs:
        Names of tensors in it.
    weights:
        Path of each variable, its value, and the name of the placeholder of its handle.
    """

    graph: Any
    input: str
    outputs: tuple[str, ...]
    weights: list[tuple[str, NDArray[Any], str]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What `write_saved_model` puts together.

    Attributes
    ----------
    preprocessing, input:
        What happens to photos, and the tensor that results.
    featurizer, features:
        The network, and the tensors that it computes; each is reshaped to its shape.
    classifier, output, also:
        Takes the flattened features; its tensor, and names of copies. None for a detector.
    outputs:
        The signature: tensors by alias.
    """

    preprocessing: Preprocessing
    input: Tensor
    featurizer: Captured
    features: Sequence[Tensor]
    classifier: Captured | None
    output: str
    also: Sequence[str]
    outputs: Mapping[str, str]


def capture(model: Any) -> Captured:
    """Return a Keras model of one input, in inference mode, as a graph and its weights."""
    shape = [None, *model.inputs[0].shape[1:]]
    concrete = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec(shape, tf.float32)
    )
    variables = {id(one.value.handle): one for one in model.variables}
    return Captured(
        graph=concrete.graph.as_graph_def(),
        input=concrete.inputs[0].name,
        outputs=tuple(one.name for one in concrete.outputs),
        weights=[
            (variables[id(outer)].path, variables[id(outer)].numpy(), inner.name)
            for outer, inner in concrete.graph.captures
        ],
    )


def write_saved_model(plan: Plan, folder: Path) -> None:
    """Write the SavedModel into a folder that does not exist yet.

    The plan's weights are dropped one by one as they reach the session, so that they are not held twice; it
    cannot be used again.
    """
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.string, [None], name=_node(IMAGES.name))
        inputs = preprocess_in_graph(images, plan.preprocessing)
        x = tf.identity(inputs, name=_node(plan.input.name))
        loads: list[_Load] = []
        features = _splice(plan.featurizer, x, "featurizer", loads)
        named = [
            tf.identity(tf.reshape(one, _sizes(tensor)), name=_node(tensor.name))
            for one, tensor in zip(features, plan.features, strict=True)
        ]
        if plan.classifier is not None:
            flat = tf.reshape(named[0], [-1, plan.features[0].shape[-1]])
            (scores,) = _splice(plan.classifier, flat, "classifier", loads)
            for name in (plan.output, *plan.also):
                tf.identity(scores, name=_node(name))
        _load(session, loads)
        graph = session.graph
        signature = v1.saved_model.signature_def_utils.predict_signature_def(
            {IMAGES_ALIAS: images},
            {alias: graph.get_tensor_by_name(name) for alias, name in plan.outputs.items()},
        )
        builder = v1.saved_model.builder.SavedModelBuilder(str(folder))
        builder.add_meta_graph_and_variables(session, [SERVE_TAG], {SIGNATURE: signature})
        builder.save()


@dataclass(slots=True)
class _Load:
    """A variable that still has to get its value."""

    assign: Any
    placeholder: Any
    value: NDArray[Any] | None


def _splice(captured: Captured, x: Any, scope: str, loads: list[_Load]) -> list[Any]:
    """Import a captured model behind the tensor `x`, with variables below `scope`; return its outputs."""
    inputs = {captured.input: x}
    with v1.variable_scope(scope, use_resource=True):
        while captured.weights:
            path, value, handle = captured.weights.pop()
            variable = v1.get_variable(path, value.shape, tf.as_dtype(value.dtype), v1.zeros_initializer())
            placeholder = v1.placeholder(variable.dtype, value.shape)
            loads.append(_Load(variable.assign(placeholder).op, placeholder, value))
            inputs[handle] = variable.handle
    found: list[Any] = tf.import_graph_def(
        captured.graph, input_map=inputs, return_elements=list(captured.outputs), name=f"{scope}_net"
    )
    return found


def _load(session: Any, loads: list[_Load]) -> None:
    for group in _groups(loads):
        session.run([one.assign for one in group], {one.placeholder: one.value for one in group})
        for one in group:
            one.value = None
    gc.collect()


def _groups(loads: Sequence[_Load]) -> Iterator[list[_Load]]:
    """Yield the loads in groups of about `LOAD_BYTES`."""
    group: list[_Load] = []
    size = 0
    for one in loads:
        group.append(one)
        size += 0 if one.value is None else one.value.nbytes
        if size >= LOAD_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _sizes(tensor: Tensor) -> list[int]:
    return [-1 if size is None else size for size in tensor.shape]


def _node(tensor: str) -> str:
    """Return the name of the node whose first output is the tensor."""
    return tensor.removesuffix(":0")


def dense(kernel: NDArray[np.float32], bias: NDArray[np.float32], activation: str | None) -> Any:
    """Return a Keras model of one dense layer: [N, C] in, [N, K] out."""
    layer = tf.keras.layers.Dense(kernel.shape[1], activation=activation, name="dense")
    model = tf.keras.Sequential([tf.keras.layers.Input((kernel.shape[0],)), layer])
    layer.set_weights([kernel, bias])
    return model
