"""Types of the flags' values: each function parses the text of one, or raises ValueError."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Parse = Callable[[str], Any]
"""Parses a value. Raises ValueError if the text is not one."""

_TRUE = frozenset({"true", "1", "t", "yes"})
_FALSE = frozenset({"false", "0", "f", "no"})


def boolean(text: str) -> bool:
    """Parse a bool; a flag of this type may stand without a value."""
    value = text.lower()
    if value not in _TRUE | _FALSE:
        raise ValueError(text)
    return value in _TRUE


def natural(text: str) -> int:
    """Parse an integer that is not negative."""
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def message_bytes(text: str) -> int:
    """Parse a size of gRPC messages, which may have 2 GiB less one byte; 0 stands for any."""
    value = natural(text)
    if value >= 2**31:
        raise ValueError(text)
    return value


def positive(text: str) -> int:
    """Parse an integer above zero."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def seconds(text: str) -> float:
    """Parse a finite number of seconds that is not negative."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value


def fraction(text: str) -> float:
    """Parse a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def port(text: str) -> int:
    """Parse a TCP port; 0 stands for none."""
    value = int(text)
    if not 0 <= value < 65536:
        raise ValueError(text)
    return value


def address(text: str) -> str:
    """Check a `host:port`; empty stands for none."""
    host, colon, number = text.rpartition(":")
    if text and not (host and colon and number.isdecimal() and 0 < int(number) < 65536):
        raise ValueError(text)
    return text


def names(text: str) -> tuple[str, ...]:
    """Parse names separated by commas."""
    return tuple(name for name in text.split(",") if name)


def path(text: str) -> Path | None:
    """Parse a path; empty stands for none."""
    return Path(text) if text else None


def channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    """Parse `k=v,k=v`; numbers become integers, as gRPC expects them."""
    arguments: list[tuple[str, int | str]] = []
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(item)
        arguments.append((key, int(value) if value.lstrip("-").isdecimal() else value))
    return tuple(arguments)
