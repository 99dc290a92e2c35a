"""`/score`: the bytes of a request go to the model's only input, one output comes back as a bare JSON array.

An input of strings takes them as a batch of one. An input of uint8 takes them as its values: ONNX has no
strings but text, and its operator for images, among others, reads encoded files so.

It stands in for the entry script of an Azure ML GPU service. That script fed the body as a batch of one to
the single input of `serving_default`, and answered the second of its outputs (the probabilities) as the model
gave it, batch dimension included. Map fields have no order of their own, so "the second" is here the second
in alphabetical order, as with `classes` and `probabilities`. A signature of one output answers that one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from serval_serving.engines.base import DEFAULT_SIGNATURE, Signature, TensorSpec
from serval_serving.server import json_values
from serval_serving.server.binding import check_type, find_signature
from serval_serving.server.inference import Deadline, Inference, Target
from serval_serving.wire.dtypes import DataType, dtype_name
from serval_serving.wire.status import invalid

PATH = "/score"
GET_REFUSED = "GET is not supported"
OTHERS_REFUSED = "bad request"


def score(inference: Inference, output: str, body: bytes, deadline: Deadline) -> bytes:
    """Score one body with the only model; the answer is JSON.

    Parameters
    ----------
    inference:
        What runs the model.
    output:
        The alias of the output to answer; empty for the default.
    body:
        What the model reads, for instance a JPEG file.
    deadline:
        When the answer is late.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: the model does not take these bytes, or has no such output; or what the engine says.
    """
    with inference.acquire(Target(None)) as handle:
        signature = find_signature(handle.model.signatures, DEFAULT_SIGNATURE)
        alias, array, wanted = _asked(signature, output, body)
        result = inference.run(handle, signature, {alias: array}, [wanted], deadline)[0]
    return _written(wanted, result)


def _asked(signature: Signature, output: str, body: bytes) -> tuple[str, np.ndarray, str]:
    """Say what to ask of a model: the input's alias, its array, and the alias of the output wanted.

    Parameters
    ----------
    output:
        The alias of the output to answer; empty for the default.
    body:
        What the model reads.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: the model does not take these bytes, or has no such output.
    """
    alias = _the_input(signature)
    wanted = _the_output(signature.outputs, output)
    array = _the_array(alias, signature.inputs[alias], body)
    check_type(alias, signature.inputs[alias], array)
    return alias, array, wanted


def _written(output: str, array: np.ndarray) -> bytes:
    """Write the array of an output as a bare JSON array."""
    values = json_values.writable(output, array)
    if json_values.finite(values):
        return json_values.dump(values)
    return json_values.dump_exact(json_values.plain(values))


def _the_input(signature: Signature) -> str:
    """Find the only input; it must take strings or bytes.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: there are several, none, or it takes numbers.
    """
    names = ", ".join(signature.inputs)
    if len(signature.inputs) != 1:
        raise invalid(
            f"{PATH} needs a model with one input; this one has {len(signature.inputs)}: {names}. "
            "Use the predict API."
        )
    alias, spec = next(iter(signature.inputs.items()))
    if spec.dtype not in {DataType.DT_STRING, DataType.DT_UINT8}:
        raise invalid(
            f"{PATH} needs a model that takes bytes; input {alias} takes {dtype_name(spec.dtype)}. "
            "Use the predict API."
        )
    return alias


def _the_array(alias: str, spec: TensorSpec, body: bytes) -> np.ndarray:
    """Make the input's array of a body; of a shape of uint8 one dimension may be open.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: the bytes do not fill the shape, or several shapes.
    """
    if spec.dtype == DataType.DT_STRING:
        array = np.empty(1, dtype=object)
        array[0] = body
        return array
    shape = [-1 if size is None else size for size in ((None,) if spec.shape is None else spec.shape)]
    if shape.count(-1) > 1:
        raise invalid(f"{PATH} cannot tell the shape of input {alias} from a number of bytes: {shape}.")
    try:
        return np.frombuffer(body, dtype=np.uint8).reshape(shape)
    except ValueError:
        raise invalid(f"{len(body)} bytes do not fill input {alias} of shape {shape}") from None


def _the_output(outputs: Mapping[str, object], wanted: str) -> str:
    """Choose the output to answer.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: there is none, or none of the configured name.
    """
    names = list(outputs)
    if wanted:
        if wanted not in outputs:
            raise invalid(f"the model has no output {wanted}; it has {', '.join(names)}")
        return wanted
    if not names:
        raise invalid("the model has no output")
    return names[1] if len(names) > 1 else names[0]
