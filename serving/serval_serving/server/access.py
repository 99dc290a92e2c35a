"""The access log: one line per request, never what was sent or answered."""

from __future__ import annotations

import logging

import grpc

_LONGEST = 500
LOGGER = "serval_serving.access"

log = logging.getLogger(LOGGER)
"""It is on if INFO is enabled. Callers check that first, since most servers have it off."""


def note(peer: str | None, call: str, model: str, code: grpc.StatusCode, seconds: float, size: int) -> None:
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
    """
    log.info(
        "peer=%s call=%s model=%s status=%s ms=%.3f bytes=%d",
        peer, _one_word(call), _one_word(model), code.name, seconds * 1000, size,
    )  # fmt: skip


def _one_word(text: str) -> str:
    """Spell what a caller chose so that it stays one word of one line, and not a long one."""
    text = text[:_LONGEST]
    return text if text.isprintable() and " " not in text else repr(text).replace(" ", "\\x20")
