"""Bodies of REST requests as JSON documents, as far as TensorFlow Serving's parser (RapidJSON) takes them.

RapidJSON takes more than JSON proper: NaN and infinities, a byte order mark, strings that are not UTF-8, and
any text after the document. A strict parser reads nearly all bodies and is much quicker. A body that it
refuses is read a second time only if it shows a sign of one of these. Two differences remain: lists and
objects must not be nested deeper than about a thousand levels, even in keys that are ignored; and if a key
stands twice in an object, the last value counts, not the first.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from serval_serving.wire.status import invalid

PARSE_ERROR: Final = "JSON Parse error"

_MARK: Final = b"\xef\xbb\xbf"
_SPACE: Final = " \t\r\n"
_BEHIND: Final = "unexpected content after document"
_DECODER: Final = json.JSONDecoder()
# Strings are matched so that nothing in them is replaced. One that never ends matches too, and no part is
# tried twice: else the time would grow with the square of the size.
_SHORT: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|-NaN|Inf(?!inity)', re.S)
_LONG: Final = {"-NaN": "NaN", "Inf": "Infinity"}


def read(body: bytes, error: json.JSONDecodeError, shift: int = 0) -> Any:
    """Read a body that the strict parser refused with an error. Bytes that are not UTF-8 become surrogates.

    `shift` is added to each offset in the words of an error.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: RapidJSON refuses it too.
    """
    text = body.decode("utf-8-sig", "surrogateescape")
    short = "Inf" in text or "-NaN" in text
    lenient = (
        short
        or "NaN" in text
        or body.startswith(_MARK)
        or error.msg.startswith(_BEHIND)
        or (not text.isascii() and not _is_utf8(body))
    )
    if not lenient:
        raise invalid(f"{PARSE_ERROR}: {error.msg} at offset: {error.pos + shift}") from error
    if short:
        text = _SHORT.sub(lambda found: _LONG.get(found[0], found[0]), text)
    try:
        return _DECODER.raw_decode(text.lstrip(_SPACE))[0]
    except json.JSONDecodeError as second:
        raise invalid(f"{PARSE_ERROR}: {second.msg} at offset: {second.pos + shift}") from second
    except (ValueError, RecursionError) as second:
        raise invalid(f"{PARSE_ERROR}: {second}") from second


def _is_utf8(body: bytes) -> bool:
    """Whether bytes are text."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
