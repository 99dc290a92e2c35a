"""Tensor element types: their numbers on the wire, their names in error texts, their numpy twins."""

from __future__ import annotations

from contextlib import suppress
from enum import IntEnum
from functools import lru_cache
from importlib import import_module
from typing import NamedTuple

import numpy as np

from serval_serving.wire.errors import UnsupportedDtypeError


class DataType(IntEnum):
    """Values of `tensorflow.DataType` that can appear in requests, replies and signatures."""

    DT_INVALID = 0
    DT_FLOAT = 1
    DT_DOUBLE = 2
    DT_INT32 = 3
    DT_UINT8 = 4
    DT_INT16 = 5
    DT_INT8 = 6
    DT_STRING = 7
    DT_COMPLEX64 = 8
    DT_INT64 = 9
    DT_BOOL = 10
    DT_QINT8 = 11
    DT_QUINT8 = 12
    DT_QINT32 = 13
    DT_BFLOAT16 = 14
    DT_QINT16 = 15
    DT_QUINT16 = 16
    DT_UINT16 = 17
    DT_COMPLEX128 = 18
    DT_HALF = 19
    DT_RESOURCE = 20
    DT_VARIANT = 21
    DT_UINT32 = 22
    DT_UINT64 = 23


class Codec(NamedTuple):
    """How one element type travels.

    Attributes
    ----------
    numpy:
        Name of the numpy type of an element.
    field:
        The typed field of TensorProto that holds its values.
    number:
        That field's number.
    varint:
        True where the field's values are varints, False where they are little-endian raw numbers.
    """

    numpy: str
    field: str
    number: int
    varint: bool


_FIXED = False
_VARINT = True

_CODECS: dict[int, Codec] = {
    DataType.DT_FLOAT: Codec("float32", "float_val", 5, _FIXED),
    DataType.DT_DOUBLE: Codec("float64", "double_val", 6, _FIXED),
    DataType.DT_INT32: Codec("int32", "int_val", 7, _VARINT),
    DataType.DT_UINT8: Codec("uint8", "int_val", 7, _VARINT),
    DataType.DT_INT16: Codec("int16", "int_val", 7, _VARINT),
    DataType.DT_INT8: Codec("int8", "int_val", 7, _VARINT),
    DataType.DT_UINT16: Codec("uint16", "int_val", 7, _VARINT),
    DataType.DT_COMPLEX64: Codec("complex64", "scomplex_val", 9, _FIXED),
    DataType.DT_INT64: Codec("int64", "int64_val", 10, _VARINT),
    DataType.DT_BOOL: Codec("bool", "bool_val", 11, _VARINT),
    DataType.DT_COMPLEX128: Codec("complex128", "dcomplex_val", 12, _FIXED),
    DataType.DT_HALF: Codec("float16", "half_val", 13, _VARINT),
    DataType.DT_BFLOAT16: Codec("bfloat16", "half_val", 13, _VARINT),
    DataType.DT_UINT32: Codec("uint32", "uint32_val", 16, _VARINT),
    DataType.DT_UINT64: Codec("uint64", "uint64_val", 17, _VARINT),
}

_BY_NUMPY: dict[str, DataType] = {codec.numpy: DataType(value) for value, codec in _CODECS.items()}


def codec_of(dtype: int) -> Codec:
    """How numbers of this type travel.

    Raises
    ------
    UnsupportedDtypeError
        The type is unknown, holds no numbers, or has no numpy twin.
    """
    codec = _CODECS.get(dtype)
    if codec is None:
        raise UnsupportedDtypeError(f"tensors of type {dtype_name(dtype)} are not supported")
    return codec


def numpy_dtype(dtype: int) -> np.dtype[np.generic]:
    """The numpy type of an element; object for strings, whose elements are `bytes`.

    numpy has no `bfloat16` of its own: ml_dtypes, which comes with TensorFlow, adds it.

    Raises
    ------
    UnsupportedDtypeError
        There is none.
    """
    if dtype == DataType.DT_STRING:
        return np.dtype(object)
    name = codec_of(dtype).numpy
    if dtype == DataType.DT_BFLOAT16:
        with suppress(ImportError):
            import_module("ml_dtypes")
    try:
        return np.dtype(name)
    except TypeError:
        raise UnsupportedDtypeError(f"numpy knows no {name} in this process") from None


def dtype_of(array: np.ndarray) -> DataType:
    """The wire's type for a numpy array; object, bytes and str arrays are strings.

    Raises
    ------
    UnsupportedDtypeError
        There is none, for instance for dates.
    """
    return _of(array.dtype)


@lru_cache(maxsize=256)
def _of(dtype: np.dtype[np.generic]) -> DataType:
    """The same by numpy's type, of which there are few; numpy spells its name anew each time, for 30 us."""
    if dtype.kind in "OSU":
        return DataType.DT_STRING
    found = _BY_NUMPY.get(dtype.name)
    if found is None:
        raise UnsupportedDtypeError(f"arrays of type {dtype} cannot be sent")
    return found


def dtype_name(dtype: int) -> str:
    """The name that TensorFlow prints in error texts: `float`, `int32`, `string`, ..."""
    try:
        return DataType(dtype).name.removeprefix("DT_").lower()
    except ValueError:
        return f"unknown dtype enum ({dtype})"
