"""The signature that a model's file declares, as the message that GetModelMetadata sends."""

from __future__ import annotations

from serval_serving.engines.base import DEFAULT_SIGNATURE
from serval_serving.models.savedmodel import Signature, TensorInfo
from serval_serving.wire import messages
from serval_serving.wire.dtypes import DataType


def defined(declared: Signature) -> messages.SignatureDefMap:
    """Write the only signature of a model as a SavedModel would have it."""
    definitions = messages.SignatureDefMap()
    definition = definitions.signature_def[DEFAULT_SIGNATURE]
    definition.method_name = declared.method
    for tensors, infos in ((declared.inputs, definition.inputs), (declared.outputs, definition.outputs)):
        for alias, tensor in tensors.items():
            _define(infos[alias], tensor)
    return definitions


def _define(info: messages.TensorInfo, tensor: TensorInfo) -> None:
    """Write an input or output as a signature of a SavedModel has it."""
    info.name = tensor.name
    info.dtype = DataType[tensor.dtype]
    if tensor.shape is None:
        info.tensor_shape.unknown_rank = True
        return
    info.tensor_shape.SetInParent()
    for size in tensor.shape:
        info.tensor_shape.dim.add(size=size)
