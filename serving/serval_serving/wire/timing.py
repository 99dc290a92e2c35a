"""Header with the times of a request, in both protocols.

A request asks for it with `REQUEST_HEADER`, as a header or as gRPC metadata. The reply carries
`REPLY_HEADER`, as a header or as trailing metadata. Its value has the form of HTTP's `Server-Timing`:
``total;dur=3.1, queue;dur=0.2, engine;dur=2.5``, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

REQUEST_HEADER: Final = "serval-timing"
"""Asks for the times, whatever its value."""
YES: Final = "1"
REPLY_HEADER: Final = "server-timing"

TOTAL: Final = "total"
QUEUE: Final = "queue"
ENGINE: Final = "engine"
_DURATION: Final = "dur"


def write_times(seconds: Mapping[str, float]) -> str:
    """Write durations by name, given in seconds."""
    return ", ".join(f"{name};{_DURATION}={value * 1000:.3f}" for name, value in seconds.items())


def read_times(text: str) -> dict[str, float]:
    """Read durations by name, in seconds; what is no duration is passed over."""
    found = {}
    for entry in text.split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == _DURATION:
                try:
                    found[name] = float(value.strip().strip('"')) / 1000
                except ValueError:
                    continue
    return found


def reply_header(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """Find the times in gRPC metadata; empty when there are none."""
    return next((str(value) for key, value in metadata or () if key == REPLY_HEADER), "")
