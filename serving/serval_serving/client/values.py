"""Python values to tensors, and to and from the JSON of the REST API."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

Value = np.ndarray[Any, Any] | bytes | str | float | Sequence[Any]
"""What a client accepts for one input."""

B64: Final = "b64"
_INT32: Final = np.iinfo(np.int32)


def as_array(value: Value) -> np.ndarray[Any, Any]:
    """Return `value` as the array that is sent.

    An array goes as it is. Bytes or text become a batch of one string. Lists become what TensorFlow would
    make of them: strings, float32, or int32 where the numbers fit, else int64.

    Raises
    ------
    ValueError
        If nested lists have different lengths.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, bytes | str):
        value = [value]
    if _holds_strings(value):
        # Not numpy's own string type: it cuts zeros off the end of bytes.
        return _object_array(value)
    array = np.asarray(value)
    if array.dtype == np.float64:
        return array.astype(np.float32)
    if array.dtype == np.int64 and (array.size == 0 or _fits_int32(array)):
        return array.astype(np.int32)
    return array


def jsonable(value: Any) -> Any:
    """Return `value` with arrays as lists and bytes as the REST API's ``{"b64": ...}``."""
    if isinstance(value, bytes):
        return {B64: base64.b64encode(value).decode("ascii")}
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, Mapping):
        return {key: jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(inner) for inner in value]
    return value


def array_of_json(value: Any) -> np.ndarray[Any, Any]:
    """Return nested lists of JSON as an array; ``{"b64": ...}`` becomes bytes.

    Raises
    ------
    ValueError
        If nested lists have different lengths, or a string is no base64.
    """
    plain = _without_b64(value)
    return _object_array(plain) if _holds_strings(plain) else np.asarray(plain)


def _without_b64(value: Any) -> Any:
    if isinstance(value, Mapping):
        return base64.b64decode(value[B64])
    if isinstance(value, list):
        return [_without_b64(inner) for inner in value]
    return value


def _holds_strings(value: Any) -> bool:
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return isinstance(value, bytes | str)


def _object_array(value: Any) -> np.ndarray[Any, Any]:
    """Return nested lists of strings as an array of objects."""
    array = np.array(value, dtype=object)
    if not all(isinstance(element, bytes | str) for element in array.flat):
        raise ValueError("lists of strings must have one shape and hold nothing but strings")
    return array


def _fits_int32(array: np.ndarray[Any, Any]) -> bool:
    return bool(array.min() >= _INT32.min and array.max() <= _INT32.max)
