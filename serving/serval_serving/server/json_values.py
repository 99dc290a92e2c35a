"""JSON bodies to Python values, and outputs to JSON, as TensorFlow Serving's REST API has them."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import numpy as np
import orjson

from serval_serving.server import json_pieces, lenient_json
from serval_serving.server.lenient_json import PARSE_ERROR
from serval_serving.wire.heavy_work import HEAVY_BYTES
from serval_serving.wire.status import StatusError, invalid

B64 = "b64"
BYTES_SUFFIX = "_bytes"
"""Outputs whose names end so hold bytes, which travel as base64."""

TWICE = f"{PARSE_ERROR}: a key stands twice in an object of a large body"

_MAX_QUOTED = 200
_CONTAINER = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*+[\[{]")
"""The beginning of a body that is a list or an object."""
_BASE64 = re.compile(r"([A-Za-z0-9+/]*)([=.]*)")
_IMPOSSIBLE = 3
"""No bytes have a number of base64 digits that needs so much padding."""


def never() -> None:
    """Check no deadline."""


def parse(body: bytes, check: Callable[[], None] = never) -> dict[str, Any]:
    """Read a body, which must be an object, as TensorFlow Serving's parser reads it.

    A large one is read in pieces; `check` looks at the deadline after each.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: it is no JSON, or no object; or what `check` raises.
    """
    if not body:
        raise invalid(f"{PARSE_ERROR}: The document is empty")
    if len(body) < HEAVY_BYTES or not _CONTAINER.match(body) or not json_pieces.is_long(body):
        document = _read(body)
    else:
        try:
            document = json_pieces.read(body, _read, check)
        except json_pieces.AmbiguousError:
            raise invalid(TWICE) from None
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {quoted(document)} Is not object")
    return document


def _read(text: bytes, shift: int = 0) -> Any:
    """Read a document; `shift` is added to offsets in the words of an error."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return lenient_json.read(text, error, shift)


def is_b64(value: Any) -> bool:
    """Whether a value is an object that stands for bytes."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(B64), str)


def quoted(value: Any) -> str:
    """Spell a value for an error text, cut to a reasonable length."""
    text = ""
    for part in json.JSONEncoder(indent=4).iterencode(value):
        text += part
        if len(text) > _MAX_QUOTED:
            return text[:_MAX_QUOTED] + "..."
    return text


def type_name(value: Any) -> str:
    """Name the JSON type of a value."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    for kind, name in ((dict, "Object"), (list, "Array"), (str, "String")):
        if isinstance(value, kind):
            return name
    return "Number"


def dump(document: Any) -> bytes:
    """Write JSON. Arrays of numpy may stand anywhere in it; NaN and infinities are written as such."""
    try:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise StatusError(grpc.StatusCode.INTERNAL, f"a reply cannot be written as JSON: {error}") from error


def dump_exact(document: Any) -> bytes:
    """Write JSON without numpy in it, in which NaN and infinities may stand."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def writable(name: str, array: np.ndarray) -> Any:
    """Turn an output into what `dump` writes: an array as it is, a scalar as one value, strings as lists.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: the type has no JSON form.
    """
    kind = array.dtype.kind
    if kind in "OSU":
        return _strings(array, as_bytes=name.endswith(BYTES_SUFFIX))
    if array.dtype.name == "bfloat16":
        return writable(name, array.astype(np.float32))
    if kind not in "biuf":
        raise invalid(f"Failed to write JSON value for tensor type: {array.dtype}")
    return np.ascontiguousarray(array) if array.ndim else plain(array)


def finite(values: Any) -> bool:
    """Whether JSON proper can hold an output."""
    if isinstance(values, np.ndarray):
        return values.dtype.kind != "f" or bool(np.isfinite(values).all())
    return not isinstance(values, float) or math.isfinite(values)


def plain(values: Any) -> Any:
    """Turn an output into plain Python values; floats keep the digits of their own precision."""
    if not isinstance(values, np.ndarray):
        return values
    if values.dtype.kind == "f" and values.dtype != np.float64:
        # Widened as they are, 0.2 in single precision would become 0.20000000298023224.
        return values.astype("U32").astype(np.float64).tolist()
    return values.tolist()


def text_bytes(value: str) -> bytes:
    """Give the bytes of a string, also of one that is no UTF-8 in the body.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: it has half of a surrogate pair.
    """
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise invalid(f"{PARSE_ERROR}: The surrogate pair in string is invalid.") from None


def decoded(value: Mapping[str, Any]) -> bytes:
    """Decode bytes that came as base64, with white space anywhere and without padding, or with all of it.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: the value is no object for it, or no base64.
    """
    if not is_b64(value):
        raise invalid(f"JSON Value: {quoted(value)} not formatted correctly for base64 data")
    text = value[B64]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass
    found = _BASE64.fullmatch("".join(text.split()))
    digits, padding = found.groups() if found else ("", "?")
    missing = -len(digits) % 4
    if missing == _IMPOSSIBLE or len(padding) not in {0, missing}:
        raise invalid("Unable to base64 decode")
    return base64.b64decode(digits + "=" * missing)


def _strings(array: np.ndarray, *, as_bytes: bool) -> Any:
    """Write strings as text, or as base64 where the name asks for it or they are no UTF-8."""

    def spelled(value: Any) -> Any:
        if isinstance(value, list):
            return [spelled(item) for item in value]
        data = value if isinstance(value, bytes) else str(value).encode()
        if not as_bytes:
            try:
                return data.decode()
            except UnicodeDecodeError:
                pass
        return {B64: base64.b64encode(data).decode("ascii")}

    return spelled(array.tolist())
