"""A request and its reply as a PredictionLog of TensorFlow Serving."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np

from serval_serving.server.inference import Run
from serval_serving.wire import messages, rpc
from serval_serving.wire.predict_codec import write_request, write_response
from serval_serving.wire.tensors import varint

_FIELDS: Final = messages.PredictionLog.DESCRIPTOR.fields_by_name
LOGS: Final[Mapping[str, int]] = {
    rpc.PREDICT.path: _FIELDS["predict_log"].number,
    rpc.CLASSIFY.path: _FIELDS["classify_log"].number,
    rpc.REGRESS.path: _FIELDS["regress_log"].number,
    rpc.MULTI_INFERENCE.path: _FIELDS["multi_inference_log"].number,
}
"""Number of the field that holds a call, by its path. All of these hold a request and a response."""

_REQUEST: Final = 1
_RESPONSE: Final = 2
_BYTES: Final = 2


class Sample(NamedTuple):
    """A request that succeeded, and its reply.

    Attributes
    ----------
    model, version:
        What answered; version 0 if that is not known.
    size:
        About how many bytes both take.
    write:
        Writes the PredictionLog. That takes time in proportion to the size.
    """

    model: str
    version: int
    size: int
    write: Callable[[], bytes]


def of_run(run: Run, most: int) -> Sample:
    """Make a sample of a run of a model, whatever protocol asked for it.

    Arrays that are parts of larger ones, such as a batch or a message, are copied unless the sample has more
    than `most` bytes: it keeps no more memory than its size says.

    It becomes a Predict call of this signature, which has the same inputs and outputs as a call of Classify
    or Regress had.
    """
    model, version, signature, inputs, aliases, outputs = run
    size = sum(map(_size, (*inputs.values(), *outputs)))
    if size <= most:
        inputs = {alias: _own(array) for alias, array in inputs.items()}
        outputs = [_own(array) for array in outputs]

    def write() -> bytes:
        spec = messages.ModelSpec(name=model, signature_name=signature.name)
        request = write_request(spec, inputs, aliases)
        spec.version.value = version
        reply = write_response(spec, zip(aliases, outputs, strict=True))
        return _log(LOGS[rpc.PREDICT.path], spec, request, reply)

    return Sample(model, version, size, write)


def of_call(path: str, model: str, version: int, request: bytes, reply: bytes) -> Sample:
    """Make a sample of a call of one of the methods in `LOGS`."""

    def write() -> bytes:
        spec = messages.ModelSpec(name=model)
        spec.version.value = version
        return _log(LOGS[path], spec, request, reply)

    return Sample(model, version, len(request) + len(reply), write)


def _log(number: int, spec: messages.ModelSpec, request: bytes, reply: bytes) -> bytes:
    """Write a PredictionLog. Its parts are messages already, so they are not parsed."""
    log = messages.PredictionLog()
    log.log_metadata.model_spec.CopyFrom(spec)
    log.log_metadata.timestamp_secs = int(time.time())
    call = _field(_REQUEST, request) + _field(_RESPONSE, reply)
    return bytes(log.SerializeToString()) + _field(number, call)


def _field(number: int, data: bytes) -> bytes:
    """Write a field that holds a message."""
    return b"".join((varint(number << 3 | _BYTES), varint(len(data)), data))


def _own(array: np.ndarray) -> np.ndarray:
    """Return an array that keeps no other one in memory."""
    return array if array.base is None else array.copy()


def _size(array: np.ndarray) -> int:
    """Return about how many bytes an array takes in a message."""
    return sum(map(len, array.flat)) if array.dtype == object else array.nbytes
