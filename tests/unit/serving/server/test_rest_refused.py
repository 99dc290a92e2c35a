"""What REST refuses, and in which words, from a live server of the model `zoo`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unit.serving.server.processes import Server
from unit.serving.server.rest_calls import PREDICT, ask, half

ONE_OF = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
ROW = "Failed to process element: {} of 'instances' list. Error: Invalid argument: "
REFUSED: dict[str, tuple[Any, int, str]] = {
    "empty": (b"", 400, "JSON Parse error: The document is empty"),
    "no json": (b"{", 400, "JSON Parse error: "),
    "no utf-8": (b'{"a": "\xff}', 400, "JSON Parse error: "),
    "too deep": (b'{"inputs":' + b"[" * 100_000 + b"NaN", 400, "JSON Parse error: "),
    "deeper than numpy": (
        b'{"signature_name":"echo_float","inputs":' + b"[" * 70 + b"1" + b"]" * 70 + b"}",
        400,
        "Encountered list at unexpected level: 70 expected < 64",
    ),
    "deeper than the stack": (
        b'{"signature_name":"echo_float","inputs":[1,' + b"[" * 990 + b"1" + b"]" * 991 + b"}",
        400,
        "",
    ),
    "no object": ([1], 400, "JSON Value: [\n    1\n] Is not object"),
    "no inputs": (half(), 400, "Missing 'inputs' or 'instances' key"),
    "both": (half(inputs=[1], instances=[1]), 400, "JSON Value: "),
    "rows that are no list": (half(instances=3), 400, "JSON Value: "),
    "no rows": (half(instances=[]), 400, "JSON Value: "),
    "signature name": ({"signature_name": 1, "instances": [1]}, 400, "JSON Value: "),
    "signature": (
        {"signature_name": "q", "instances": [1]},
        400,
        'Serving signature name: "q" not found in signature def',
    ),
    "plain rows": (
        {"signature_name": "add", "instances": [1]},
        400,
        "instances is a plain list, but expecting list of objects as multiple input tensors required as ",
    ),
    "plain columns": (
        {"signature_name": "add", "inputs": [1]},
        400,
        "inputs is a plain value/list, but expecting an object as multiple input tensors required as per ",
    ),
    "missing column": (
        {"signature_name": "add", "inputs": {"a": [1]}},
        400,
        "Missing named input: b in 'inputs' object.",
    ),
    "missing key": (
        {"signature_name": "add", "instances": [{"a": 1}]},
        400,
        "Failed to process element: 0 of 'instances' list. JSON object: ",
    ),
    "unknown key": (
        {"signature_name": "add", "instances": [{"a": 1, "b": 2}, {"c": 1, "a": 1, "b": 1}]},
        400,
        ROW.format("1 key: c") + "JSON object: does not have named input: c",
    ),
    "object among lists": (
        half(instances=[1, {"x": 2}]),
        400,
        "Expecting value/list but got object at item 1 of input list",
    ),
    "list among objects": (
        half(instances=[{"x": 2}, 1]),
        400,
        "Expecting object but got list at item 1 of input list",
    ),
    "text for a number": (
        half(instances=[1, "a"]),
        400,
        ROW.format(1) + 'JSON Value: "a" Type: String is not of expected type: float',
    ),
    "bool for a number": (
        half(inputs=[1, True]),
        400,
        "JSON Value: true Type: True is not of expected type: float",
    ),
    "null": (half(inputs=[None]), 400, "JSON Value: null Type: Null is not of expected type: float"),
    "float for an integer": (
        {"signature_name": "echo_int32", "inputs": [1.5]},
        400,
        "JSON Value: 1.5 Type: Number is not of expected type: int32",
    ),
    "integer too large": (
        {"signature_name": "echo_int64", "inputs": [2**63]},
        400,
        "JSON Value: 9223372036854775808 Type: Number is not of expected type: int64",
    ),
    "ragged": (
        {"signature_name": "echo_float", "inputs": [[1, 2], [3]]},
        400,
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    ),
    "deeper": (
        {"signature_name": "echo_float", "inputs": [1, [2]]},
        400,
        "Encountered list at unexpected level: 1 expected < 1",
    ),
    "flatter": (
        {"signature_name": "echo_float", "inputs": [[1], 2]},
        400,
        "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
    ),
    "rows of unequal size": (
        {"signature_name": "echo_float", "instances": [[1, 2], [3]]},
        400,
        ROW.format(1) + "Expecting tensor size: 2 but got: 1",
    ),
    "rows of unequal shape": (
        {"signature_name": "echo_float", "instances": [[1, 2], [[3, 4]]]},
        400,
        ROW.format(1) + "Expecting shape [2] but got: [1,2]",
    ),
    "no base64": (
        {"signature_name": "echo_string", "inputs": {"b64": "*"}},
        400,
        "Unable to base64 decode",
    ),
    "object for a string": (
        {"signature_name": "echo_string", "inputs": [{"c64": "x"}]},
        400,
        "JSON Value: {\n",
    ),
    "complex": (
        {"signature_name": "echo_complex64", "inputs": [1]},
        501,
        "Conversion of JSON Value: 1 to type: complex64",
    ),
    "outputs of unequal rows": (
        {"signature_name": "two_batches", "instances": [1.0]},
        400,
        "Tensor name: b has inconsistent batch size: 2 expecting: 1",
    ),
    "wrong rank": (
        {"signature_name": "images", "instances": [[[1.0, 2.0, 3.0]]]},
        400,
        "Shape must be rank 4 but is rank 3 for ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(zoo: Server, case: str) -> None:
    document, status, text = REFUSED[case]
    got, reply = ask(zoo, document)
    assert (got, reply.keys()) == (status, {"error"})
    assert reply["error"].startswith(text)


def test_both_forms_at_once_say_so(zoo: Server) -> None:
    _, reply = ask(zoo, half(inputs=[1], instances=[1]))
    assert reply["error"].endswith(ONE_OF)


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        (
            "POST",
            "/v1/models/nope:predict",
            404,
            "Servable not found for request: Latest(nope)",
        ),
        (
            "POST",
            "/v1/models/zoo/versions/9:predict",
            404,
            "Servable not found for request: Specific(zoo, 9)",
        ),
        (
            "POST",
            "/v1/models/zoo/labels/canary:predict",
            400,
            "Unrecognized servable version label: canary",
        ),
        ("POST", "/v1/models/zoo:explode", 400, "Malformed request: POST /v1/models/zoo:explode"),
        ("POST", "/v1/models/zoo", 400, "Malformed request: POST /v1/models/zoo"),
        ("PUT", PREDICT, 400, f"Malformed request: PUT {PREDICT}"),
        ("GET", PREDICT, 400, f"Malformed request: GET {PREDICT}"),
        ("GET", "/v1/", 400, "Malformed request: GET /v1/"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        (
            "POST",
            f"/v1/models/zoo/versions/{2**63}:predict",
            400,
            f"Failed to convert version: {2**63} to numeric.",
        ),
        ("GET", "/v1/models/nope", 404, "Could not find any versions of model nope"),
        ("GET", "/v1/models/zoo/versions/9", 404, "Could not find version 9 of model zoo"),
        ("GET", "/v1/models/nope/metadata", 404, "Servable not found for request: Latest(nope)"),
        (
            "GET",
            "/v1/models/zoo/versions/9/metadata",
            404,
            "Servable not found for request: Specific(zoo, 9)",
        ),
    ],
)
def test_errors_by_path(zoo: Server, method: str, path: str, status: int, error: str) -> None:
    body = json.dumps(half(instances=[1.0])) if method != "GET" else None
    reply = zoo.http.request(method, zoo.url(path), body=body)
    assert (reply.status, json.loads(reply.data)) == (status, {"error": error})


def test_other_paths_are_not_found(zoo: Server) -> None:
    assert zoo.get("/v2/models/zoo").status == 404


def test_a_late_answer_is_a_504(zoo: Server) -> None:
    status, reply = ask(zoo, {"signature_name": "slow", "inputs": 2_000_000})
    assert (status, reply) == (504, {"error": "Timed out waiting for notification"})
