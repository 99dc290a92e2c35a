"""PredictRequest and PredictResponse between bytes and arrays, without copies of large tensors on the way.

The protobuf library copies the numbers of a tensor four to six times between a request's bytes, an array and
a reply's bytes; for an image of 600 KB that costs more CPU time than all the rest of a request. Here they are
copied once on each way.

What is out of the ordinary (fields that stand twice, values that are fewer than elements, strings) is left to
the library, tensor by tensor or as a whole, so that nothing means anything else here than there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np

from serval_serving.wire import messages
from serval_serving.wire.dtypes import DataType, codec_of, dtype_of, numpy_dtype
from serval_serving.wire.errors import TensorError
from serval_serving.wire.field_budget import TOO_MANY, Left, any_time, parse
from serval_serving.wire.status import invalid
from serval_serving.wire.tensors import packed_values, string_values, varint
from serval_serving.wire.wire_format import BYTES, FIXED_BYTES, VARINT, read_varint

Input = np.ndarray | messages.TensorProto
"""A tensor of a message: its array, or the message where the library must read it."""

_LONGEST_VARINT: Final = 9
"""Bytes; a longer number, such as a negative one, is left to the library."""
_MAX_DIMENSIONS: Final = 16
_LONGEST_DIMENSION: Final = 256
"""Bytes of one dimension, which may have a name."""
_MAX_FIELDS: Final = 10_000
"""Fields of a request beside those of its tensors: inputs and names of outputs."""
_CONTENT: Final = 4
_CONTENT_TAG: Final = _CONTENT << 3 | BYTES
_DTYPE: Final = 1
_SHAPE: Final = 2
_ALIGNMENT: Final = 64
_SMALL: Final = 4096
_LARGEST_NUMBER: Final = (1 << 29) - 1
_OTHERS: Final = frozenset(one.number for one in messages.PredictRequest.DESCRIPTOR.fields) - {1, 2, 3}
"""Fields of a PredictRequest that mean nothing here, but must be right."""


class Request(NamedTuple):
    """A PredictRequest.

    Attributes
    ----------
    model_spec:
        None where the request has none.
    inputs:
        The tensors by name.
    output_filter:
        Names of the outputs that are wanted.
    size:
        Bytes of the message.
    """

    model_spec: messages.ModelSpec | None
    inputs: dict[str, Input]
    output_filter: list[str]
    size: int


class _UnusualError(Exception):
    """Bytes that the library must read, or refuse."""


def read_request(data: bytes, left: Left = any_time) -> Request:
    """Read the bytes of a PredictRequest; what the library must read waits for its turn.

    Raises
    ------
    google.protobuf.message.DecodeError
        They are none.
    StatusError
        INVALID_ARGUMENT: they have too many fields; DEADLINE_EXCEEDED: the turn did not come in time.
    """
    try:
        return _read(data, left)
    except (_UnusualError, IndexError, UnicodeDecodeError):
        return request_of(parse(messages.PredictRequest, data, left))


def request_of(message: messages.PredictRequest) -> Request:
    """Take a message apart."""
    spec = message.model_spec if message.HasField("model_spec") else None
    return Request(spec, dict(message.inputs), list(message.output_filter), message.ByteSize())


def write_response(
    model_spec: messages.ModelSpec, outputs: Iterable[tuple[str, np.ndarray]], *, typed: bool = True
) -> bytes:
    """Write the bytes of a PredictResponse.

    Parameters
    ----------
    model_spec:
        What answered.
    outputs:
        Arrays by name.
    typed:
        Use the typed fields (`float_val` and its like), else `tensor_content`. Strings are always typed.

    Raises
    ------
    TensorError
        An array cannot be sent.
    """
    spec = model_spec.SerializeToString()
    return b"".join((b"\x12", varint(len(spec)), spec, *_tensors(b"\x0a", outputs, typed=typed)))


def write_request(
    model_spec: messages.ModelSpec, inputs: Mapping[str, np.ndarray], output_filter: Iterable[str]
) -> bytes:
    """Write the bytes of a PredictRequest. Numbers go into `tensor_content`.

    Raises
    ------
    TensorError
        An array cannot be sent.
    """
    spec = model_spec.SerializeToString()
    parts = [b"\x0a", varint(len(spec)), spec, *_tensors(b"\x12", inputs.items(), typed=False)]
    for name in output_filter:
        key = name.encode()
        parts += (b"\x1a", varint(len(key)), key)
    return b"".join(parts)


def read_response(data: bytes) -> dict[str, Input]:
    """Read the outputs of a PredictResponse by name.

    Raises
    ------
    google.protobuf.message.DecodeError
        The bytes are none.
    """
    try:
        return dict(_outputs(data))
    except (_UnusualError, IndexError, UnicodeDecodeError):
        return dict(messages.PredictResponse.FromString(data).outputs)


def _tensors(
    tag: bytes, arrays: Iterable[tuple[str, np.ndarray]], *, typed: bool
) -> Iterator[bytes | memoryview]:
    """Write the parts of a map of tensors by name; the tag is that of the map's field."""
    for name, array in arrays:
        key = name.encode()
        tensor = _tensor(array, typed=typed)
        size = sum(map(len, tensor))
        head = b"".join((b"\x0a", varint(len(key)), key, b"\x12", varint(size)))
        yield from (tag, varint(len(head) + size), head, *tensor)


