"""What protobuf's wire format says of every message: the types of fields, and numbers of variable length."""

from __future__ import annotations

from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5
FIXED_BYTES: Final = {FIXED64: 8, FIXED32: 4}

LONGEST_VARINT: Final = 10
"""Bytes of the longest number."""


def read_varint(data: bytes, position: int, longest: int = LONGEST_VARINT) -> tuple[int, int]:
    """Read a number of at most `longest` bytes; the answer is its value and the position behind it.

    Raises
    ------
    IndexError
        The bytes end before it does, or it is longer.
    """
    byte = data[position]
    if byte < 0x80:
        return byte, position + 1
    value = byte & 0x7F
    for shift in range(7, 7 * longest, 7):
        position += 1
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
    raise IndexError(f"a number of more than {longest} bytes")
