"""Splits messages of the predict API into fields: names are read, tensors stay bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from serval_serving.models.protowire import Span, WireError, WireReader
from serval_serving.wire import messages
from serval_serving.wire.tensors import varint

SPEC: Final = 1
"""Number of the field `model_spec`, of all requests but MultiInference's."""
INPUTS: Final = 2
OUTPUT_FILTER: Final = 3
OUTPUTS: Final = 1
"""Of a reply of Predict."""

UNREADABLE: Final = (WireError, DecodeError)
"""What reading raises on bytes that are no message, or a rare one."""

_KEY: Final = 1
_BYTES: Final = 2
_MAX_FIELDS: Final = 10_000


class Part(NamedTuple):
    """One field of a message, of a length of its own as all fields of these messages are.

    Attributes
    ----------
    number:
        The field's number.
    place:
        Its bytes, without tag and length.
    name:
        Of an entry of a map its key, of a text the text; else empty.
    rest:
        Of an entry of a map what follows the key.
    """

    number: int
    place: Span
    name: str = ""
    rest: Span | None = None


def read(data: bytes, entries: int = 0, texts: int = 0) -> list[Part]:
    """Take a message apart.

    Parameters
    ----------
    data:
        The message.
    entries, texts:
        Numbers of the field that is a map, and of the one that holds texts; 0 for none.

    Raises
    ------
    WireError
        It is no message, or not written as every library writes it.
    """
    reader = WireReader(data, _MAX_FIELDS)
    parts = []
    for field in reader.fields(reader.whole()):
        place = reader.message(field)
        if field.number == entries:
            key = next(iter(reader.fields(place)), None)
            if key is None or key.number != _KEY:
                raise WireError("an entry of a map does not begin with its key")
            parts.append(Part(entries, place, reader.text(key), Span(reader.message(key).end, place.end)))
        elif field.number == texts:
            parts.append(Part(texts, place, reader.text(field)))
        else:
            parts.append(Part(field.number, place))
    return parts


def spec_of(data: bytes, parts: Iterable[Part], number: int = SPEC) -> messages.ModelSpec | None:
    """Read the model spec; None where there is none. One that stands in pieces is merged.

    `number` is that of its field.

    Raises
    ------
    DecodeError
        It is none.
    """
    pieces = [data[part.place.start : part.place.end] for part in parts if part.number == number]
    return messages.ModelSpec.FromString(b"".join(pieces)) if pieces else None


def with_name(data: bytes, name: str) -> bytes:
    """Name the model in a request that names none: a spec that stands twice is merged by who reads it."""
    return b"".join((data, *written(SPEC, messages.ModelSpec(name=name).SerializeToString())))


def written(number: int, *pieces: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    """Write a field that holds these bytes."""
    return varint(number << 3 | _BYTES), varint(sum(map(len, pieces))), *pieces


def entry(number: int, name: str, rest: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    """Write an entry of a map under a name."""
    return written(number, *written(_KEY, name.encode()), rest)
