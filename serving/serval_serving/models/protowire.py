"""A reader of the protocol buffer wire format that needs no message definitions and copies nothing.

Reference: the "Encoding" chapter of the Protocol Buffers documentation. It is used where a message is large
and only a few small fields of it matter, and where loading a protobuf runtime would cost more than the work.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

Buffer = bytes | mmap.mmap

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5
_FIXED_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES: Final = 10
_UINT64: Final = 2**64


class WireError(ValueError):
    """The bytes are no well-formed protocol buffer, or have more fields than the reader will look at."""


@dataclass(frozen=True, slots=True)
class Span:
    """Part of a buffer: one length-delimited field, or the whole.

    Attributes
    ----------
    start:
        Offset of the first byte.
    end:
        Offset behind the last byte.
    """

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    Attributes
    ----------
    number:
        The field's number.
    value:
        The unsigned number of a varint, the place of a length-delimited field, or None for a fixed-size one.
    """

    number: int
    value: int | Span | None


class WireReader:
    """Walks the fields of messages inside one buffer.

    Parameters
    ----------
    data:
        The bytes.
    max_fields:
        How many fields may be visited in all, so that no input keeps the reader busy for long.
    """

    def __init__(self, data: Buffer, max_fields: int) -> None:
        self._data = data
        self._left = max_fields

    def whole(self) -> Span:
        """Return the place of the outermost message."""
        return Span(0, len(self._data))

    def fields(self, span: Span) -> Iterator[Field]:
        """Yield the fields of the message at `span` in their order.

        Raises
        ------
        WireError
            If the bytes are damaged or the budget of fields is used up.
        """
        position = span.start
        while position < span.end:
            self._left -= 1
            if self._left < 0:
                raise WireError("it has more fields than any model needs")
            key, position = self._varint(position, span.end)
            number, wire_type = key >> 3, key & 7
            if number == 0:
                raise WireError(f"field number 0 at byte {position}")
            value: int | Span | None = None
            if wire_type == _VARINT:
                value, position = self._varint(position, span.end)
            elif wire_type == _BYTES:
                length, position = self._varint(position, span.end)
                value = Span(position, position + length)
                position += length
            elif wire_type in _FIXED_SIZES:
                position += _FIXED_SIZES[wire_type]
            else:
                raise WireError(f"wire type {wire_type} at byte {position}")
            if position > span.end:
                raise WireError(f"it ends inside a field, {position - span.end} bytes too early")
            yield Field(number, value)

    def message(self, field: Field) -> Span:
        """Return the place of the message (or string) that `field` holds.

        Raises
        ------
        WireError
            If the field holds a number.
        """
        if not isinstance(field.value, Span):
            raise WireError(f"field {field.number} holds a number where a message belongs")
        return field.value

    def text(self, field: Field) -> str:
        """Return the string that `field` holds.

        Raises
        ------
        WireError
            If the field holds a number or is not UTF-8.
        """
        span = self.message(field)
        try:
            return self._data[span.start : span.end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise WireError(f"field {field.number} is not UTF-8") from error

    def integer(self, field: Field) -> int:
        """Return the signed 64-bit number that `field` holds.

        Raises
        ------
        WireError
            If the field holds no varint.
        """
        if not isinstance(field.value, int):
            raise WireError(f"field {field.number} holds no number")
        return field.value - _UINT64 if field.value >= _UINT64 // 2 else field.value

    def ends_with(self, span: Span, tail: bytes) -> bool:
        """Whether the last bytes at `span` are these."""
        start = span.end - len(tail)
        return start >= span.start and self._data[start : span.end] == tail

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        """Return the varint at `position` and the offset behind it."""
        value = 0
        for index in range(_MAX_VARINT_BYTES):
            if position + index >= end:
                raise WireError("it ends inside a number")
            byte = self._data[position + index]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value % _UINT64, position + index + 1
        raise WireError(f"a number of more than {_MAX_VARINT_BYTES} bytes at byte {position}")
