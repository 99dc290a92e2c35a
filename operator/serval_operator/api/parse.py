"""Reads objects as the API server stored them into the dataclasses of `serval_operator.api.schema`.

The CRD refuses most invalid objects before they are stored. The bounds are checked here again: an object
may be older than a rule, and a rule may be ratcheted (tolerated in an unchanged field). An unknown word is
reported as unsupported and not as invalid: the CRD may be newer than the operator, for example after a
downgrade.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import singledispatch
from typing import Any, TypeVar

from serval_operator.api.schema import (
    Block,
    Description,
    Entries,
    Flag,
    Items,
    Nested,
    Text,
    Whole,
    WholeOrText,
    Words,
    fields_of,
)
from serval_operator.errors import InvalidSpec
from serval_operator.reasons import INVALID_SPEC, UNSUPPORTED_SPEC

_Block = TypeVar("_Block", bound=Block)


def invalid(message: str, reason: str = INVALID_SPEC) -> InvalidSpec:
    """Return the error for a spec that says something impossible."""
    return InvalidSpec(reason, message)


def parse_block(block: type[_Block], path: str, given: Mapping[str, Any]) -> _Block:
    """Read an object; fields that the operator does not know are ignored.

    Parameters
    ----------
    path:
        Path of the object, for messages, such as ``spec.model``.

    Raises
    ------
    InvalidSpec
        A field is missing or out of bounds, or `Block.check` refused the whole.
    """
    values = {}
    for one in fields_of(block):
        value = given.get(one.name)
        absent = value is None or (value == {} and isinstance(one.about, Nested))
        if not absent:
            values[one.attribute] = _read(one.about, f"{path}.{one.name}", value)
        elif one.required:
            raise invalid(f"`{path}.{one.name}` must be set")
    parsed = block(**values)
    parsed.check(path)
    return parsed


@singledispatch
def _read(about: Description, path: str, value: Any) -> Any:
    raise NotImplementedError(f"no parser for {type(about).__name__} at {path}: {value}")


@_read.register
def _(about: Text, path: str, value: Any) -> str:
    if not isinstance(value, str) or not about.min_length <= len(value) <= about.max_length:
        raise invalid(f"`{path}` must be a text of {about.min_length} to {about.max_length} characters")
    if about.pattern and not re.fullmatch(about.pattern, value):
        raise invalid(f"`{path}` must match {about.pattern}")
    return value


@_read.register
def _(about: Words, path: str, value: Any) -> str:
    for word in about.words:
        if word == value:
            return word
    listed = ", ".join(about.words)
    raise invalid(f"`{path}` must be one of {listed}; this operator knows no other", UNSUPPORTED_SPEC)


@_read.register
def _(about: Whole, path: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not about.minimum <= value <= about.maximum:
        raise invalid(f"`{path}` must be a whole number from {about.minimum} to {about.maximum}")
    return value


@_read.register
def _(_about: Flag, path: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise invalid(f"`{path}` must be true or false")
    return value


@_read.register
def _(about: WholeOrText, path: str, value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > about.max_length:
        raise invalid(f"`{path}` must be a number or a text of at most {about.max_length} characters")
    return value


@_read.register
def _(about: Nested, path: str, value: Any) -> Block:
    if not isinstance(value, Mapping):
        raise invalid(f"`{path}` must be an object")
    return parse_block(about.block, path, value)


@_read.register
def _(about: Items, path: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or not about.min_items <= len(value) <= about.max_items:
        raise invalid(f"`{path}` must be a list of {about.min_items} to {about.max_items} items")
    parsed = tuple(_read(about.item, f"{path}[]", one) for one in value)
    return tuple(value) if about.verbatim else parsed


@_read.register
def _(about: Entries, path: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or len(value) > about.max_properties:
        raise invalid(f"`{path}` must be an object with at most {about.max_properties} keys")
    return {str(key): _read(about.value, f"{path}.{key}", one) for key, one in value.items()}
