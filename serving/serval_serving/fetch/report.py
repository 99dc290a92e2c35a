"""What the operator reads: the termination message, one line of JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from serval_serving.fetch.errors import FetchError
from serval_serving.models.savedmodel import Signature, TensorInfo

MAX_LINE_BYTES: Final = 4000
"""Kubernetes keeps 4096 bytes of a termination message."""
MAX_MESSAGE_BYTES: Final = 1000
_CUT: Final = "..."
_LOG: Final = logging.getLogger("serval.fetch")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetch that went well.

    Attributes
    ----------
    version:
        The version that is served.
    digest:
        ``sha256:<hex>`` over the served files.
    size:
        Bytes of the served files.
    seconds:
        What the fetch took.
    signature:
        The default signature; None where the model has none of that name.
    """

    version: int
    digest: str
    size: int
    seconds: float
    signature: Signature | None


def success_line(fetched: Fetched) -> str:
    """Return the JSON line of a success; inputs and outputs are left out where they do not fit."""
    line: dict[str, Any] = {
        "serval": "fetch",
        "ok": True,
        "version": fetched.version,
        "digest": fetched.digest,
        "bytes": fetched.size,
        "seconds": round(fetched.seconds, 3),
    }
    short = _line(line)
    if fetched.signature is None:
        return short
    line["inputs"] = _tensors(fetched.signature.inputs)
    line["outputs"] = _tensors(fetched.signature.outputs)
    full = _line(line)
    return full if len(full) <= MAX_LINE_BYTES else short


def failure_line(error: FetchError) -> str:
    """Return the JSON line of a failure."""
    return _line(
        {
            "serval": "fetch",
            "ok": False,
            "reason": error.reason,
            "message": shortened(error.message),
            "permanent": error.permanent,
        }
    )


def shortened(message: str) -> str:
    """Return `message` on one line, within `MAX_MESSAGE_BYTES` as JSON writes it."""
    text = "".join(character if character.isprintable() else " " for character in message)
    if len(json.dumps(text)) <= MAX_MESSAGE_BYTES:
        return text
    while len(json.dumps(text)) > MAX_MESSAGE_BYTES - len(_CUT):
        text = text[: len(text) * 9 // 10]
    return text + _CUT


def write_termination_message(path: Path, line: str) -> None:
    """Write `line` into the file that the kubelet made for it; outside a pod there is none."""
    try:
        with path.open("r+", encoding="ascii") as file:
            file.write(line)
            file.truncate()
    except OSError as error:
        _LOG.warning("no termination message at %s: %s", path, error.strerror)


def _tensors(tensors: Mapping[str, TensorInfo]) -> list[dict[str, Any]]:
    return [
        {"name": alias, "dtype": info.dtype, "shape": None if info.shape is None else list(info.shape)}
        for alias, info in tensors.items()
    ]


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"))
