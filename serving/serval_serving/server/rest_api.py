"""The REST API's calls, without HTTP: bytes in, bytes out. They block and run in threads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from google.protobuf import json_format

from serval_serving.server import examples, json_examples, json_pieces, json_predict, json_values
from serval_serving.server.binding import bind_inputs
from serval_serving.server.inference import Deadline, Inference, Target
from serval_serving.server.metadata import DEVICE, SIGNATURE_DEF, device_of
from serval_serving.wire import messages
from serval_serving.wire.heavy_work import HEAVY_BYTES, heavy_work
from serval_serving.wire.status import invalid

TOO_DEEP = "JSON Parse error: lists or objects are nested too deeply"


def predict(inference: Inference, target: Target, body: bytes, deadline: Deadline) -> bytes:
    """Answer predict.

    Raises
    ------
    StatusError
        As Predict does.
    """
    with inference.acquire(target) as handle:
        with _document(inference, body, deadline) as document:
            signature = json_predict.find_signature(
                handle.model.signatures, json_predict.signature_name(document)
            )
            inference.check_method(signature)
            try:
                given, rows = json_predict.read_inputs(
                    document, signature, lambda: inference.check_deadline(deadline)
                )
            except RecursionError as error:
                raise invalid(TOO_DEEP) from error
        arrays = bind_inputs(signature, given, lambda array: array)
        aliases = list(signature.outputs)
        results = inference.run(handle, signature, arrays, aliases, deadline)
    return json_predict.write_reply(dict(zip(aliases, results, strict=True)), rows=rows)


def classify(inference: Inference, target: Target, body: bytes, deadline: Deadline) -> bytes:
    """Answer classify.

    Raises
    ------
    StatusError
        As Classify does.
    """
    with _document(inference, body, deadline) as document:
        target, given = _examples(target, document)
    return json_examples.write_classes(examples.classify(inference, target, given, deadline).result)


def regress(inference: Inference, target: Target, body: bytes, deadline: Deadline) -> bytes:
    """Answer regress.

    Raises
    ------
    StatusError
        As Regress does.
    """
    with _document(inference, body, deadline) as document:
        target, given = _examples(target, document)
    return json_examples.write_values(examples.regress(inference, target, given, deadline).result)


@contextmanager
def _document(inference: Inference, body: bytes, deadline: Deadline) -> Iterator[dict[str, Any]]:
    """Read a body, and keep its values only as long as the lane for large ones.

    As Python objects numbers take eight times the memory of arrays, and runs of a model may be long.
    """
    with heavy_work(len(body), deadline.left(inference.now())):
        document = json_values.parse(body, lambda: inference.check_deadline(deadline))
        try:
            yield document
        finally:
            if len(body) >= HEAVY_BYTES:
                json_pieces.take_apart(document)


def _examples(target: Target, document: dict[str, Any]) -> tuple[Target, messages.Input]:
    """Read the examples of a document, and the target with its signature."""
    target = replace(target, signature=json_predict.signature_name(document))
    try:
        return target, json_examples.read_input(document)
    except RecursionError as error:
        raise invalid(TOO_DEEP) from error


def write_status(response: messages.GetModelStatusResponse) -> bytes:
    """Write the states of versions, laid out as TensorFlow Serving does."""
    return _pretty(_plain(response))


def write_metadata(response: messages.GetModelMetadataResponse) -> bytes:
    """Write the metadata of a version, laid out as TensorFlow Serving does."""
    signatures = messages.SignatureDefMap()
    response.metadata[SIGNATURE_DEF].Unpack(signatures)
    document: dict[str, Any] = {
        "model_spec": _plain(response.model_spec),
        "metadata": {SIGNATURE_DEF: _plain(signatures)},
    }
    if device := device_of(response):
        document["metadata"][DEVICE] = device
    return _pretty(document)


def _plain(message: Any) -> dict[str, Any]:
    """Turn a message into JSON values: 64-bit numbers as strings, fields at their default included."""
    document: dict[str, Any] = json_format.MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        descriptor_pool=messages.POOL,
    )
    return document


def _pretty(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1).encode() + b"\n"
