"""A reader of protocol buffers in text form, for the few fields of a message that matter.

Reference: the "Text Format Language Specification" of the Protocol Buffers documentation. Fields that are not
asked for are stepped over, and their texts are not unquoted.
"""

from __future__ import annotations

import ast
import mmap
import re
from collections.abc import Mapping
from typing import Any, Final

Buffer = bytes | mmap.mmap
Wanted = Mapping[str, "Wanted | None"]
"""The fields to read, by name: those of a message by a mapping of their own, a value by None."""
Message = dict[str, list[Any]]
"""Values by the name of their field: texts, or messages of the same kind."""

MAX_DEPTH: Final = 100
"""Messages inside messages; the library's own limit."""
MAX_TOKENS: Final = 2_000_000
"""Names, values and marks looked at, so that no text keeps the reader busy for long."""
_TOKEN: Final = re.compile(
    rb"""(?:\s|\#[^\n]*+)*+(?:
    (?P<text>"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"|'[^'\\\n]*+(?:\\.[^'\\\n]*+)*+')
    |(?P<word>[\w.+-]+)
    |(?P<mark>[{}<>\[\]:,;/]))""",
    re.VERBOSE | re.DOTALL,
)
_REST: Final = re.compile(rb"(?:\s|\#[^\n]*+)*+")
_OPEN: Final = {b"{": b"}", b"<": b">"}
_END: Final = b""
_SKIPPED: Final[Wanted] = {}
"""Nothing of a field is read."""


class TextError(ValueError):
    """The text is no well-formed message."""


def read_text(data: Buffer, wanted: Wanted, max_tokens: int = MAX_TOKENS) -> Message:
    """Read the fields `wanted` of the message `data`.

    Raises
    ------
    TextError
        If it is damaged, or has more than `max_tokens` tokens.
    """
    return _Reader(data, max_tokens).message(wanted, _END, 0)


class _Reader:
    """Reads one token after the other."""

    def __init__(self, data: Buffer, max_tokens: int) -> None:
        self._data = data
        self._position = 0
        self._left = self._max_tokens = max_tokens
        self._token = _END
        self._is_text = False
        self._next()

    def message(self, wanted: Wanted, end: bytes, depth: int) -> Message:
        """Read fields up to the token `end`, and those of `wanted` into the result."""
        if depth > MAX_DEPTH:
            raise TextError(f"messages are nested more than {MAX_DEPTH} deep")
        found: Message = {}
        while self._token != end or self._is_text:
            name = self._name()
            if self._token == b":" and not self._is_text:
                self._next()
            values = self._values(wanted.get(name, _SKIPPED), depth)
            if name in wanted:
                found.setdefault(name, []).extend(values)
            if self._token in (b",", b";") and not self._is_text:
                self._next()
        self._next()
        return found

    def _name(self) -> str:
        """Take the name of a field; that of an extension, in brackets, is of no interest."""
        name = self._token
        if self._is_text or name in (_END, b"}", b">", b"]", b":", b",", b";", b"/", b"{", b"<"):
            raise TextError(f"a field is expected at byte {self._position}")
        if name == b"[":
            while self._token != b"]":
                if self._token == _END:
                    raise TextError("it ends inside a name")
                self._next()
        self._next()
        return name.decode("ascii", "replace")

    def _values(self, wanted: Wanted | None, depth: int) -> list[Any]:
        """Take the value of a field, or those of a list."""
        if self._token != b"[" or self._is_text:
            return [self._value(wanted, depth)]
        self._next()
        values = []
        while self._token != b"]":
            values.append(self._value(wanted, depth))
            if self._token == b",":
                self._next()
        self._next()
        return values

    def _value(self, wanted: Wanted | None, depth: int) -> Any:
        token = self._token
        if not self._is_text and token in _OPEN:
            if wanted is None:
                raise TextError(f"a value is expected at byte {self._position}, not a message")
            self._next()
            return self.message(wanted, _OPEN[token], depth + 1)
        if not self._is_text:
            if token in (_END, b"}", b">", b"]", b":", b",", b";", b"/", b"["):
                raise TextError(f"a value is expected at byte {self._position}")
            self._next()
            return token.decode("ascii", "replace")
        parts = []
        while self._is_text:
            if wanted is None:
                parts.append(_unquoted(self._token))
            self._next()
        return b"".join(parts).decode("utf-8", "replace")

    def _next(self) -> None:
        """Go to the next token; `_END` behind the last one."""
        self._left -= 1
        if self._left < 0:
            raise TextError(f"it has more than {self._max_tokens} names, values and marks")
        match = _TOKEN.match(self._data, self._position)
        if match is None:
            rest = _REST.match(self._data, self._position)
            if rest is None or rest.end() < len(self._data):
                raise TextError(f"it cannot be read at byte {self._position}")
            self._token, self._is_text = _END, False
            return
        self._position = match.end()
        self._token, self._is_text = bytes(match[match.lastgroup or 0]), match.lastgroup == "text"


def _unquoted(token: bytes) -> bytes:
    """Return the bytes of a quoted text. Its escapes are those of Python."""
    if b"\\" not in token:
        return token[1:-1]
    try:
        value = ast.literal_eval("b" + token.decode("latin-1")) if token.isascii() else token[1:-1]
    except (SyntaxError, ValueError) as error:
        raise TextError("a text has an unknown escape") from error
    return bytes(value)
