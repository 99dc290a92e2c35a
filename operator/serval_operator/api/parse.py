"""Reads objects as the API server stored them into the dataclasses of `serval_operator.api.schema`.

The CRD refuses most invalid objects before they are stored. The bounds are checked here again: an object
may be older than a rule, and a rule may be ratcheted (tolerated in an unchanged field). An unknown word is
reported as unsupported and not as invalid: the CRD may be newer than the operator, for example after a
downgrade.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any, TypeVar, cast

from serval_operator.api.schema import (
    Block,
    Description,
    Entries,
    Flag,
    Items,
    Nested,
    Number,
    Text,
    Whole,
    WholeOrText,
    Words,
    fields_of,
)
from serval_operator.errors import InvalidSpec
from serval_operator.reasons import INVALID_SPEC, UNSUPPORTED_SPEC

_Block = TypeVar("_Block", bound=Block)
_Parser = Callable[[str, Mapping[str, Any]], Block]
_PARSERS: dict[type[Block], _Parser] = {}
"""Parsers that were made: every reconcile parses a spec."""
_Reader = Callable[[Any, str, str], Any]
"""Reads the value of a field, given the path of its block and its name, which only errors join."""
_OBJECT = (dict, Mapping)
"""Types of an object. `isinstance` finds a dict by its type; asking the abstract class takes far longer."""


def invalid(message: str, reason: str = INVALID_SPEC) -> InvalidSpec:
    """Return the error for a spec that says something impossible."""
    return InvalidSpec(reason, message)


def parse_block(block: type[_Block], path: str, given: Mapping[str, Any]) -> _Block:
    """Read an object; fields that the operator does not know are ignored.

    Blocks share their defaults, which nothing may change.

    Parameters
    ----------
    path:
        Path of the object, for messages, such as ``spec.model``.

    Raises
    ------
    InvalidSpec
        A field is missing or out of bounds, or `Block.check` refused the whole.
    """
    parse = _PARSERS.get(block) or _PARSERS.setdefault(block, _parser(block))
    return cast("_Block", parse(path, given))


def _parser(block: type[Block]) -> _Parser:
    """Return the parser of a block."""
    fields = [
        (
            one.name,
            getattr(block, one.attribute).__set__,
            one,
            isinstance(one.about, Nested),
            _reader(one.about),
        )
        for one in fields_of(block)
    ]
    checked = block.check is not Block.check

    def parse(path: str, given: Mapping[str, Any]) -> Block:
        # `__init__` of a frozen dataclass with slots takes twice as long as this way to set them.
        parsed = object.__new__(block)
        for name, put, field, nested, read in fields:
            value = given.get(name)
            if value is not None and not (nested and value == {}):
                put(parsed, read(value, path, name))
            elif field.required:
                raise invalid(f"`{path}.{name}` must be set")
            else:
                put(parsed, field.default)
        if checked:
            parsed.check(path)
        return parsed

    return parse


@singledispatch
def _reader(about: Description) -> _Reader:
    """Return the reader of fields with a description."""
    raise NotImplementedError(f"no parser for {type(about).__name__}")


@_reader.register
def _(about: Text) -> _Reader:
    least, most = about.min_length, about.max_length
    matches = re.compile(about.pattern).fullmatch if about.pattern else None

    def read(value: Any, path: str, name: str) -> str:
        if not isinstance(value, str) or not least <= len(value) <= most:
            raise invalid(f"`{path}.{name}` must be a text of {least} to {most} characters")
        if matches and not matches(value):
            raise invalid(f"`{path}.{name}` must match {about.pattern}")
        return value

    return read


@_reader.register
def _(about: Words) -> _Reader:
    words = about.words

    def read(value: Any, path: str, name: str) -> Any:
        if value not in words:
            listed = ", ".join(words)
            raise invalid(
                f"`{path}.{name}` must be one of {listed}; this operator knows no other", UNSUPPORTED_SPEC
            )
        return value

    return read


@_reader.register
def _(about: Whole) -> _Reader:
    least, most = about.minimum, about.maximum

    def read(value: Any, path: str, name: str) -> int:
        if type(value) is not int or not least <= value <= most:
            raise invalid(f"`{path}.{name}` must be a whole number from {least} to {most}")
        return value

    return read


@_reader.register
def _(about: Number) -> _Reader:
    least, most = about.minimum, about.maximum

    def read(value: Any, path: str, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise invalid(f"`{path}.{name}` must be a number from {least:g} to {most:g}")
        # The API server writes 1.0 as 1: both are one value.
        return float(value)

    return read


@_reader.register
def _(_about: Flag) -> _Reader:
    def read(value: Any, path: str, name: str) -> bool:
        if not isinstance(value, bool):
            raise invalid(f"`{path}.{name}` must be true or false")
        return value

    return read


@_reader.register
def _(about: WholeOrText) -> _Reader:
    most = about.max_length

    def read(value: Any, path: str, name: str) -> int | str:
        if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > most:
            raise invalid(f"`{path}.{name}` must be a number or a text of at most {most} characters")
        return value

    return read


@_reader.register
def _(about: Nested) -> _Reader:
    parse = _parser(about.block)

    def read(value: Any, path: str, name: str) -> Any:
        if not isinstance(value, _OBJECT):
            raise invalid(f"`{path}.{name}` must be an object")
        return parse(f"{path}.{name}", value)

    return read


@_reader.register
def _(about: Items) -> _Reader:
    read_item, least, most = _reader(about.item), about.min_items, about.max_items

    def read(value: Any, path: str, name: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise invalid(f"`{path}.{name}` must be a list of {least} to {most} items")
        item = f"{name}[]"
        parsed = tuple([read_item(one, path, item) for one in value])
        return tuple(value) if about.verbatim else parsed

    return read


@_reader.register
def _(about: Entries) -> _Reader:
    read_value, most = _reader(about.value), about.max_properties

    def read(value: Any, path: str, name: str) -> Mapping[str, Any]:
        if not isinstance(value, _OBJECT) or len(value) > most:
            raise invalid(f"`{path}.{name}` must be an object with at most {most} keys")
        parsed = {}
        for key, one in value.items():
            parsed[str(key)] = read_value(one, path, f"{name}.{key}")
        return parsed

    return read
