"""The access log: one line per request, never what was sent or answered."""

from __future__ import annotations

import logging
import os
import platform
from typing import Final

import grpc

_LONGEST = 500
LOGGER = "serval_serving.access"

log = logging.getLogger(LOGGER)
"""It is on if INFO is enabled. Callers check that first, since most servers have it off."""


POD_VARIABLE: Final = "POD_NAME"
"""Names the pod, where its host has another name, as on the network of the node."""
POD: Final = os.environ.get(POD_VARIABLE) or platform.node()


def note(
    peer: str | None,
    call: str,
    model: str,
    code: grpc.StatusCode,
    seconds: float,
    size: int,
    *,
    request_id: str,
    key: str,
) -> None:
    """Write the line of a request that ended.

    Parameters
    ----------
    peer:
        Who called.
    call, model:
        What was asked for.
    code:
        How it ended.
    seconds:
        How long it took.
    size:
        Bytes of the request.
    request_id:
        Its id, which the reply carries too.
    key:
        Name of the key that it showed, never the key; empty where none is required.
    """
    log.info(
        "peer=%s call=%s model=%s status=%s ms=%.3f bytes=%d id=%s pod=%s key=%s",
        peer, _one_word(call), _one_word(model), code.name, seconds * 1000, size,
        request_id, POD, _one_word(key),
    )  # fmt: skip


def _one_word(text: str) -> str:
    """Spell what a caller chose so that it stays one word of one line, and not a long one."""
    text = text[:_LONGEST]
    return text if text.isprintable() and " " not in text else repr(text).replace(" ", "\\x20")
