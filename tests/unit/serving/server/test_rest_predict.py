"""What REST predict answers, from a live server of the model `zoo`."""

from __future__ import annotations

import gzip
import json
import math
import re
from typing import Any

import pytest

from unit.serving.server.processes import Server
from unit.serving.server.rest_calls import PREDICT, ask, b64, half


def test_rows_of_one_input_and_one_output(zoo: Server) -> None:
    assert ask(zoo, half(instances=[1.0, 2.0, 5.0])) == (200, {"predictions": [2.5, 3.0, 4.5]})


def test_columns_of_one_input_and_one_output(zoo: Server) -> None:
    assert ask(zoo, half(inputs=[1.0, 2.0])) == (200, {"outputs": [2.5, 3.0]})
    assert ask(zoo, half(inputs={"x": [1, 2]})) == (200, {"outputs": [2.5, 3.0]})


def test_shapes_that_the_graph_takes_need_not_be_those_of_the_signature(zoo: Server) -> None:
    assert ask(zoo, half(instances=[[1.0, 2.0], [5.0, 7.0]])) == (
        200,
        {"predictions": [[2.5, 3.0], [4.5, 5.5]]},
    )
    assert ask(zoo, half(inputs=1.0)) == (200, {"outputs": 2.5})
    assert ask(zoo, {"signature_name": "scalar", "instances": [1.0]}) == (200, {"predictions": [2.0]})


def test_bodies_that_are_no_json_proper(zoo: Server) -> None:
    body = b'\xef\xbb\xbf{"signature_name":"half_plus_two","instances":[1, Inf, -Infinity]} and more'
    reply = zoo.post(PREDICT, body)
    assert (reply.status, reply.data) == (200, b'{"predictions":[2.5,Infinity,-Infinity]}')


def test_rows_of_named_inputs_and_outputs(zoo: Server) -> None:
    document = {"signature_name": "add", "instances": [{"a": 3, "b": 1}, {"b": 2.5, "a": 1}]}
    expected = [{"difference": 2.0, "sum": 4.0}, {"difference": -1.5, "sum": 3.5}]
    assert ask(zoo, document) == (200, {"predictions": expected})


def test_columns_of_named_inputs_and_outputs(zoo: Server) -> None:
    document = {"signature_name": "add", "inputs": {"a": [3, 1], "b": [1, 2]}}
    assert ask(zoo, document) == (200, {"outputs": {"difference": [2.0, -1.0], "sum": [4.0, 3.0]}})


def test_bytes_and_text_in_and_out(zoo: Server) -> None:
    document = {"signature_name": "raw_bytes", "instances": [b64(b"\xff\0"), "é"]}
    status, reply = ask(zoo, document)
    assert status == 200
    first, second = reply["predictions"]
    # Outputs named *_bytes are always base64; others only where they are no text.
    assert first == {"copy_bytes": b64(b"\xff\0"), "text": b64(b"\xff\0")}
    assert second == {"copy_bytes": b64("é".encode()), "text": "é"}


def test_one_image_by_name_as_azures_no_code_clients_send_it(zoo: Server) -> None:
    status, reply = ask(zoo, {"instances": [{"images": b64(b"abcd")}]})
    assert (status, reply) == (200, {"predictions": [{"classes": 4, "probabilities": [4.0, 2.0, 1.0]}]})


def test_nan_and_infinities_go_in_and_out(zoo: Server) -> None:
    status, reply = ask(zoo, '{"signature_name":"half_plus_two","instances":[NaN,Infinity,-Infinity,1]}')
    assert status == 200
    numbers = reply["predictions"]
    assert math.isnan(numbers[0])
    assert numbers[1:] == [math.inf, -math.inf, 2.5]


def test_floats_have_a_point_or_an_exponent_and_their_own_digits(zoo: Server) -> None:
    body = '{"signature_name":"echo_float","inputs":[2, 0.2, 1e30, 16777215]}'
    text = zoo.post(PREDICT, body).data.decode()
    tokens = re.search(r"\[(.*)\]", text)
    assert tokens is not None
    written = tokens[1].split(",")
    assert all("." in token or "e" in token for token in written), written
    assert [float(token) for token in written] == [2.0, 0.2, 1e30, 16777215.0]


def test_scalars_stand_bare(zoo: Server) -> None:
    assert ask(zoo, {"signature_name": "scalar", "inputs": 2}) == (200, {"outputs": 3.0})


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("echo_int64", [[1, -(2**62)]]),
        ("echo_uint64", [2**64 - 1]),
        ("echo_int8", [-128, 127]),
        ("echo_bool", [True, False]),
        ("echo_double", [0.1, 1e300]),
        ("echo_half", [0.5]),
        ("echo_bfloat16", [0.5]),
        ("echo_string", [["a", "b"]]),
        ("echo_float", [[[]]]),
    ],
)
def test_every_type(zoo: Server, signature: str, values: Any) -> None:
    assert ask(zoo, {"signature_name": signature, "inputs": values}) == (200, {"outputs": values})


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/zoo/versions/7:predict",
        "/V1/Models/zoo/VERSIONS/0007:PREDICT",
        "/v1/models/z%6Fo:predict",
        "/v1/models/zoo:predict?a=b",
    ],
)
def test_paths(zoo: Server, path: str) -> None:
    assert ask(zoo, half(instances=[1.0]), path) == (200, {"predictions": [2.5]})


def test_compressed_bodies(zoo: Server) -> None:
    body = gzip.compress(json.dumps(half(instances=[1.0])).encode())
    reply = zoo.http.request("POST", zoo.url(PREDICT), body=body, headers={"Content-Encoding": "gzip"})
    assert json.loads(reply.data) == {"predictions": [2.5]}
