"""Large JSON documents, read in pieces between which other threads run.

A parser in C keeps the interpreter busy until it has read the whole body: 50 ms for two million numbers. Here
a body is cut at commas into pieces that take a fraction of a millisecond. Each piece is completed to a
document of its own, with the lists and objects that are open where it begins and ends. Its values are then
added to those of the pieces before.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

import numpy as np

Reader = Callable[[bytes, int], Any]
"""Reads one document. The number is what its error adds to each offset in the document."""

PIECE_BYTES: Final = 64 * 1024
"""Bytes of a piece: 0.8 ms for numbers of one digit."""
MANY_VALUES: Final = 1 << 15
"""A body of fewer values takes less than 2 ms as a whole."""

_QUOTE, _COMMA, _BACKSLASH = b'",\\'
_CASE_BIT: Final = 0x20
"""What `{` has and `[` has not, and `}` and `]` likewise."""
_OPEN, _CLOSE = b"{}"
_STEP: Final = 1 << 13
_FEW: Final = 16
"""Values of a list that are freed with it."""
# No caller knows them, so they stand in no document.
_BEFORE: Final = secrets.token_hex(16)
_BEHIND: Final = secrets.token_hex(16)


class AmbiguousError(Exception):
    """A key stands twice in an object, so that the pieces cannot be put together."""


def is_long(body: bytes) -> bool:
    """Whether a parser takes long for a body. It does for many values, not for long strings."""
    if len(body) < MANY_VALUES:
        return False
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == _COMMA)) >= MANY_VALUES


def read(body: bytes, reader: Reader, check: Callable[[], None]) -> Any:
    """Read a document that is a list or an object. What follows it is ignored.

    Parameters
    ----------
    body:
        The document.
    reader:
        Reads a piece.
    check:
        Is called after each piece, and may raise.

    Raises
    ------
    AmbiguousError
        The pieces cannot be put together.
    Exception
        What the reader or the check raises.
    """
    root: Any = None
    spine: list[Any] = []
    position = 0
    while True:
        end, opened = _piece(body, position, [isinstance(one, dict) for one in spine])
        head = _head(spine)
        text = b"".join((head, body[position:end], _tail(opened)))
        piece = reader(text, position - len(head))
        if root is None:
            root = piece
        else:
            _add(spine, piece)
        if not opened:
            return root
        spine = _last(root, opened)
        position = end
        check()


def take_apart(document: Any) -> None:
    """Empty the lists and objects of a document in steps. Else the last reference to it frees all at once."""
    left = [document]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            while value:
                inner = value.popitem()[1]
                if isinstance(inner, dict | list):
                    left.append(inner)
        elif isinstance(value, list) and value:
            left.append(value)
            part = value[-_STEP:]
            del value[-_STEP:]
            # Values of one list are mostly alike.
            if isinstance(part[0], dict | list) and len(part[0]) > _FEW:
                left += part


def _piece(body: bytes, start: int, opened: list[bool]) -> tuple[int, list[bool]]:
    """Find where a piece ends: at a comma, or at the end of the document.

    Parameters
    ----------
    body:
        The document.
    start:
        Where the piece begins, outside of strings.
    opened:
        The lists (False) and objects (True) that are open there.

    Returns
    -------
    The end, and what is open there: nothing at the end of the document.
    """
    size = PIECE_BYTES
    while start + size < len(body):
        block = body[start : start + size]
        commas, brackets = _structure(block)
        depth = len(opened) + np.cumsum(np.where(_kinds(block, brackets) == _OPEN, 1, -1), dtype=np.int64)
        ended = np.flatnonzero(depth <= 0)
        if len(ended):
            return start + int(brackets[ended[0]]) + 1, []
        # The comma at the start ended the piece before.
        if len(commas) and commas[-1]:
            cut = int(commas[-1])
            before = int(np.searchsorted(brackets, cut))
            return start + cut, _opened(block, brackets[:before], depth[:before], opened)
        size *= 2
    return len(body), []


def _structure(block: bytes) -> tuple[np.ndarray, np.ndarray]:
    """List the places of the last comma (if any) and of all brackets, outside of strings."""
    data = np.frombuffer(block, np.uint8)
    if _QUOTE not in block:
        last = block.rfind(_COMMA)
        return np.array([last] if last >= 0 else [], dtype=np.int64), _brackets(block, data)
    quotes = data == _QUOTE
    if _BACKSLASH in block:
        quotes &= ~_escaped(data)
    # A place is outside of strings if an even number of quotes stands before it.
    outside = np.bitwise_xor.accumulate(quotes.view(np.uint8)) == 0
    brackets = _brackets(block, data)
    return np.flatnonzero((data == _COMMA) & outside)[-1:], brackets[outside[brackets]]


def _brackets(block: bytes, data: np.ndarray) -> np.ndarray:
    """List the places of brackets and braces."""
    if not any(one in block for one in b"[]{}"):
        return np.empty(0, dtype=np.int64)
    folded = data | _CASE_BIT
    return np.flatnonzero((folded == _OPEN) | (folded == _CLOSE))


def _kinds(block: bytes, brackets: np.ndarray) -> np.ndarray:
    """Tell for brackets whether they open or close something."""
    kinds: np.ndarray = np.frombuffer(block, np.uint8)[brackets] | _CASE_BIT
    return kinds


def _escaped(data: np.ndarray) -> np.ndarray:
    """Tell which bytes stand behind an odd number of backslashes."""
    places = np.arange(len(data), dtype=np.int32)
    others = np.maximum.accumulate(np.where(data == _BACKSLASH, np.int32(-1), places))
    escaped = np.zeros(len(data), dtype=bool)
    escaped[1:] = (places[:-1] - others[:-1]) % 2 == 1
    return escaped


def _opened(block: bytes, brackets: np.ndarray, depth: np.ndarray, opened: list[bool]) -> list[bool]:
    """Tell what is open behind some brackets; `depth` is how much is behind each of them."""
    if not len(brackets):
        return opened
    # What is opened stays so if no later depth is less.
    least = np.minimum.accumulate(depth[::-1])[::-1]
    kinds = np.frombuffer(block, np.uint8)[brackets]
    staying = kinds[((kinds | _CASE_BIT) == _OPEN) & (depth == least)]
    return opened[: int(depth[-1]) - len(staying)] + [bool(one) for one in staying == _OPEN]


def _head(spine: list[Any]) -> bytes:
    """Write the beginning of a piece: what is open, with one value in it, which `_add` takes out."""
    if not spine:
        return b""
    parts = [b'{"%s":' % _BEFORE.encode() if isinstance(one, dict) else b"[" for one in spine]
    return b"".join((*parts, b"0"))


def _tail(opened: list[bool]) -> bytes:
    """Write the end of a piece: a mark, and the ends of all that is open."""
    if not opened:
        return b""
    mark = b',"%s":0' if opened[-1] else b',"%s"'
    return mark % _BEHIND.encode() + bytes(b"]}"[one] for one in reversed(opened))


def _add(spine: list[Any], piece: Any) -> None:
    """Add a piece to the lists and objects that were open where it begins."""
    for target in spine:
        if isinstance(target, dict):
            inner = piece.pop(_BEFORE)
            # The last value of a key counts, and it must come last for `_last`.
            for key in target.keys() & piece.keys():
                del target[key]
            target.update(piece)
        else:
            inner = piece[0]
            del piece[0]
            target.extend(piece)
        piece = inner


def _last(root: Any, opened: list[bool]) -> list[Any]:
    """Find the lists and objects that are open behind all that was read, and take the mark out.

    Raises
    ------
    AmbiguousError
        The mark is not where the last values are.
    """
    spine: list[Any] = []
    value: Any = root
    for is_object in opened:
        if type(value) is not (dict if is_object else list) or not value:
            raise AmbiguousError
        spine.append(value)
        value = next(reversed(value.values() if isinstance(value, dict) else value))
    inner: Any = spine[-1]
    if (next(reversed(inner)) if opened[-1] else value) != _BEHIND:
        raise AmbiguousError
    inner.pop(_BEHIND if opened[-1] else -1)
    return spine
