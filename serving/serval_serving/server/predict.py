"""Predict, from the bytes of a request to those of its reply."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np

from serval_serving.models.handle import ServableHandle
from serval_serving.server.binding import bind_inputs, by_alias, find_signature, select_outputs
from serval_serving.server.inference import Deadline, Inference, Target
from serval_serving.wire import messages
from serval_serving.wire.errors import TensorError
from serval_serving.wire.predict_codec import Input, Request, write_response
from serval_serving.wire.status import StatusError
from serval_serving.wire.tensors import to_array


def target_of(request: Any) -> Target:
    """Read the model spec of any message."""
    return read_target(request.model_spec if request.HasField("model_spec") else None)


def read_target(spec: messages.ModelSpec | None) -> Target:
    """Read a model spec; None is one that a request has not."""
    if spec is None:
        return Target(None)
    version = spec.version.value if spec.HasField("version") else None
    return Target(spec.name, version, spec.version_label, spec.signature_name)


def predict(
    inference: Inference, handle: ServableHandle, request: Request, deadline: Deadline, *, typed: bool = True
) -> bytes:
    """Bind the inputs, run the model and write the reply.

    Parameters
    ----------
    inference:
        Runs it.
    handle:
        The version; what the request says of it is not looked at.
    request:
        Signature, inputs and output filter.
    deadline:
        When no one waits any more.
    typed:
        Whether outputs come in typed fields (`float_val`), or as `tensor_content`.

    Raises
    ------
    StatusError
        The request does not fit the signature, or what the engine says; UNIMPLEMENTED: an output is of a type
        that cannot be sent.
    """
    wanted = request.model_spec.signature_name if request.model_spec is not None else ""
    signature = find_signature(handle.model.signatures, wanted)
    inference.check_method(signature)
    given, by_tensor = by_alias(signature, request.inputs)
    arrays = bind_inputs(signature, given, _array)
    outputs = select_outputs(signature, request.output_filter, by_tensor=by_tensor)
    aliases = list(dict.fromkeys(output.alias for output in outputs))
    results = dict(zip(aliases, inference.run(handle, signature, arrays, aliases, deadline), strict=True))
    spec = messages.ModelSpec(name=handle.name, signature_name=signature.name)
    spec.version.value = handle.version
    try:
        return write_response(spec, ((key, results[alias]) for key, alias in outputs), typed=typed)
    except TensorError as error:
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"an output cannot be sent: {error}") from error


def _array(given: Input) -> np.ndarray:
    """Give an input's array."""
    return given if isinstance(given, np.ndarray) else to_array(given)
