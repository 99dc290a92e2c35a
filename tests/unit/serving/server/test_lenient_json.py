"""Bodies that are no JSON proper, and are read all the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from serval_serving.server import json_tensors, json_values
from serval_serving.server.json_values import parse
from serval_serving.wire.dtypes import DataType
from serval_serving.wire.status import StatusError


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b'{"a": [1]}', {"a": [1]}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": 1}X', {"a": 1}),
        (b'{"a": 1} {"a": 2}', {"a": 1}),
        (b' \r\n\t{"a": 1}\0\xff', {"a": 1}),
        (b'{"a": Infinity, "b": -Infinity}', {"a": math.inf, "b": -math.inf}),
        (b'{"a": Inf, "b": [-Inf]} etc', {"a": math.inf, "b": [-math.inf]}),
        (b'{"a": "Inf \\" -NaN", "b": Inf}', {"a": 'Inf " -NaN', "b": math.inf}),
    ],
)
def test_taken(body: bytes, document: dict[str, Any]) -> None:
    assert parse(body) == document


@pytest.mark.parametrize("number", [b"NaN", b"-NaN"])
def test_no_number(number: bytes) -> None:
    assert math.isnan(parse(b'{"a": ' + number + b"}")["a"])


def test_bytes_that_are_no_text_come_through_strings() -> None:
    document = parse(b'{"a": "\xff\xfe\xc3\xa9"}')
    assert json_tensors.to_array(document["a"], DataType.DT_STRING).item() == b"\xff\xfe\xc3\xa9"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "The document is empty"),
        (b"{", "offset: "),
        (b'{"a": 1', "offset: "),
        (b'{"a": Infinit}', ""),
        (b'{"a": INF}', ""),
        (b'{"a": NaN', ""),
        (b'{"a": 01}', ""),
        (b"{'a': 1}", ""),
        (b'{"a": "\xff"', ""),
        (b'{"a": "\x01"}', ""),
        (b'{"a": NaN, "b": ' + b"[" * 100_000, ""),
    ],
)
def test_refused(body: bytes, words: str) -> None:
    with pytest.raises(StatusError) as caught:
        parse(body)
    assert caught.value.message.startswith("JSON Parse error: ")
    assert words in caught.value.message


def test_a_string_that_never_ends_is_looked_at_once() -> None:
    # 128 KB: the square of that takes longer than a test may.
    with pytest.raises(StatusError, match="JSON Parse error"):
        parse(b'{"a": Inf, "b": ' + b'"\\' * (1 << 17))


def test_half_of_a_surrogate_pair_is_refused() -> None:
    document = parse(b'{"a": "\\ud800", "b": NaN}')
    with pytest.raises(StatusError, match="The surrogate pair in string is invalid"):
        json_tensors.to_array(document["a"], DataType.DT_STRING)


@pytest.mark.parametrize(
    "text", ["aGVsbG8=", "aGVsbG8", "aGVs\r\nbG8=\n", " a G V s b G 8 ", "aGVsbG8.", "\taGVsbG8 ="]
)
def test_base64_with_white_space_and_with_any_padding_or_none(text: str) -> None:
    assert json_values.decoded({"b64": text}) == b"hello"


def test_bits_behind_the_last_byte_do_not_matter() -> None:
    assert json_values.decoded({"b64": "YR"}) == b"a"


@pytest.mark.parametrize("text", ["a", "aGVsb", "aGVsbG8==", "YQ=", "aGVs=bG8", "aGVs-_8=", "aGVsbG8é", "*"])
def test_what_is_no_base64(text: str) -> None:
    with pytest.raises(StatusError, match="Unable to base64 decode"):
        json_values.decoded({"b64": text})


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([1435774380, 1435774380.0], DataType.DT_FLOAT, np.float32([1435774380, 1435774380])),
        ([1e300, -1e300, 1e-300], DataType.DT_FLOAT, np.float32([np.inf, -np.inf, 0])),
        ([2**60 + 2**36 + 1], DataType.DT_FLOAT, np.float32([2**60])),
        ([2**53 + 1, 0.1], DataType.DT_DOUBLE, np.float64([2**53, 0.1])),
        ([2**70, 1], DataType.DT_DOUBLE, np.float64([2**70, 1])),
        ([70000, 2049], DataType.DT_HALF, np.float16([np.inf, 2048])),
    ],
)
def test_numbers_are_rounded_to_the_type_of_the_input(value: Any, dtype: int, expected: np.ndarray) -> None:
    array = json_tensors.to_array(value, dtype)
    assert array.dtype == expected.dtype
    assert array.tolist() == expected.tolist()


def test_more_lists_in_lists_than_dimensions() -> None:
    value: Any = [0.0] * 70_000
    for _ in range(64):
        value = [value]
    with pytest.raises(StatusError, match="unexpected level: 65 expected < 64"):
        json_tensors.to_array(value, DataType.DT_FLOAT)


def test_a_number_that_no_type_holds() -> None:
    with pytest.raises(StatusError, match="Number too big"):
        json_tensors.to_array([10**400], DataType.DT_DOUBLE)
