"""One lane for work on large messages that keeps the interpreter busy.

Only one thread at a time runs Python code, so several of these gain nothing from running beside each other.
They would only delay all small requests, each of which waits for its turn behind every one of them.

The collector of reference cycles rests meanwhile. It would go through the millions of values of a large
message again and again, and no other thread runs while it does.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

import grpc

from serval_serving.wire.status import StatusError

HEAVY_BYTES: Final = 256 * 1024
"""Messages from this size on use the lane."""
LATE: Final = "Timed out waiting for larger requests"

_NOTHING: Final = nullcontext()
_lane = threading.Lock()


def heavy_work(size: int, seconds: float | None = None) -> AbstractContextManager[None]:
    """Do work on a message of some size, after other work of this kind.

    Parameters
    ----------
    size:
        Bytes of the message.
    seconds:
        Longest time to wait; None for any.

    Raises
    ------
    StatusError
        DEADLINE_EXCEEDED: the lane was not free in time; raised where the `with` statement begins.
    """
    return _in_lane(seconds) if size >= HEAVY_BYTES else _NOTHING


@contextmanager
def _in_lane(seconds: float | None) -> Iterator[None]:
    """Wait for the lane and use it, see `heavy_work`."""
    if not _lane.acquire(timeout=-1 if seconds is None else max(0.0, seconds)):
        raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, LATE)
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
        _lane.release()
