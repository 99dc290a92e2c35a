"""The key of the cache of converted models: the operator asks by it, and the pusher stores under it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Final

CONVERTER: Final = "1"
"""Version of the converter. It rises with every change that makes another artifact of the same model."""

_FORMAT: Final = 1


def conversion_key(source_digest: str, options: Mapping[str, Any], converter: str = CONVERTER) -> str:
    """Return the key: 64 hexadecimal digits, which may stand in a tag of an image.

    Parameters
    ----------
    source_digest:
        ``sha256:<hex>`` of the files that are converted.
    options:
        Everything else that the artifact depends on, as JSON data. An option that is None is the same as one
        that is absent, and 1.0 is the same as 1.
    converter:
        Version of the converter.

    Raises
    ------
    ValueError
        An option is not JSON data.
    """
    record = {
        "format": _FORMAT,
        "source": source_digest,
        "options": _plain(options),
        "converter": converter,
    }
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _plain(value: object) -> object:
    """Return the one form that equal options have."""
    match value:
        case None | bool() | int() | str():
            return value
        case float() if math.isfinite(value):
            return int(value) if value.is_integer() else value
        case list() | tuple():
            return [_plain(one) for one in value]
        case Mapping() if all(isinstance(name, str) for name in value):
            return {name: _plain(one) for name, one in value.items() if one is not None}
        case _:
            raise ValueError(f"{value!r} is no JSON data")
