from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from serval_serving.wire import messages
from serval_serving.wire.errors import TensorError
from serval_serving.wire.predict_codec import (
    Request,
    read_request,
    read_response,
    request_of,
    write_request,
    write_response,
)
from serval_serving.wire.tensors import from_array, to_array, write_array

DTYPES = (
    "float32",
    "float64",
    "float16",
    "int8",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint64",
    "bool",
    "complex64",
)


def request(*, typed: bool = True, **inputs: Any) -> messages.PredictRequest:
    made = messages.PredictRequest(output_filter=["y", "z"])
    made.model_spec.name = "m"
    made.model_spec.version.value = 0
    for name, value in inputs.items():
        made.inputs[name].CopyFrom(from_array(value, typed=typed))
    return made


def array(value: Any) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else to_array(value)


def same(first: Request, second: Request) -> None:
    assert first.model_spec == second.model_spec
    assert first.output_filter == second.output_filter
    assert first.inputs.keys() == second.inputs.keys()
    for name in first.inputs:
        try:
            expected = array(second.inputs[name])
        except TensorError as error:
            with pytest.raises(type(error)):
                array(first.inputs[name])
            continue
        found = array(first.inputs[name])
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        if found.dtype == object:
            assert found.tolist() == expected.tolist()
        else:
            assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers(dtype: str, typed: bool) -> None:
    for shape in ((2, 3), (6,), (1, 1, 1), (0, 2), ()):
        value = np.arange(6).astype(dtype)[: int(np.prod(shape))].reshape(shape)
        message = request(typed=typed, x=value)
        data = message.SerializeToString()
        same(read_request(data), request_of(message))
        assert array(read_request(data).inputs["x"]).tolist() == value.tolist()


def test_arrays_lie_where_engines_take_them() -> None:
    for typed in (True, False):
        data = request(typed=typed, x=np.arange(5000, dtype=np.float32)).SerializeToString()
        found = read_request(data).inputs["x"]
        assert isinstance(found, np.ndarray)
        assert found.ctypes.data % 64 == 0
        assert found.tolist() == list(range(5000))
        small = read_request(request(typed=typed, x=np.ones(5)).SerializeToString()).inputs["x"]
        assert isinstance(small, np.ndarray)
        assert small.flags.aligned


def test_strings_and_fewer_values_are_left_to_the_library() -> None:
    message = request(text=np.array([b"a", b"\xff"], dtype=object))
    few = message.inputs["few"]
    few.dtype = 1
    few.tensor_shape.dim.add(size=3)
    few.float_val.append(2)
    found = read_request(message.SerializeToString())
    same(found, request_of(message))
    assert array(found.inputs["few"]).tolist() == [2, 2, 2]


def test_no_model_spec_and_an_empty_one_differ() -> None:
    assert read_request(b"").model_spec is None
    made = messages.PredictRequest()
    made.model_spec.SetInParent()
    assert read_request(made.SerializeToString()).model_spec == messages.ModelSpec()


@pytest.mark.parametrize("again", [b"\x0a\x03\x0a\x01n", b"\x12\x05\x0a\x01x\x12\x00", b"\x28\x01"])
def test_what_stands_twice_and_what_nobody_knows(again: bytes) -> None:
    data = request(x=np.ones(2, np.float32)).SerializeToString() + again
    same(read_request(data), request_of(messages.PredictRequest.FromString(data)))


def test_what_is_no_message() -> None:
    for data in (b"\xff", b"\x12\x7f", b"\x0b", b"\x12\x03\x0a\x01\xff"):
        with pytest.raises(DecodeError):
            read_request(data)


def test_a_known_field_without_a_meaning_here_must_be_right() -> None:
    data = request(x=np.ones(1, np.float32)).SerializeToString()
    assert read_request(data + b"\x3a\x00").inputs.keys() == {"x"}
    with pytest.raises(DecodeError):
        read_request(data + b"\x3a\x01\x0f")


