"""A limit on the fields of a message, checked before the protobuf library reads it.

The library makes an object of each string and each message. Two bytes of a request become up to 100 bytes of
memory so, and no other thread runs meanwhile. A message of many fields is looked through here first, in steps
between which other threads run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.descriptor import Descriptor

from serval_serving.wire.heavy_work import heavy_work
from serval_serving.wire.status import invalid
from serval_serving.wire.wire_format import BYTES, FIXED_BYTES, VARINT, read_varint

Left = Callable[[], "float | None"]
"""Tells the seconds that are left for a request; None for any time."""

MAX_FIELDS: Final = 1_000_000
"""Fields of a message and of all messages in it. The numbers of a packed field count as one."""
SMALL_BYTES: Final = 1 << 20
"""A smaller message is not looked through: it cannot have many fields."""
TOO_MANY: Final = "The request has more than %d fields."

_GROUPS: Final = {3: 1, 4: -1}
"""The wire types that begin and end a group, and how many more groups are open behind them."""
_DEPTH: Final = 100


def any_time() -> float | None:
    """Tell that there is no deadline."""
    return None


def parse(kind: Any, data: bytes, left: Left = any_time) -> Any:
    """Read a message of a class of protobuf, after other large ones.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: it has too many fields; DEADLINE_EXCEEDED: its turn did not come in time.
    google.protobuf.message.DecodeError
        The bytes are no such message.
    """
    with heavy_work(len(data), left()):
        if len(data) > SMALL_BYTES:
            check_fields(data, kind.DESCRIPTOR)
        return kind.FromString(data)


def check_fields(data: bytes, descriptor: Descriptor, most: int = MAX_FIELDS) -> None:
    """Refuse a message of too many fields. Malformed ones are left for the library to refuse.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: it has too many.
    """
    left = most
    nested: dict[Descriptor, dict[int, Descriptor]] = {}
    open_messages = [(0, len(data), descriptor)]
    while open_messages:
        position, end, kind = open_messages.pop()
        inner = nested.get(kind)
        if inner is None:
            inner = nested[kind] = _messages(kind)
        groups = 0
        while position < end:
            left -= 1
            if left < 0:
                raise invalid(TOO_MANY % most)
            try:
                tag, position = read_varint(data, position)
                wire_type = tag & 7
                if wire_type == BYTES:
                    size, position = read_varint(data, position)
                    found = inner.get(tag >> 3)
                    # The library skips what a group holds, so it is no message there.
                    if found is not None and not groups and len(open_messages) < _DEPTH:
                        # The rest of this message comes after the one in it.
                        open_messages.append((position + size, end, kind))
                        open_messages.append((position, min(position + size, end), found))
                        break
                    position += size
                elif wire_type in _GROUPS:
                    groups += _GROUPS[wire_type]
                else:
                    position = _behind(data, position, wire_type)
            except IndexError:
                return


def _messages(kind: Descriptor) -> dict[int, Descriptor]:
    """List the fields of a message that hold messages, by number."""
    return {field.number: field.message_type for field in kind.fields if field.message_type is not None}


def _behind(data: bytes, position: int, wire_type: int) -> int:
    """Return the position behind a number. IndexError: there is none of this wire type."""
    if wire_type == VARINT:
        return read_varint(data, position)[1]
    if wire_type not in FIXED_BYTES:
        raise IndexError
    return position + FIXED_BYTES[wire_type]
