"""Waiting for a signal that ends the process."""

from __future__ import annotations

import threading
from typing import Final

_LOOK_SECONDS: Final = 0.5


def wait_for(stopped: threading.Event) -> None:
    """Wait in the main thread until the handler of a signal has set an event.

    Python runs handlers in the main thread, between two instructions. A signal that another thread receives,
    or that comes just before the main thread blocks, does not end a wait without a limit.
    """
    while not stopped.wait(_LOOK_SECONDS):
        pass
