"""Properties of the JSON codec: nothing but a status comes out wrong, and values come back."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serval_serving.engines.base import Signature, TensorSpec
from serval_serving.server import json_predict, json_tensors, json_values
from serval_serving.wire.dtypes import DataType
from serval_serving.wire.status import StatusError

DTYPES = [dtype for dtype in DataType if dtype != DataType.DT_BFLOAT16]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([{"b64": "YWJj"}, {"b64": "*"}, {"b64": 1}, {"x": 1}]),
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
numbers = st.recursive(
    st.one_of(st.integers(-(2**40), 2**40), st.floats(width=32)),
    lambda inner: st.lists(inner, min_size=1, max_size=3),
    max_leaves=12,
)


def signature(*dtypes: int) -> Signature:
    names = ("a", "b")[: len(dtypes)]
    specs = {name: TensorSpec(f"{name}:0", dtype, None) for name, dtype in zip(names, dtypes, strict=True)}
    return Signature("s", specs, {}, {})


documents = st.one_of(
    st.fixed_dictionaries(
        {"instances": st.lists(st.one_of(values, st.dictionaries(st.sampled_from("ab"), values)))}
    ),
    st.fixed_dictionaries({"inputs": st.one_of(values, st.dictionaries(st.sampled_from("ab"), values))}),
    st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name"]), values),
)


@given(document=documents, dtypes=st.lists(st.sampled_from(DTYPES), min_size=1, max_size=2))
@settings(max_examples=600, deadline=None)
def test_any_document_is_read_or_refused(document: dict[str, Any], dtypes: list[int]) -> None:
    with contextlib.suppress(StatusError):
        arrays, _ = json_predict.read_inputs(document, signature(*dtypes))
        assert set(arrays) == {"a", "b"}.intersection(signature(*dtypes).inputs)


@given(body=st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_an_object_or_refused(body: bytes) -> None:
    with contextlib.suppress(StatusError):
        assert isinstance(json_values.parse(body), dict)


@given(
    value=numbers,
    dtype=st.sampled_from(sorted(json_tensors._FLOATS - {14}) + sorted(json_tensors._LIMITS)),
)
@settings(max_examples=600, deadline=None)
def test_reading_at_once_is_reading_one_by_one(value: Any, dtype: int) -> None:
    quick = json_tensors._numbers(value, dtype)
    if quick is None:
        return
    slow = json_tensors._walked(value, dtype)
    assert quick.dtype == slow.dtype
    assert quick.shape == slow.shape
    assert quick.tobytes() == slow.tobytes()


@given(
    values=st.lists(st.floats(width=32), min_size=1, max_size=6),
    dtype=st.sampled_from([np.float32, np.float64, np.float16]),
    rows=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_floats_come_back_bit_by_bit(values: list[float], dtype: Any, rows: bool) -> None:
    with np.errstate(over="ignore"):
        array = np.array(values, dtype=dtype)
    text = json_predict.write_reply({"y": array}, rows=rows)
    back = json.loads(text)["predictions" if rows else "outputs"]
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(np.array(back, dtype=dtype), array)
    assert all(isinstance(number, float) for number in back)


def test_named_rows_with_nan_are_written_too() -> None:
    outputs = {
        "a": np.array([[0.2, math.nan]], np.float32),
        "b": np.array([1], np.int64),
        "c": np.array([b"t"], object),
    }
    assert json_predict.write_reply(outputs, rows=True) == (
        b'{"predictions":[{"a":[0.2,NaN],"b":1,"c":"t"}]}'
    )


def test_a_scalar_that_is_no_number_is_written() -> None:
    assert json_predict.write_reply({"y": np.array(np.nan, np.float32)}, rows=False) == b'{"outputs":NaN}'


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_in_any_order_are_written_row_by_row(order: Any) -> None:
    array = np.array([[1, 2], [3, 4]], dtype=np.int32, order=order)
    assert json_predict.write_reply({"y": array}, rows=True) == b'{"predictions":[[1,2],[3,4]]}'


def test_types_without_json_are_refused() -> None:
    with pytest.raises(StatusError, match="Failed to write JSON value for tensor type: complex64"):
        json_predict.write_reply({"y": np.zeros(1, np.complex64)}, rows=False)


def test_long_values_are_cut_in_error_texts() -> None:
    assert len(json_values.quoted(list(range(10_000)))) < 300
