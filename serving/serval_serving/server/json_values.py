"""JSON to tensors and back, as TensorFlow Serving's REST API has it (`json_tensor.cc`).

Numbers go through numpy at once; only where that fails are the values walked one by one, to find the words
for what is wrong.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import orjson

from serval_serving.wire.dtypes import DataType, dtype_name, numpy_dtype
from serval_serving.wire.status import StatusError, invalid
from serval_serving.wire.tensors import MAX_RANK

B64 = "b64"
BYTES_SUFFIX = "_bytes"
"""Outputs whose names end so hold bytes, which travel as base64."""

_MAX_QUOTED = 200
_INT32 = np.iinfo(np.int32)
_LIMITS: dict[int, tuple[int, int]] = {
    # Small integers travel as int32 and wrap, as in the typed field of a TensorProto.
    DataType.DT_INT32: (_INT32.min, _INT32.max),
    DataType.DT_INT16: (_INT32.min, _INT32.max),
    DataType.DT_INT8: (_INT32.min, _INT32.max),
    DataType.DT_UINT8: (_INT32.min, _INT32.max),
    DataType.DT_UINT16: (_INT32.min, _INT32.max),
    DataType.DT_INT64: (-(2**63), 2**63 - 1),
    DataType.DT_UINT32: (0, 2**32 - 1),
    DataType.DT_UINT64: (0, 2**64 - 1),
}
_FLOATS: dict[int, tuple[str, int]] = {
    # The name in error texts, and the largest integer that the type holds exactly.
    DataType.DT_FLOAT: ("float", 2**24 - 1),
    DataType.DT_DOUBLE: ("double", 2**53 - 1),
    DataType.DT_HALF: ("half", 2**11 - 1),
    DataType.DT_BFLOAT16: ("bfloat16", 2**8 - 1),
}


def parse(body: bytes) -> dict[str, Any]:
    """Read a request's body, which must be a JSON object. NaN and Infinity are numbers.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: it is no JSON, or no object.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _parse_with_nan(body, error)
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {quoted(document)} Is not object")
    return document


def to_array(value: Any, dtype: int) -> np.ndarray:
    """Make an array of nested lists, or of one value; strings are text or `{"b64": ...}` objects.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: lists of unequal length, or a value that is not of this type.
    """
    if dtype in {DataType.DT_STRING, DataType.DT_BOOL}:
        return _walked(value, dtype)
    if dtype not in _FLOATS and dtype not in _LIMITS:
        while isinstance(value, list) and value:
            value = value[0]
        raise StatusError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {quoted(value)} to type: {dtype_name(dtype)}",
        )
    array = _numbers(value, dtype)
    return _walked(value, dtype) if array is None else array


def is_b64(value: Any) -> bool:
    """Whether a value is an object that stands for bytes."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(B64), str)


def quoted(value: Any) -> str:
    """Spell a value for an error text, cut to a reasonable length."""
    text = ""
    for part in json.JSONEncoder(indent=4).iterencode(value):
        text += part
        if len(text) > _MAX_QUOTED:
            return text[:_MAX_QUOTED] + "..."
    return text


def type_name(value: Any) -> str:
    """Name the JSON type of a value."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    for kind, name in ((dict, "Object"), (list, "Array"), (str, "String")):
        if isinstance(value, kind):
            return name
    return "Number"


def dump(document: Any) -> bytes:
    """Write JSON. Arrays of numpy may stand anywhere in it; NaN and infinities are written as such."""
    try:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise StatusError(grpc.StatusCode.INTERNAL, f"a reply cannot be written as JSON: {error}") from error


def dump_exact(document: Any) -> bytes:
    """Write JSON without numpy in it, in which NaN and infinities may stand."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def writable(name: str, array: np.ndarray) -> Any:
    """Turn an output into what `dump` writes: an array as it is, a scalar as one value, strings as lists.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: the type has no JSON form.
    """
    kind = array.dtype.kind
    if kind in "OSU":
        return _strings(array, as_bytes=name.endswith(BYTES_SUFFIX))
    if array.dtype.name == "bfloat16":
        return writable(name, array.astype(np.float32))
    if kind not in "biuf":
        raise invalid(f"Failed to write JSON value for tensor type: {array.dtype}")
    return np.ascontiguousarray(array) if array.ndim else plain(array)


def finite(values: Any) -> bool:
    """Whether JSON proper can hold an output."""
    if isinstance(values, np.ndarray):
        return values.dtype.kind != "f" or bool(np.isfinite(values).all())
    return not isinstance(values, float) or math.isfinite(values)


def plain(values: Any) -> Any:
    """Turn an output into plain Python values; floats keep the digits of their own precision."""
    if not isinstance(values, np.ndarray):
        return values
    if values.dtype.kind == "f" and values.dtype != np.float64:
        # Widened as they are, 0.2 in single precision would become 0.20000000298023224.
        return values.astype("U32").astype(np.float64).tolist()
    return values.tolist()


def _parse_with_nan(body: bytes, error: orjson.JSONDecodeError) -> Any:
    """Read a body that the strict parser refused: it may hold NaN or Infinity."""
    if b"NaN" not in body and b"Infinity" not in body:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as second:
        raise invalid(f"JSON Parse error: {second}") from second


def _numbers(value: Any, dtype: int) -> np.ndarray | None:
    """Convert numbers at once; None where numpy's own idea of the values is not that of the type."""
    if isinstance(value, (str, dict)) or value is None or _has_bool(value):
        return None
    try:
        array = np.array(value)
    except (ValueError, OverflowError):
        return None
    if array.size == 0:
        return array.astype(numpy_dtype(dtype))
    if dtype in _FLOATS:
        return _as_float(array, dtype)
    limits = _LIMITS.get(dtype)
    if limits is None or array.dtype.kind not in "iu":
        return None
    if int(array.min()) < limits[0] or int(array.max()) > limits[1]:
        return None
    return array.astype(numpy_dtype(dtype))


