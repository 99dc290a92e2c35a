"""Headers that say which request a reply belongs to, and what answered it, in both protocols.

A caller may choose the id of its request with `REQUEST_ID` or `CLIENT_REQUEST_ID`. The second is the name
that Azure's clients use, and the limit of 100 characters is that of Azure ML's inference server. The reply
carries these headers, in HTTP as headers and in gRPC as trailing metadata. `TRACEPARENT` and `TRACESTATE` are
those of the W3C recommendation "Trace Context".
"""

from __future__ import annotations

import re
from typing import Final

REQUEST_ID: Final = "x-request-id"
CLIENT_REQUEST_ID: Final = "x-ms-client-request-id"
MODEL_VERSION: Final = "serval-model-version"
MODEL_DIGEST: Final = "serval-model-digest"
"""``sha256:`` and hexadecimal digits, over the files of the version."""
DEVICE_ENGINE: Final = "serval-device-engine"
"""The engine of a device that holds one model, such as ``emulator (emulated)``; absent for other models."""
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

MAX_ID: Final = 100
"""Characters of an id. Longer ones are not taken over."""

_ID: Final = re.compile(rf"[A-Za-z0-9._:@/+=,~-]{{1,{MAX_ID}}}")
_MAX_STATE: Final = 512
_PARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<more>-[!-~]{0,200})?"
)


def request_id(text: str) -> str:
    """Return the id that a caller chose; empty if it is too long or malformed."""
    return text if _ID.fullmatch(text) else ""


def trace_context(parent: str | None, state: str | None) -> list[tuple[str, str]]:
    """Return the headers of a trace that go on to the next server.

    A malformed `traceparent` ends the trace. Its `tracestate` has no meaning alone, and goes on only if it is
    of printable characters and as short as every implementation must accept.
    """
    found = _PARENT.fullmatch(parent or "")
    # Only versions after 00 may have further fields.
    if parent is None or found is None or (parent.startswith("00") and found["more"] is not None):
        return []
    headers = [(TRACEPARENT, parent)]
    if state and len(state) <= _MAX_STATE and state.isascii() and state.isprintable():
        headers.append((TRACESTATE, state))
    return headers
