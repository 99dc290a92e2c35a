"""The REST API's calls, without HTTP: bytes in, bytes out. They block and run in threads."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format

from serval_serving.server import examples, json_examples, json_predict, json_values
from serval_serving.server.binding import bind_inputs
from serval_serving.server.inference import Deadline, Inference, Target
from serval_serving.server.metadata import SIGNATURE_DEF, model_metadata, model_status
from serval_serving.server.rest_paths import CLASSIFY, METADATA, PREDICT, STATUS, Call
from serval_serving.wire import messages
from serval_serving.wire.status import invalid

TOO_DEEP = "JSON Parse error: lists or objects are nested too deeply"


def answer(inference: Inference, call: Call, body: bytes, deadline: Deadline) -> bytes:
    """Answer one call with the JSON of its reply.

    Raises
    ------
    StatusError
        As the call's gRPC twin does.
    """
    if call.method == PREDICT:
        return _predict(inference, call, body, deadline)
    if call.method == STATUS:
        return write_status(model_status(inference, call.target))
    if call.method == METADATA:
        return write_metadata(model_metadata(inference, call.target, [SIGNATURE_DEF]))
    return _score(inference, call, body, deadline)


def _predict(inference: Inference, call: Call, body: bytes, deadline: Deadline) -> bytes:
    """Answer predict."""
    document = json_values.parse(body)
    with inference.lease(call.target) as lease:
        signature = json_predict.find_signature(lease.model.signatures, json_predict.signature_name(document))
        inference.check_method(signature)
        try:
            given, rows = json_predict.read_inputs(document, signature)
        except RecursionError as error:
            raise invalid(TOO_DEEP) from error
        arrays = bind_inputs(signature, given, lambda array: array)
        aliases = list(signature.outputs)
        results = inference.run(lease, signature, arrays, aliases, deadline)
    return json_predict.write_reply(dict(zip(aliases, results, strict=True)), rows=rows)


def _score(inference: Inference, call: Call, body: bytes, deadline: Deadline) -> bytes:
    """Answer classify or regress."""
    document = json_values.parse(body)
    signature = json_predict.signature_name(document)
    target = Target(call.target.name, call.target.version, call.target.label, signature)
    try:
        given = json_examples.read_input(document)
    except RecursionError as error:
        raise invalid(TOO_DEEP) from error
    if call.method == CLASSIFY:
        return json_examples.write_classes(examples.classify(inference, target, given, deadline).result)
    return json_examples.write_values(examples.regress(inference, target, given, deadline).result)


def write_status(response: messages.GetModelStatusResponse) -> bytes:
    """Write the states of versions, laid out as TensorFlow Serving does."""
    return _pretty(_plain(response))


def write_metadata(response: messages.GetModelMetadataResponse) -> bytes:
    """Write the metadata of a version, laid out as TensorFlow Serving does."""
    signatures = messages.SignatureDefMap()
    response.metadata[SIGNATURE_DEF].Unpack(signatures)
    document = {
        "model_spec": _plain(response.model_spec),
        "metadata": {SIGNATURE_DEF: _plain(signatures)},
    }
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