@settings(max_examples=1500, deadline=None)
@given(
    value=st.sampled_from(
        [np.ones((2, 2), np.float32), np.arange(3), np.array([b"ab"], object), np.float64(1)]
    ),
    typed=st.booleans(),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
    junk=st.binary(max_size=12),
)
def test_damaged_messages_mean_what_the_library_says(
    value: Any, typed: bool, changes: list[tuple[int, int]], junk: bytes
) -> None:
    data = bytearray(request(typed=typed, x=value, y=np.ones(1, np.float32)).SerializeToString() + junk)
    for place, byte in changes:
        data[place % len(data)] = byte
    try:
        expected = request_of(messages.PredictRequest.FromString(bytes(data)))
    except DecodeError:
        with pytest.raises(DecodeError):
            read_request(bytes(data))
        return
    same(read_request(bytes(data)), expected)


@pytest.mark.parametrize("typed", [True, False])
def test_replies_are_what_the_library_writes(typed: bool) -> None:
    spec = messages.ModelSpec(name="m", signature_name="s")
    spec.version.value = 0
    outputs = {dtype: np.arange(6).astype(dtype).reshape(2, 3) for dtype in DTYPES}
    outputs |= {
        "large": np.array([2**63], np.uint64),
        "negative": np.array([-1, 300], np.int64),
        "scalar": np.array(2, np.float32),
        "empty": np.zeros((0, 2), np.float32),
        "strings": np.array([[b"a", "ü"]], dtype=object),
        "backwards": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "big endian": np.arange(3, dtype=">f4"),
    }
    expected = messages.PredictResponse(model_spec=spec)
    for name, value in outputs.items():
        write_array(expected.outputs[name], value, typed=typed)
    written = write_response(spec, outputs.items(), typed=typed)
    assert messages.PredictResponse.FromString(written) == expected


def test_what_cannot_be_written() -> None:
    with pytest.raises(TensorError):
        write_response(messages.ModelSpec(), [("x", np.array(["2020"], "datetime64[Y]"))])


ARRAYS = {
    "x": np.arange(6, dtype=np.float32).reshape(2, 3),
    "ids": np.array([1, -2], dtype=np.int64),
    "names": np.array([b"a", b""], dtype=object),
    "none": np.empty((0, 2), dtype=np.uint8),
}


def test_requests_are_what_the_library_reads() -> None:
    spec = messages.ModelSpec(name="m", signature_name="s")
    spec.version.value = 7
    data = write_request(spec, ARRAYS, ["y", "z"])
    message = messages.PredictRequest.FromString(data)
    assert (message.model_spec, list(message.output_filter)) == (spec, ["y", "z"])
    assert {name: to_array(message.inputs[name]).tolist() for name in message.inputs} == {
        name: value.tolist() for name, value in ARRAYS.items()
    }
    same(read_request(data), request_of(message))


@pytest.mark.parametrize("typed", [True, False])
def test_replies_are_read_as_the_library_does(typed: bool) -> None:
    message = messages.PredictResponse(model_spec=messages.ModelSpec(name="m"))
    for name, value in ARRAYS.items():
        write_array(message.outputs[name], value, typed=typed)
    found = read_response(message.SerializeToString())
    assert {name: array(value).tolist() for name, value in found.items()} == {
        name: value.tolist() for name, value in ARRAYS.items()
    }
    assert isinstance(found["x"], np.ndarray)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_replies_mean_what_the_library_says(data: st.DataObject) -> None:
    good = bytearray(write_response(messages.ModelSpec(name="m"), ARRAYS.items()))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    bad = bytes(good)
    try:
        message = messages.PredictResponse.FromString(bad)
    except DecodeError:
        return
    found = read_response(bad)
    same(
        Request(None, found, [], len(bad)),
        Request(None, dict(message.outputs), [], len(bad)),
    )
