"""The signature of an artifact, as that of any other model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from serval_serving.accel.artifact import STRING, ArtifactError, Conversion, Tensor, read_conversion
from serval_serving.models.onnxmodel import PREDICT_METHOD
from serval_serving.models.savedmodel import (
    DEFAULT_SIGNATURE,
    ModelInvalid,
    Signature,
    TensorInfo,
    check_signatures,
)

DATA_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        STRING: "DT_STRING",
        "bool": "DT_BOOL",
        "float16": "DT_HALF",
        "float32": "DT_FLOAT",
        "float64": "DT_DOUBLE",
        "int8": "DT_INT8",
        "int16": "DT_INT16",
        "int32": "DT_INT32",
        "int64": "DT_INT64",
        "uint8": "DT_UINT8",
        "uint16": "DT_UINT16",
        "uint32": "DT_UINT32",
        "uint64": "DT_UINT64",
    }
)
"""TensorFlow's name of each type that a tensor of an artifact may have. The fetcher has no numpy to ask."""


def read_artifact_signature(folder: Path) -> Mapping[str, Signature]:
    """Read the signature of the artifact in a folder.

    Raises
    ------
    ModelInvalid
        It is no artifact that this version can read, or its tensors cannot be sent.
    """
    try:
        return artifact_signatures(read_conversion(folder))
    except (ArtifactError, OSError) as error:
        raise ModelInvalid(str(error)) from error


def artifact_signatures(conversion: Conversion) -> Mapping[str, Signature]:
    """Return the only signature of an artifact, by its name.

    Raises
    ------
    ModelInvalid
        Its tensors cannot be sent, or there are none.
    """
    inputs = {alias: tensor_info(one) for alias, one in sorted(conversion.inputs.items())}
    outputs = {alias: tensor_info(one) for alias, one in sorted(conversion.outputs.items())}
    if not inputs or not outputs:
        raise ModelInvalid("the signature of the artifact lacks inputs or outputs")
    declared = {DEFAULT_SIGNATURE: Signature(PREDICT_METHOD, inputs, outputs)}
    check_signatures(declared, quantized=False)
    return declared


def tensor_info(tensor: Tensor) -> TensorInfo:
    """Describe a tensor of an artifact as one of a SavedModel.

    Raises
    ------
    ModelInvalid
        There is no such type.
    """
    if tensor.dtype not in DATA_TYPES:
        raise ModelInvalid(f"tensor {tensor.name} is of type {tensor.dtype}, which no part can have")
    shape = tuple(-1 if size is None else size for size in tensor.shape)
    return TensorInfo(tensor.name, DATA_TYPES[tensor.dtype], shape)
