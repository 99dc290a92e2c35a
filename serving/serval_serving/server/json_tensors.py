"""JSON values to tensors, as TensorFlow Serving's REST API has it (`json_tensor.cc`).

Numbers go through numpy at once. Where that fails the values are walked list by list, to find the words for
the fault. Both work in steps: between these other threads run, and the deadline is looked at. So a body
at fault costs about as much as one that is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import grpc
import numpy as np

from serval_serving.server.json_values import decoded, never, quoted, text_bytes, type_name
from serval_serving.server.lenient_json import PARSE_ERROR
from serval_serving.wire.dtypes import DataType, dtype_name, numpy_dtype
from serval_serving.wire.status import StatusError, invalid
from serval_serving.wire.tensors import MAX_RANK, MAX_STRINGS

Check = Callable[[], None]
"""Raises StatusError once the caller no longer waits."""

_STEP: Final = 1 << 13
"""Values that are converted before other threads may run: a fraction of a millisecond."""
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
_FLOATS = frozenset({DataType.DT_FLOAT, DataType.DT_DOUBLE, DataType.DT_HALF, DataType.DT_BFLOAT16})
_NUMBERS: Final = frozenset({int, float})
_TYPES: dict[int, frozenset[type]] = {
    DataType.DT_STRING: frozenset({str, dict}),
    DataType.DT_BOOL: frozenset({bool}),
    **dict.fromkeys(_FLOATS, _NUMBERS),
    **dict.fromkeys(_LIMITS, frozenset({int})),
}
"""What values of each type may be in Python."""


class RowError(StatusError):
    """A value that is not of the type, or lists of unequal length.

    Attributes
    ----------
    row:
        Index of the element of the outermost list in which it was found.
    """

    def __init__(self, error: StatusError, row: int) -> None:
        super().__init__(error.code, error.message)
        self.row = row


def to_array(value: Any, dtype: int, check: Check = never) -> np.ndarray:
    """Make an array of nested lists, or of one value; strings are text or `{"b64": ...}` objects.

    Raises
    ------
    RowError
        INVALID_ARGUMENT: lists of unequal length, or a value that is not of this type.
    StatusError
        UNIMPLEMENTED: the type has no JSON form; or what `check` raises.
    """
    if dtype not in _TYPES:
        while isinstance(value, list) and value:
            value = value[0]
        raise StatusError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {quoted(value)} to type: {dtype_name(dtype)}",
        )
    array = None if dtype in {DataType.DT_STRING, DataType.DT_BOOL} else _numbers(value, dtype, check)
    return _walked(value, dtype, check) if array is None else array


def _numbers(value: Any, dtype: int, check: Check = never) -> np.ndarray | None:
    """Convert numbers at once; None where numpy's own idea of the values is not that of the type."""
    if not _only_numbers(value, check):
        return None
    try:
        array = _joined(value, check)
    except (ValueError, OverflowError, IndexError):
        # numpy has an error of its own for a dimension too many.
        return None
    if array.size == 0:
        return array.astype(numpy_dtype(dtype))
    if dtype in _FLOATS:
        return _as_float(array, dtype)
    limits = _LIMITS[dtype]
    if array.dtype.kind not in "iu" or int(array.min()) < limits[0] or int(array.max()) > limits[1]:
        return None
    return array.astype(numpy_dtype(dtype))


def _only_numbers(value: Any, check: Check) -> bool:
    """Whether all values are numbers; numpy would take a bool for 0 or 1, and make strings of all for one."""
    if not isinstance(value, list):
        return type(value) in _NUMBERS
    check()
    # A list of lists is looked into; in a list of numbers `set` of the types is quick.
    if value and isinstance(value[0], list):
        return all(_only_numbers(item, check) for item in value)
    return all(_NUMBERS.issuperset(map(type, part)) for part in _parts(value))


def _parts(values: list[Any]) -> Iterable[list[Any]]:
    """Cut a list into pieces of one step."""
    if len(values) <= _STEP:
        return (values,)
    return (values[start : start + _STEP] for start in range(0, len(values), _STEP))


