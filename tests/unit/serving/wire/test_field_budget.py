"""Messages of many fields are refused before the library reads them."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from serval_serving.wire import messages
from serval_serving.wire.errors import BadShapeError
from serval_serving.wire.field_budget import check_fields, parse
from serval_serving.wire.predict_codec import read_request
from serval_serving.wire.status import StatusError
from serval_serving.wire.tensors import MAX_FILLED_BYTES, from_array, to_array, varint

PREDICT = messages.PredictRequest.DESCRIPTOR


def held(number: int, data: bytes) -> bytes:
    """A field that holds these bytes."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def refused(data: bytes, most: int) -> bool:
    try:
        check_fields(data, PREDICT, most)
    except StatusError as error:
        return error.code is grpc.StatusCode.INVALID_ARGUMENT
    return False


def test_fields_are_counted_in_all_messages() -> None:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"))
    request.inputs["x"].CopyFrom(from_array(np.zeros((2, 3), np.float32)))
    data = request.SerializeToString()
    # Spec and its name; the entry, its key and the tensor: its type, its shape, two dimensions with their
    # sizes, and its values in one.
    fields = 2 + 3 + 1 + 1 + 4 + 1
    assert not refused(data, fields)
    assert refused(data, fields - 1)


@pytest.mark.parametrize(
    "data",
    [
        b"\x1a\x00" * 100,
        held(2, held(2, b"\x42\x00" * 100)),
        held(2, held(2, held(2, b"\x12\x00" * 100))),
        b"\x98\x06\x01" * 100,
        b"\x9d\x06\x01\x02\x03\x04" * 100,
        b"\x99\x06" + b"\x01" * 8 + b"\x1a\x00" * 100,
        b"\x7b\x7c" + b"\x1a\x00" * 100,
        b"\x7b" + b"\x1a\x00" * 100 + b"\x7c",
        b"\x7b" + held(2, b"\x07") + b"\x7c" + b"\x1a\x00" * 100,
    ],
    ids=[
        "strings",
        "strings of a tensor",
        "dimensions",
        "unknown numbers",
        "fixed numbers",
        "mixed",
        "behind a group",
        "in a group",
        "behind a group of bytes that are no message",
    ],
)
def test_every_kind_of_field_counts(data: bytes) -> None:
    assert refused(data, 90)
    assert not refused(data, 110)


@pytest.mark.parametrize("data", [b"\xff", b"\x0b", b"\x0a\x05a", b"\xff" * 20, b"\x1a\xff\xff\xff\xff\x7f"])
def test_what_is_malformed_is_left_to_the_library(data: bytes) -> None:
    assert not refused(data, 100)


def test_a_large_message_is_looked_through() -> None:
    many = b"\x1a\x00" * 600_000
    with pytest.raises(StatusError, match="more than 10000 fields"):
        read_request(many)
    for begin in (b"", b"\x7b\x7c"):
        with pytest.raises(StatusError, match="more than 1000000 fields"):
            parse(messages.PredictRequest, begin + many * 2)
    with pytest.raises(StatusError, match="more than 1000000 fields"):
        read_request(b"\x7b\x7c" + many * 2)
    tensor = held(2, held(1, b"x") + held(2, b"\x08\x07" + b"\x42\x00" * 1_100_000))
    with pytest.raises(StatusError, match="more than 1000000 fields"):
        read_request(tensor)
    shape = held(2, held(1, b"x") + held(2, b"\x08\x01" + held(2, b"\x12\x00" * 1_100_000)))
    with pytest.raises(StatusError, match="more than 1000000 fields"):
        read_request(shape)


def test_a_small_one_is_not() -> None:
    assert len(parse(messages.PredictRequest, b"\x1a\x00" * 500_000).output_filter) == 500_000


def filled(count: int, value: bytes = b"a") -> np.ndarray:
    proto = messages.TensorProto(dtype=7, string_val=[value])
    proto.tensor_shape.dim.add(size=count)
    return to_array(proto)


def test_strings_are_filled_up_within_the_memory_that_they_take() -> None:
    assert filled(100_000).tolist() == [b"a"] * 100_000
    for count, value in ((5_000_000, b"a"), (1_000, b"a" * 1_000_000)):
        with pytest.raises(BadShapeError, match="may be filled up to"):
            filled(count, value)


def test_filled_tensors_have_a_limit_together() -> None:
    proto = messages.TensorProto(dtype=1, float_val=[1])
    proto.tensor_shape.dim.add(size=MAX_FILLED_BYTES // 8)
    first, second = to_array(proto), to_array(proto)
    with pytest.raises(BadShapeError, match="at the moment"):
        to_array(proto)
    del first
    third = to_array(proto)
    assert second[-1] == third[-1] == 1
