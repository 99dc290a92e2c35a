"""Time limit and progress of one fetch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from serval_serving.fetch.errors import unavailable

Clock = Callable[[], float]
"""Returns seconds that never go back."""

_LOG: Final = logging.getLogger("serval.fetch")
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


class Deadline:
    """The moment at which the whole fetch must be over.

    Parameters
    ----------
    clock:
        Monotonic clock, seconds.
    seconds:
        How long the fetch may take from now on.
    late:
        What has not happened when the time is up, for the message.
    """

    def __init__(self, clock: Clock, seconds: float, late: str = "the model was not there") -> None:
        self._clock = clock
        self._seconds = seconds
        self._late = late
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Return the seconds that are left; not above zero when there are none."""
        return self._end - self._clock()

    def check(self) -> None:
        """Raise `FetchError` (``ModelSourceUnavailable``) when no time is left."""
        if self.remaining() <= 0:
            raise unavailable(f"{self._late} after {self._seconds:g} s", again=False)


class Progress:
    """Counts bytes and says every few seconds how far the work is.

    Parameters
    ----------
    clock:
        Monotonic clock, seconds.
    interval:
        Seconds between two lines.
    """

    def __init__(self, clock: Clock, interval: float = 5.0) -> None:
        self._clock = clock
        self._interval = interval
        self._next = clock() + interval
        self._what = ""
        self._done = 0
        self._total: int | None = None
        self._lock = threading.Lock()

    def start(self, what: str, total: int | None) -> None:
        """Begin a piece of work of `total` bytes (None: not known)."""
        self._what, self._total, self._done = what, total, 0
        self._next = self._clock() + self._interval

    def add(self, count: int) -> None:
        """Count `count` bytes more; threads may."""
        with self._lock:
            self._done += count
            now = self._clock()
            if now < self._next:
                return
            self._next = now + self._interval
        if self._total:
            share = f"{100 * self._done / self._total:.0f} %"
            _LOG.info("%s: %s of %s (%s)", self._what, human(self._done), human(self._total), share)
        else:
            _LOG.info("%s: %s", self._what, human(self._done))


def human(count: int) -> str:
    """Return a number of bytes in words, such as ``1.5 GiB``."""
    value = float(count)
    unit = 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"