def _tensor(array: np.ndarray, *, typed: bool) -> list[bytes | memoryview]:
    """Write the parts of a TensorProto."""
    dtype = dtype_of(array)
    dims = b"".join(b"\x12" + varint(len(dim)) + dim for dim in (b"\x08" + varint(n) for n in array.shape))
    parts: list[bytes | memoryview] = [b"\x08", varint(dtype), b"\x12", varint(len(dims)), dims]
    if dtype == DataType.DT_STRING:
        for value in string_values(array):
            parts += (b"\x42", varint(len(value)), value)
        return parts
    raw = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if not array.size:
        return parts
    codec = codec_of(dtype)
    values = packed_values(raw, codec) if typed else raw.reshape(-1).view(np.uint8).data
    tag = codec.number << 3 | BYTES if typed else _CONTENT_TAG
    parts += (varint(tag), varint(len(values)), values)
    return parts


def _read(data: bytes, left: Left) -> Request:
    """Read an ordinary request."""
    spec: messages.ModelSpec | None = None
    inputs: dict[str, Input] = {}
    wanted: list[str] = []
    for count, (number, kind, value, end) in enumerate(_fields(data, 0, len(data))):
        if count >= _MAX_FIELDS:
            raise invalid(TOO_MANY % _MAX_FIELDS)
        if number > 3 and number not in _OTHERS:
            continue
        if kind != BYTES or number in _OTHERS:
            raise _UnusualError
        if number == 1:
            if spec is not None:
                raise _UnusualError
            spec = messages.ModelSpec.FromString(data[value:end])
        elif number == 2:
            name, tensor = _entry(data, value, end, left)
            inputs[name] = tensor
        else:
            wanted.append(data[value:end].decode())
    return Request(spec, inputs, wanted, len(data))


def _outputs(data: bytes) -> Iterator[tuple[str, Input]]:
    """Read the outputs of an ordinary response."""
    for number, kind, value, end in _fields(data, 0, len(data)):
        if number == 1:
            if kind != BYTES:
                raise _UnusualError
            yield _entry(data, value, end)


def _entry(data: bytes, start: int, end: int, left: Left = any_time) -> tuple[str, Input]:
    """Read one entry of a map of tensors; a later one of the same name takes its place, as in any map."""
    name: str | None = None
    place: tuple[int, int] | None = None
    for number, kind, value, stop in _fields(data, start, end):
        if kind != BYTES or number > 2 or (name if number == 1 else place) is not None:
            raise _UnusualError
        if number == 1:
            name = data[value:stop].decode()
        else:
            place = (value, stop)
    if name is None or place is None:
        raise _UnusualError
    array = _array(data, *place)
    if array is None:
        return name, parse(messages.TensorProto, data[slice(*place)], left)
    return name, array


def _array(data: bytes, start: int, end: int) -> np.ndarray | None:
    """Read a TensorProto with all of its numbers in one piece; None for any other."""
    dtype: int | None = None
    shape: list[int] | None = None
    values: tuple[int, int, int] | None = None
    for number, kind, value, stop in _fields(data, start, end):
        if number == _DTYPE and kind == VARINT and dtype is None:
            dtype = value
        elif number == _SHAPE and kind == BYTES and shape is None:
            shape = _shape(data, value, stop)
        elif kind == BYTES and values is None:
            values = (number, value, stop)
        else:
            return None
    if dtype is None or shape is None or values is None:
        return None
    return _view(data, dtype, shape, *values)


def _view(data: bytes, dtype: int, shape: list[int], field: int, start: int, end: int) -> np.ndarray | None:
    """View the numbers where they are, if they are exactly as many as the shape has elements."""
    try:
        codec, kind = codec_of(dtype), numpy_dtype(dtype)
    except TensorError:
        return None
    if field != _CONTENT and (codec.varint or field != codec.number):
        return None
    count = math.prod(shape)
    if count == 0 or end - start != count * kind.itemsize:
        return None
    return _aligned(np.frombuffer(data, kind.newbyteorder("<"), count, start)).reshape(shape)


def _aligned(flat: np.ndarray) -> np.ndarray:
    """Move numbers to where an engine can take them as they are.

    TensorFlow copies what does not begin at a multiple of 64 bytes, and numpy did so before if not even the
    elements are aligned.
    """
    if flat.nbytes < _SMALL:
        return flat if flat.flags.aligned else flat.copy()
    room = np.empty(flat.nbytes + _ALIGNMENT, dtype=np.uint8)
    offset = -room.ctypes.data % _ALIGNMENT
    moved = room[offset : offset + flat.nbytes].view(flat.dtype)
    moved[:] = flat
    return moved


def _shape(data: bytes, start: int, end: int) -> list[int]:
    """Read a TensorShapeProto of which the rank is known and no dimension negative."""
    sizes: list[int] = []
    for number, kind, value, stop in _fields(data, start, end):
        if number != _SHAPE or kind != BYTES:
            raise _UnusualError
        size = 0
        if stop - value > _LONGEST_DIMENSION or len(sizes) >= _MAX_DIMENSIONS:
            raise _UnusualError
        for inner, inner_kind, inner_value, _ in _fields(data, value, stop):
            if inner == 1 and inner_kind == VARINT:
                size = inner_value
        sizes.append(size)
    return sizes


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, value (a number, or where the bytes start) and end of each field."""
    while position < end:
        tag, position = read_varint(data, position, _LONGEST_VARINT)
        kind = tag & 7
        number = tag >> 3
        value, stop = position, position
        if kind == VARINT:
            value, stop = read_varint(data, position, _LONGEST_VARINT)
        elif kind == BYTES:
            size, value = read_varint(data, position, _LONGEST_VARINT)
            stop = value + size
        elif kind in FIXED_BYTES:
            stop = position + FIXED_BYTES[kind]
        else:
            raise _UnusualError
        if stop > end or not 0 < number <= _LARGEST_NUMBER:
            raise _UnusualError
        yield number, kind, value, stop
        position = stop
