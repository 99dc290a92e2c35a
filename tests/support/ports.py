"""Ports of loopback for tests, also where several test processes run at the same time."""

from __future__ import annotations

import random
import socket

_RANGE = range(10_500, 20_000)
"""Below the ports that the kernel gives to outgoing connections and to listeners on port 0, and below those
of labs: between the choice of a port and its use nobody else takes it except by the same random choice."""
_ATTEMPTS = 200


def free_port() -> int:
    """Return a port of loopback on which nobody listens.

    Raises
    ------
    OSError
        None was found.
    """
    for port in random.sample(_RANGE, k=_ATTEMPTS):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port between {_RANGE.start} and {_RANGE.stop} on 127.0.0.1")