def _as_float(array: np.ndarray, dtype: int) -> np.ndarray | None:
    """Convert to a floating type, unless a value does not fit."""
    if array.dtype.kind not in "iuf":
        return None
    # Among floats numpy has made integers floats; one that is too large must still be found.
    suspects = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    largest = _FLOATS[dtype][1]
    if suspects.size and (suspects.max() > largest or suspects.min() < -largest):
        return None
    with np.errstate(over="ignore"):
        return array.astype(numpy_dtype(dtype))


def _has_bool(value: Any) -> bool:
    """Whether a bool stands among numbers; numpy would take it for 0 or 1."""
    if isinstance(value, list):
        # A list of lists is looked into; in a list of numbers `set` of the types is quick.
        if value and isinstance(value[0], list):
            return any(_has_bool(item) for item in value)
        return bool in set(map(type, value))
    return isinstance(value, bool)


def _walked(value: Any, dtype: int) -> np.ndarray:
    """Convert value by value, with the words of TensorFlow Serving for what is wrong."""
    shape: list[int] = []
    inner = value
    while isinstance(inner, list):
        shape.append(len(inner))
        if not inner:
            break
        inner = inner[0]
    if len(shape) > MAX_RANK:
        raise invalid(f"Encountered list at unexpected level: {len(shape)} expected < {MAX_RANK}")
    flat: list[Any] = []
    _walk(value, 0, shape, dtype, flat)
    out = np.empty(len(flat), dtype=object)
    out[:] = flat
    if dtype == DataType.DT_STRING:
        return out.reshape(shape)
    if _LIMITS.get(dtype) == _LIMITS[DataType.DT_INT32]:
        return out.astype(np.int32).astype(numpy_dtype(dtype)).reshape(shape)
    return out.astype(numpy_dtype(dtype)).reshape(shape)


def _walk(value: Any, level: int, shape: list[int], dtype: int, flat: list[Any]) -> None:
    """Collect the values below one list, checking its length and depth."""
    rank = len(shape)
    if not isinstance(value, list):
        if level != rank:
            raise invalid(
                f"JSON Value: {quoted(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {rank}"
            )
        flat.append(_scalar(value, dtype))
        return
    if level >= rank:
        raise invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    for item in value:
        _walk(item, level + 1, shape, dtype, flat)


def _scalar(value: Any, dtype: int) -> Any:
    """Check one value."""
    if isinstance(value, dict) and dtype == DataType.DT_STRING:
        return decoded(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if dtype == DataType.DT_STRING and isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if dtype == DataType.DT_BOOL and isinstance(value, bool):
        return value
    if dtype in _FLOATS and number:
        return _checked_float(value, dtype)
    if dtype in _LIMITS and number and isinstance(value, int):
        low, high = _LIMITS[dtype]
        if low <= value <= high:
            return value
    raise invalid(
        f"JSON Value: {quoted(value)} Type: {type_name(value)} is not of expected type: {dtype_name(dtype)}"
    )


def _checked_float(value: float, dtype: int) -> float:
    """Check that a floating type holds a number."""
    name, largest = _FLOATS[dtype]
    fits = abs(value) <= largest if isinstance(value, int) else _fits(value, dtype)
    if not fits:
        raise lossy(value, name)
    return float(value)


def lossy(value: float, name: str) -> StatusError:
    """Make the error for a number that a floating type does not hold."""
    return invalid(f"Cannot convert JSON value: {quoted(value)} to {name} without loss of precision.")


def _fits(value: float, dtype: int) -> bool:
    """Whether a float stays finite in a narrower type."""
    with np.errstate(over="ignore"):
        return not (np.isfinite(value) and np.isinf(np.float64(value).astype(numpy_dtype(dtype))))


def decoded(value: Mapping[str, Any]) -> bytes:
    """Decode bytes that came as base64; padding may be missing.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: the value is no object for it, or no base64.
    """
    if not is_b64(value):
        raise invalid(f"JSON Value: {quoted(value)} not formatted correctly for base64 data")
    text = value[B64].strip()
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _strings(array: np.ndarray, *, as_bytes: bool) -> Any:
    """Write strings as text, or as base64 where the name asks for it or they are no UTF-8."""

    def spelled(value: Any) -> Any:
        if isinstance(value, list):
            return [spelled(item) for item in value]
        data = value if isinstance(value, bytes) else str(value).encode()
        if not as_bytes:
            try:
                return data.decode()
            except UnicodeDecodeError:
                pass
        return {B64: base64.b64encode(data).decode("ascii")}

    return spelled(array.tolist())
