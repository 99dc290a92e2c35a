"""Lines of JSON by which the containers of a pod report: what the kinds of reports have in common.

A report is the termination message of its container. A user who can create pods can write such a line too, so
the functions that read one are total, and the kinds of reports check each value with the bounds below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

MAX_LINE_BYTES: Final = 4000
"""Kubernetes keeps 4096 bytes of a termination message."""
MAX_MESSAGE_BYTES: Final = 1000
MAX_INTEGER: Final = 2**53 - 1
_CUT: Final = "..."
_MARK: Final = "serval"
"""Key that tells the line from other JSON; its value is the kind of report."""


def dump_line(kind: str, fields: Mapping[str, Any]) -> str:
    """Return the report as one line of ASCII."""
    return json.dumps({_MARK: kind, **fields}, separators=(",", ":"))


def find_line(kind: str, text: str) -> dict[str, Any] | None:
    """Return the last line of `text` that is a report of this kind; None if there is none."""
    for line in reversed(text.splitlines()):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and value.get(_MARK) == kind:
            return value
    return None


def shortened(message: str) -> str:
    """Return `message` on one line, within `MAX_MESSAGE_BYTES` as JSON writes it."""
    text = "".join(character if character.isprintable() else " " for character in message)
    if len(json.dumps(text)) <= MAX_MESSAGE_BYTES:
        return text
    while len(json.dumps(text)) > MAX_MESSAGE_BYTES - len(_CUT):
        text = text[: len(text) * 9 // 10]
    return text + _CUT


def is_text(value: object, longest: int) -> TypeGuard[str]:
    """Whether a value is a text of printable characters."""
    return isinstance(value, str) and len(value) <= longest and value.isprintable()


def is_integer(value: object, *, least: int) -> TypeGuard[int]:
    """Whether a value is a whole number from `least` to `MAX_INTEGER`."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MAX_INTEGER
