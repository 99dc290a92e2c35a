"""TensorFlow to ONNX, by modules of tf2onnx that are no public interface: hence its pinned version.

What everybody calls, `tf2onnx.convert`, needs 2.5 to 17 GB for the networks of the catalogue: it copies the
graph before each of its passes, and every copy has the weights. Here tf2onnx sees placeholders, and the
weights become initializers of the file that it made.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
import onnx.defs
import tensorflow as tf
from tf2onnx import handler, optimizer, tf_loader, tfonnx

from serval_serving.accel.convert.failures import listed, not_convertible, one_line
from serval_serving.accel.convert.graph import full_name, node_name
from serval_serving.accel.convert.onnx_names import number_again

OPSET: Final = 17
BATCH: Final = "batch"
"""Name of the first dimension where it is of any size."""
_OWN: Final = frozenset({"Placeholder", "Const", "NoOp", "Identity"})
"""Operations that tf2onnx handles outside of its table."""


def to_onnx(
    graph_def: Any,
    start: str,
    ends: Sequence[str],
    weights: Mapping[str, np.ndarray[Any, Any]],
    report: Callable[[float, str], None] = lambda _share, _message: None,
) -> Any:
    """Return a device graph as an ONNX model whose tensors have the same names.

    Parameters
    ----------
    graph_def:
        The device graph.
    start, ends:
        Names of its input tensor and of its output tensors.
    weights:
        Values of its placeholders other than `start`.
    report:
        Takes how far it is, from 0 to 1.

    Raises
    ------
    StageFailure
        It contains operations that cannot be converted.
    """
    names = {node.name for node in graph_def.node}
    used = {name: value for name, value in weights.items() if name in names}
    inputs = [start, *(full_name(name) for name in used)]
    operations = {node.op for node in graph_def.node}
    with tf.Graph().as_default():
        optimized = tf_loader.tf_optimize(inputs, list(ends), graph_def)
    del graph_def
    report(0.3, "constants are folded")
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(optimized, name="")
        del optimized
        model = _converted(graph, inputs, list(ends), operations)
    report(0.8, "converted")
    _check_operations(model)
    _name_batch(model, start)
    number_again(model)
    keep = [one for one in model.graph.input if node_name(one.name) not in used]
    del model.graph.input[:]
    model.graph.input.extend(keep)
    for name, value in used.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, full_name(name)))
    return model


def _converted(graph: Any, inputs: list[str], outputs: list[str], operations: set[str]) -> Any:
    try:
        converted = tfonnx.process_tf_graph(
            graph, opset=OPSET, input_names=inputs, output_names=outputs, continue_on_error=False
        )
        # One of its passes fails on a scalar that is added to a convolution. It then goes on with the graph
        # before the pass; the copies for that are cheap without weights.
        converted = optimizer.optimize_graph(converted, catch_errors=True)
        model = converted.make_model("converted by Serval")
    except Exception as error:
        unknown = sorted(operations - _OWN - handler.tf_op.create_mapping(OPSET, None).keys())
        words = f"{type(error).__name__}: {one_line(error)}"
        if unknown:
            words = f"it does not know {listed(unknown)} ({words})"
        raise not_convertible(f"tf2onnx cannot convert the network: {words}") from error
    gc.collect()  # its graphs are cycles
    return model


def _check_operations(model: Any) -> None:
    """Refuse what tf2onnx left in: it only logs operations that it does not know."""
    unknown = sorted(
        {node.op_type for node in model.graph.node if not onnx.defs.has(node.op_type, OPSET, node.domain)}
    )
    if unknown:
        raise not_convertible(f"ONNX has no counterpart of the network's operations: {listed(unknown)}")


def _name_batch(model: Any, start: str) -> None:
    """Give the first dimension a name that says what it is."""
    (given,) = (one for one in model.graph.input if one.name == start)
    old = given.type.tensor_type.shape.dim[0].dim_param
    if not old:
        return
    for one in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in one.type.tensor_type.shape.dim:
            if dim.dim_param == old:
                dim.dim_param = BATCH
    for one in model.graph.output:
        dims = one.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_param = BATCH