def _joined(value: Any, check: Check) -> np.ndarray:
    """Make an array of nested lists of numbers, some rows at a time.

    Raises
    ------
    ValueError
        Lists are of unequal length.
    """
    size, inner = 1, value
    while isinstance(inner, list) and inner:
        size *= len(inner)
        inner = inner[0]
    if size <= _STEP:
        return np.array(value)
    check()
    rows = max(1, _STEP * len(value) // size)
    if rows == 1:
        parts = [_joined(row, check)[np.newaxis] for row in value]
    else:
        parts = []
        for start in range(0, len(value), rows):
            check()
            parts.append(np.array(value[start : start + rows]))
    return np.concatenate(parts)


def _as_float(array: np.ndarray, dtype: int) -> np.ndarray | None:
    """Convert to a floating type."""
    if array.dtype.kind not in "iuf":
        return None
    # Through double precision, as everywhere else: rounding twice is not rounding once.
    with np.errstate(over="ignore"):
        return array.astype(np.float64).astype(numpy_dtype(dtype))


def _walked(value: Any, dtype: int, check: Check = never) -> np.ndarray:
    """Convert list by list, with TensorFlow Serving's words for faults."""
    shape: list[int] = []
    inner = value
    while isinstance(inner, list):
        shape.append(len(inner))
        if not inner:
            break
        inner = inner[0]
    if len(shape) > MAX_RANK:
        raise invalid(f"Encountered list at unexpected level: {len(shape)} expected < {MAX_RANK}")
    walk = _Walk(dtype, shape, check)
    walk.add(value, 0)
    return walk.array()


class _Walk:
    """A walk through nested lists.

    Parameters
    ----------
    dtype:
        What their values must be.
    shape:
        The length of the first list at each level.
    check:
        Looks at the deadline.
    """

    def __init__(self, dtype: int, shape: list[int], check: Check) -> None:
        self._dtype = dtype
        self._shape = shape
        self._check = check
        self._arrays: list[np.ndarray] = []
        self._row = 0
        self._count = 0

    def array(self) -> np.ndarray:
        """Return all values that were found."""
        kind = np.dtype(object) if self._dtype == DataType.DT_STRING else numpy_dtype(self._dtype)
        found = np.concatenate(self._arrays) if self._arrays else np.empty(0, kind)
        return found.reshape(self._shape)

    def add(self, value: Any, level: int) -> None:
        """Take the values below one list, checking its length and depth.

        Raises
        ------
        RowError
            It is not as the first one, or a value is not of the type.
        """
        rank = len(self._shape)
        if not isinstance(value, list):
            if level != rank:
                raise self._error(
                    f"JSON Value: {quoted(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                    f"Expected at level: {rank}"
                )
            self._take([value], None)
            return
        if level >= rank:
            raise self._error(f"Encountered list at unexpected level: {level} expected < {rank}")
        if len(value) != self._shape[level]:
            raise self._error(
                f"Encountered list at unexpected size: {len(value)} at level: {level} "
                f"expected size: {self._shape[level]}"
            )
        self._check()
        if level == rank - 1:
            self._add_values(value, level)
            return
        for index, item in enumerate(value):
            if level == 0:
                self._row = index
            self.add(item, level + 1)

    def _add_values(self, values: list[Any], level: int) -> None:
        """Take the values of an innermost list."""
        row = 0
        for part in _parts(values):
            self._check()
            allowed = _TYPES[self._dtype]
            strange = None
            if not allowed.issuperset(map(type, part)):
                strange = next(index for index, value in enumerate(part) if type(value) not in allowed)
            self._take(part if strange is None else part[:strange], row if level == 0 else None)
            if strange is not None:
                if level == 0:
                    self._row = row + strange
                self.add(part[strange], level + 1)
            row += len(part)

    def _take(self, values: list[Any], row: int | None) -> None:
        """Convert values whose types are right; `row` is the first one's, where each is a row."""
        array, wrong = _converted(values, self._dtype)
        if wrong is not None:
            if row is not None:
                self._row = row + wrong
            try:
                _scalar(values[wrong], self._dtype)
            except StatusError as error:
                raise RowError(error, self._row) from error
        self._count += len(values)
        if self._dtype == DataType.DT_STRING and self._count > MAX_STRINGS:
            raise self._error(f"{self._count} strings are more than {MAX_STRINGS}")
        self._arrays.append(array)

    def _error(self, message: str) -> RowError:
        """Make the error for a fault at this place."""
        return RowError(invalid(message), self._row)


def _converted(values: list[Any], dtype: int) -> tuple[np.ndarray, int | None]:
    """Convert values of the right types. The second value is the index of the first that does not fit."""
    if dtype == DataType.DT_STRING or not _TYPES[dtype].issuperset(map(type, values)):
        return _objects(values, dtype)
    if dtype in _FLOATS:
        return _floats(values, dtype)
    if dtype == DataType.DT_BOOL:
        return np.array(values, dtype=bool), None
    low, high = _LIMITS[dtype]
    if values and not (low <= min(values) and max(values) <= high):
        wrong = next(index for index, value in enumerate(values) if not low <= value <= high)
        return np.empty(0), wrong
    travels = np.int32 if _LIMITS[dtype] == _LIMITS[DataType.DT_INT32] else numpy_dtype(dtype)
    return np.array(values, dtype=travels).astype(numpy_dtype(dtype)), None


def _floats(values: list[Any], dtype: int) -> tuple[np.ndarray, int | None]:
    """Convert numbers to a floating type."""
    try:
        wide = np.array(values, dtype=np.float64)
    except OverflowError:
        return np.empty(0), next(index for index, value in enumerate(values) if not _is_double(value))
    with np.errstate(over="ignore"):
        return wide.astype(numpy_dtype(dtype)), None


def _is_double(value: float) -> bool:
    """Whether double precision holds a number; integers may be longer than any floating type."""
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _objects(values: list[Any], dtype: int) -> tuple[np.ndarray, int | None]:
    """Convert strings, or find the first value that is of another type."""
    out = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        try:
            out[index] = _scalar(value, dtype)
        except StatusError:
            return out, index
    return out, None


def _scalar(value: Any, dtype: int) -> Any:
    """Check one value.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: it is not of the type.
    """
    if type(value) not in _TYPES[dtype]:
        raise invalid(
            f"JSON Value: {quoted(value)} Type: {type_name(value)} is not of expected type: "
            f"{dtype_name(dtype)}"
        )
    if dtype == DataType.DT_STRING:
        return decoded(value) if isinstance(value, dict) else text_bytes(value)
    if dtype in _FLOATS and not _is_double(value):
        raise invalid(f"{PARSE_ERROR}: Number too big to be stored in double.")
    if dtype in _LIMITS and not _LIMITS[dtype][0] <= value <= _LIMITS[dtype][1]:
        raise invalid(
            f"JSON Value: {quoted(value)} Type: {type_name(value)} is not of expected type: "
            f"{dtype_name(dtype)}"
        )
    return value
